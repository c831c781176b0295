"""Passphrases and keys wrap the data key: they change, come and go, and touch no secret."""

from contextlib import closing
from pathlib import Path

import pytest

from secret_agent.store import Store
from secret_agent.store.keys import Cost
from secret_agent_client.errors import DeniedError, InvalidError, NotFoundError
from unit.store.workshop import PASSPHRASE, Workshop, put, value_of

KEY = bytes(range(32))


def unlock_with_key(shop: Workshop, key: bytes = KEY) -> Store:
    return Store.unlock_with_key(shop.path, key, clock_wall=lambda: 0, witness=shop.witness)


def test_a_changed_passphrase_opens_and_the_old_one_does_not(shop: Workshop) -> None:
    shop.fill(a="1")
    before = shop.rows()
    with shop.unlocked() as store:
        store.change_passphrase(PASSPHRASE, b"new")
        assert value_of(store, "app/a") == b"1"
    assert shop.rows() == before
    with pytest.raises(DeniedError):
        shop.unlock()
    with shop.unlocked(b"new") as store:
        assert value_of(store, "app/a") == b"1"


def test_nothing_of_the_old_slot_is_left_in_the_file(shop: Workshop) -> None:
    shop.fill(a="1")
    old = shop.part("passphrase")
    with shop.unlocked() as store:
        store.change_passphrase(PASSPHRASE, b"new")
        files = b"".join(path.read_bytes() for path in shop.path.parent.iterdir())
        for piece in (old["salt"], old["wrapped"], old["check"]):
            assert piece not in files
    assert shop.part("passphrase")["salt"] != old["salt"]


def test_a_wrong_old_passphrase_changes_nothing(shop: Workshop) -> None:
    shop.fill(a="1")
    with shop.unlocked() as store:
        before = store.generation
        with pytest.raises(DeniedError, match="the passphrase does not open the store"):
            store.change_passphrase(b"wrong", b"new")
        assert store.generation == before
    shop.unlock().close()


def test_an_empty_new_passphrase_changes_nothing(shop: Workshop) -> None:
    shop.fill(a="1")
    with shop.unlocked() as store, pytest.raises(InvalidError, match="has 0 bytes"):
        store.change_passphrase(PASSPHRASE, b"")
    shop.unlock().close()


def test_a_passphrase_can_be_checked_while_the_store_is_open(shop: Workshop) -> None:
    with shop.created() as store:
        store.prove_passphrase(bytearray(PASSPHRASE))
        with pytest.raises(DeniedError):
            store.prove_passphrase(b"wrong")


def test_a_passphrase_may_hold_any_bytes(shop: Workshop) -> None:
    odd = bytes(range(256)) * 16
    shop.create(odd).close()
    shop.unlock(odd).close()
    with pytest.raises(DeniedError):
        shop.unlock(odd[:-1])


@pytest.mark.usefixtures("real_cost")
@pytest.mark.slow
def test_a_store_is_made_at_the_recommended_cost_which_is_written_in_it(shop: Workshop) -> None:
    shop.create().close()
    slot = shop.part("passphrase")
    assert Cost(slot["memory_kib"], slot["passes"], slot["lanes"]) == Cost(64 * 1024, 3, 4)
    assert (slot["kdf"], len(slot["salt"])) == ("argon2id", 16)
    shop.unlock().close()
    with pytest.raises(DeniedError):
        shop.unlock(b"wrong")


def test_a_store_can_be_made_with_a_key_of_the_keyring_alone(shop: Workshop) -> None:
    key = bytearray(KEY)
    store = Store.create_with_key(shop.path, key, clock_wall=lambda: 0, witness=shop.witness)
    put(store, "a", b"1")
    assert store.key_slots == {"keyring"}
    store.close()
    assert key == KEY
    assert Store.slots(shop.path) == {"keyring"}
    with pytest.raises(NotFoundError, match="the store has no passphrase slot"):
        shop.unlock()
    store = unlock_with_key(shop)
    assert value_of(store, "a") == b"1"
    with pytest.raises(NotFoundError, match="the store has no passphrase slot"):
        store.prove_passphrase(b"x")
    with pytest.raises(NotFoundError, match="the store has no passphrase slot"):
        store.change_passphrase(b"x", b"y")
    store.enrol_passphrase(PASSPHRASE)
    store.close()
    with shop.unlocked() as store:
        assert value_of(store, "a") == b"1"


