"""An altered header, slot, tally or part is named, and told from a wrong passphrase."""

import pytest

from secret_agent.store import Store, keys
from secret_agent_client.codec import pack
from secret_agent_client.errors import DeniedError, InvalidError, NotFoundError
from unit.store.workshop import PASSPHRASE, Workshop, flip


def refused(shop: Workshop, error: str, *, passphrase: bytes = PASSPHRASE) -> InvalidError:
    """The error of an unlock that must name what is wrong; the file is let go of afterwards."""
    with pytest.raises(InvalidError, match=error) as caught:
        shop.unlock(passphrase)
    with shop.sql() as connection:
        connection.execute("BEGIN IMMEDIATE")
    assert shop.path.with_name("store.db.lock").exists()
    return caught.value


def test_a_wrong_passphrase_is_denied_and_nothing_more(shop: Workshop) -> None:
    shop.fill(a="1")
    with pytest.raises(DeniedError) as caught:
        shop.unlock(b"wrong")
    assert caught.value.message == "the passphrase does not open the store"


@pytest.mark.parametrize("part", ["header", "passphrase", "tally"])
def test_damage_by_accident_is_told_from_a_wrong_passphrase(shop: Workshop, part: str) -> None:
    shop.fill(a="1")
    with shop.sql() as connection:
        (body,) = connection.execute("SELECT body FROM part WHERE name=?", (part,)).fetchone()
        connection.execute("UPDATE part SET body=? WHERE name=?", (flip(body, -1), part))
    refused(shop, f"the store's {part} is damaged: its checksum does not fit")


@pytest.mark.parametrize(
    ("part", "changes", "error"),
    [
        ("header", {"format": 99}, "format 99; this agent reads up to 1"),
        ("header", {"format": 0}, "a format that never existed"),
        ("header", {"store": bytes(16)}, "although the passphrase is right"),
        ("header", {"created": 1}, "although the passphrase is right"),
        ("passphrase", {"wrapped": bytes(60)}, "although the passphrase is right"),
        ("passphrase", {"check": bytes(16)}, "check value contradicts it"),
        ("passphrase", {"salt": b"short"}, "passphrase slot was altered"),
    ],
)
def test_an_altered_header_is_told_from_a_wrong_passphrase(
    shop: Workshop, part: str, changes: dict[str, object], error: str
) -> None:
    shop.fill(a="1")
    shop.change_part(part, **changes)
    refused(shop, error)


@pytest.mark.usefixtures("real_cost")
@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"memory_kib": 8, "passes": 1}, "Argon2id memory_kib is 8"),
        ({"memory_kib": 1 << 40}, "Argon2id memory_kib is 1099511627776"),
        ({"passes": 1}, "Argon2id passes is 1"),
        ({"passes": 1 << 40}, "Argon2id passes is"),
        ({"lanes": 255}, "Argon2id lanes is 255"),
    ],
)
def test_a_downgraded_or_exhausting_cost_is_refused_before_it_is_paid(
    shop: Workshop, changes: dict[str, object], error: str
) -> None:
    with keys._for_tests_cheap():
        shop.fill(a="1")
    shop.change_part("passphrase", **({"memory_kib": 65536, "passes": 3, "lanes": 4} | changes))
    refused(shop, error)


def test_a_salt_that_was_altered_is_told_by_the_witness(shop: Workshop) -> None:
    shop.fill(a="1")
    shop.change_part("passphrase", salt=bytes(16))
    with pytest.raises(DeniedError) as caught:
        shop.unlock()
    assert caught.value.message == (
        "the passphrase does not open the store, whose header is not the one that this machine"
        " last saw: an older copy, or altered"
    )


def test_a_slot_put_back_from_before_a_change_of_passphrase_is_named(shop: Workshop) -> None:
    shop.fill(a="1")
    old = pack(shop.part("passphrase"))
    with shop.unlocked() as store:
        store.change_passphrase(PASSPHRASE, b"new")
    shop.set_part("passphrase", old)
    refused(shop, "a key slot was put back, removed or added behind the tally")


def test_a_slot_that_was_removed_is_named(shop: Workshop) -> None:
    shop.fill(a="1")
    with shop.unlocked() as store:
        store.enrol_key(bytes(32))
    with shop.sql() as connection:
        connection.execute("DELETE FROM part WHERE name='keyring'")
    refused(shop, "a key slot was put back, removed or added behind the tally")
    with pytest.raises(NotFoundError, match="the store has no keyring slot"):
        Store.unlock_with_key(shop.path, bytes(32), clock_wall=lambda: 0)


@pytest.mark.parametrize("part", ["header", "tally"])
def test_a_missing_part_is_named(shop: Workshop, part: str) -> None:
    shop.fill(a="1")
    with shop.sql() as connection:
        connection.execute("DELETE FROM part WHERE name=?", (part,))
    refused(shop, f"the store was altered: its {part} is missing")


def test_a_part_that_is_not_ours_is_named(shop: Workshop) -> None:
    shop.fill(a="1")
    shop.set_part("extra", b"x")
    refused(shop, "it has 1 parts that are not ours")


def test_a_part_of_another_type_is_named(shop: Workshop) -> None:
    shop.fill(a="1")
    with shop.sql() as connection:
        connection.execute("UPDATE part SET body=7 WHERE name='header'")
    refused(shop, "the store's header is damaged")


def test_the_tally_of_another_store_is_named(shop: Workshop, tmp_path: object) -> None:
    shop.fill(a="1")
    with shop.sql() as connection:
        (body,) = connection.execute("SELECT body FROM part WHERE name='tally'").fetchone()
    shop.set_part("tally", flip(body, 40))
    refused(shop, "the store's tally was altered: its seal does not fit")
