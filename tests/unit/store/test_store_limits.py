"""What may not be stored is refused by name, and nothing of it is."""

from typing import Any

import pytest

from secret_agent.store import Store
from secret_agent_client.errors import InvalidError
from unit.store.workshop import Workshop, put


def versions_of(store: Store, name: str, stage: str = "") -> list[int]:
    return [info.version for info in store.history(name, stage)]


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({}, "a secret without any field"),
        ({"a": bytes(512 * 1024 + 1)}, "the field a has 524289 bytes; the most is 524288"),
        ({"a": bytes(400_000), "b": bytes(400_000), "c": bytes(400_000)}, "1200000 bytes together"),
        ({f"f{n}": b"" for n in range(65)}, "a secret with 65 fields; the most is 64"),
        ({"a b": b""}, "cannot stand in a field's name"),
    ],
)
def test_fields_past_their_limits_are_refused(
    shop: Workshop, fields: dict[str, bytes], error: str
) -> None:
    with shop.created() as store:
        with pytest.raises(InvalidError, match=error):
            store.put("a", "", fields, type="t", by="me")
        assert store.count() == 0


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ({"type": ""}, "the type has 0 characters"),
        ({"type": "x" * 64}, "the type has 64 characters"),
        ({"by": "x" * 1025}, "the author has 1025 characters"),
        ({"note": "x" * 1025}, "the note has 1025 characters"),
        ({"expires_at": -1}, "expires_at is not from 0"),
        ({"rotate_due": 2**53}, "rotate_due is not from 0"),
        ({"stage": "a/b"}, "cannot stand in a stage"),
    ],
)
def test_metadata_past_its_limits_is_refused(
    shop: Workshop, more: dict[str, Any], error: str
) -> None:
    with shop.created() as store, pytest.raises(InvalidError, match=error):
        put(store, "a", **more)


def test_every_call_refuses_a_name_that_is_none(shop: Workshop) -> None:
    with shop.created() as store:
        for call in (
            lambda: put(store, "A"),
            lambda: store.get("A", ""),
            lambda: store.describe("A", ""),
            lambda: store.history("A", ""),
            lambda: store.stages("A"),
            lambda: store.remove("A", "", purge=True),
            lambda: store.restore("A", "", 1),
        ):
            with pytest.raises(InvalidError, match="'A' at position 0"):
                call()


def test_merging_past_the_limit_of_fields_is_refused(shop: Workshop) -> None:
    with shop.created() as store:
        store.put("a", "", {f"f{n}": b"" for n in range(64)}, type="t", by="me")
        with pytest.raises(InvalidError, match="65 fields"):
            store.put("a", "", {"more": b""}, type="t", by="me", merge=True)
        assert versions_of(store, "a") == [1]