def test_a_wrong_key_of_the_keyring_is_denied(shop: Workshop) -> None:
    Store.create_with_key(shop.path, KEY, clock_wall=lambda: 0).close()
    with pytest.raises(DeniedError, match="the key of the keyring does not open the store"):
        unlock_with_key(shop, bytes(32))
    with pytest.raises(InvalidError, match="the key of the keyring has 5 bytes"):
        unlock_with_key(shop, b"short")
    with pytest.raises(InvalidError, match="the key of the keyring has 5 bytes"):
        Store.create_with_key(shop.path.with_name("other"), b"short", clock_wall=lambda: 0)


def test_both_ways_in_may_stand_side_by_side(shop: Workshop) -> None:
    shop.fill(a="1")
    assert Store.slots(shop.path) == {"passphrase"}
    with shop.unlocked() as store:
        store.enrol_key(KEY)
        assert store.key_slots == {"passphrase", "keyring"}
    assert Store.slots(shop.path) == {"passphrase", "keyring"}
    with shop.unlocked() as store:
        assert value_of(store, "app/a") == b"1"
    with closing(unlock_with_key(shop)) as store:
        assert value_of(store, "app/a") == b"1"
        store.change_passphrase(PASSPHRASE, b"new")
    unlock_with_key(shop).close()
    shop.unlock(b"new").close()


def test_a_new_key_of_the_keyring_replaces_the_old_one(shop: Workshop) -> None:
    with shop.created() as store:
        store.enrol_key(KEY)
        store.enrol_key(bytes(32))
    with pytest.raises(DeniedError):
        unlock_with_key(shop)
    unlock_with_key(shop, bytes(32)).close()


def test_a_key_that_was_dropped_opens_no_more(shop: Workshop) -> None:
    with shop.created() as store:
        store.enrol_key(KEY)
        store.drop_key()
        assert store.key_slots == {"passphrase"}
        with pytest.raises(NotFoundError, match="the store has no keyring slot"):
            store.drop_key()
    with pytest.raises(NotFoundError, match="the store has no keyring slot"):
        unlock_with_key(shop)


def test_the_only_way_in_cannot_be_dropped(shop: Workshop) -> None:
    store = Store.create_with_key(shop.path, KEY, clock_wall=lambda: 0)
    with pytest.raises(InvalidError, match="the keyring slot is the only way into the store"):
        store.drop_key()
    store.close()


def test_a_second_passphrase_is_not_enrolled_over_the_first(shop: Workshop) -> None:
    with shop.created() as store, pytest.raises(InvalidError) as caught:
        store.enrol_passphrase(b"other")
    assert caught.value.message == "the store has a passphrase already"
    assert caught.value.remedy == "secret-agent passwd"


def test_a_change_of_passphrase_inside_a_batch_that_raises_has_not_happened(
    shop: Workshop,
) -> None:
    def fail() -> None:
        with shop.unlocked() as store, store.batch():
            store.change_passphrase(PASSPHRASE, b"new")
            raise ZeroDivisionError

    shop.fill(a="1")
    with pytest.raises(ZeroDivisionError):
        fail()
    shop.unlock().close()


def test_two_stores_under_one_passphrase_have_nothing_in_common(tmp_path: Path) -> None:
    bodies = []
    for name in ("one", "two"):
        shop = Workshop(tmp_path / name)
        shop.fill(a="1")
        with shop.sql() as connection:
            parts = connection.execute("SELECT body FROM part").fetchall()
        bodies.append({cell for row in shop.rows() for cell in row} | {body for (body,) in parts})
    assert not bodies[0] & bodies[1]
