"""Header and key slots: one spelling each, all of it bound, right keys told from wrong ones."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secret_agent.store.header import (
    FORMAT,
    Header,
    Kind,
    Slot,
    blank_slot,
    checksum,
    fill_slot,
    open_slot,
    parse_header,
    parse_slot,
    slot_key,
    slots_digest,
)
from secret_agent.store.keys import Cost
from secret_agent_client.codec import pack, unpack
from secret_agent_client.errors import DeniedError, InvalidError

HEADER = Header(bytes(range(16)), 1_767_225_600)
DATA_KEY = bytes(range(32))
KEK = b"\7" * 32
BODY = {"format": 1, "store": HEADER.store_id, "created": HEADER.created_at}


def slot_of(kind: Kind = "passphrase", kek: bytes = KEK) -> Slot:
    return fill_slot(blank_slot(kind), kek, DATA_KEY, HEADER)


def fields_of(slot: Slot) -> dict[str, Any]:
    found = unpack(slot.pack())
    assert isinstance(found, dict)
    return found


def test_a_header_reads_as_it_was_written() -> None:
    assert parse_header(HEADER.pack()) == HEADER
    assert HEADER.format == FORMAT == 1


@pytest.mark.parametrize("kind", ["passphrase", "keyring"])
def test_a_slot_reads_as_it_was_written(kind: Kind) -> None:
    slot = slot_of(kind)
    assert parse_slot(kind, slot.pack()) == slot
    assert open_slot(slot, KEK, HEADER) == DATA_KEY


@given(st.binary(max_size=60))
def test_whatever_parses_as_a_header_is_spelled_in_one_way(body: bytes) -> None:
    try:
        header = parse_header(body)
    except InvalidError:
        return
    assert header.pack() == body


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", "header was altered"),
        (pack([1]), "header was altered"),
        (pack(BODY)[:-1], "header was altered"),
        (pack(BODY | {"more": 1}), "header was altered"),
        (pack({"format": 1}), "header was altered"),
        (pack(BODY | {"store": b"short"}), "header was altered"),
        (pack(BODY | {"store": "text"}), "header was altered"),
        (pack(dict(reversed(BODY.items()))), "header was altered"),
        (pack(BODY | {"format": 0}), "a format that never existed"),
        (pack(BODY | {"format": True}), "a format that never existed"),
        (pack(BODY | {"format": 99}), "the store has format 99; this agent reads up to 1"),
    ],
)
def test_what_is_no_header_is_refused(body: bytes, error: str) -> None:
    with pytest.raises(InvalidError, match=error):
        parse_header(body)


@pytest.mark.parametrize(
    "changes",
    [
        {"salt": b"short"},
        {"salt": bytes(17)},
        {"salt": "text"},
        {"check": b""},
        {"wrapped": bytes(59)},
        {"kdf": "none"},
        {"kind": "keyring"},
        {"more": 1},
    ],
)
def test_what_is_no_slot_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(InvalidError, match="passphrase slot was altered"):
        parse_slot("passphrase", pack(fields_of(slot_of()) | changes))


@pytest.mark.usefixtures("real_cost")
@pytest.mark.parametrize(
    "changes",
    [{"memory_kib": 8, "passes": 1}, {"memory_kib": 1 << 40}, {"passes": 1}, {"lanes": 0}],
)
def test_a_slot_whose_cost_is_out_of_bounds_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(InvalidError, match="header was altered: its Argon2id"):
        parse_slot("passphrase", pack(fields_of(slot_of()) | changes))


def test_a_wrong_key_is_denied() -> None:
    with pytest.raises(DeniedError, match="the passphrase does not open the store"):
        open_slot(slot_of(), b"\x08" * 32, HEADER)
    with pytest.raises(DeniedError, match="the key of the keyring does not open the store"):
        open_slot(slot_of("keyring"), b"\x08" * 32, HEADER)


@pytest.mark.parametrize(
    "altered",
    [
        (slot_of(), replace(HEADER, store_id=bytes(16))),
        (slot_of(), replace(HEADER, created_at=1)),
        (replace(slot_of(), salt=bytes(16)), HEADER),
        (replace(slot_of(), cost=Cost(64 * 1024, 4, 4)), HEADER),
        (replace(slot_of(), wrapped=bytes(60)), HEADER),
    ],
    ids=["store id", "creation", "salt", "cost", "wrapped key"],
)
def test_under_the_right_key_an_altered_header_is_told_from_a_wrong_key(
    altered: tuple[Slot, Header],
) -> None:
    slot, header = altered
    with pytest.raises(InvalidError, match="does not open although the passphrase is right"):
        open_slot(slot, KEK, header)


def test_an_altered_check_value_is_told_from_a_wrong_key() -> None:
    slot = replace(slot_of(), check=bytes(16))
    with pytest.raises(InvalidError, match="the passphrase slot's check value contradicts it"):
        open_slot(slot, KEK, HEADER)


@pytest.mark.parametrize("size", [0, 16, 31, 33])
def test_a_key_of_the_keyring_has_one_size(size: int) -> None:
    with pytest.raises(InvalidError, match=f"the key of the keyring has {size} bytes"):
        slot_key(blank_slot("keyring"), bytes(size))


def test_a_key_of_the_keyring_is_copied_so_that_wiping_it_spares_the_caller() -> None:
    key = bytearray(KEK)
    copy = slot_key(blank_slot("keyring"), key)
    copy[:] = bytes(32)
    assert key == KEK


def test_the_slots_digest_depends_on_each_slot_and_not_on_their_order() -> None:
    one, two, other = slot_of(), slot_of("keyring"), slot_of()
    assert slots_digest([one, two]) == slots_digest([two, one])
    assert len({slots_digest(each) for each in ([one, two], [one], [two], [other, two], [])}) == 5


def test_the_checksum_is_sha256() -> None:
    assert checksum(b"").hex().startswith("e3b0c44298fc1c14")
