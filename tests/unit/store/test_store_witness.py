"""The witness names an older copy of the store, another history, another or a missing store."""

import os

import pytest

from secret_agent.store import Store
from secret_agent.store.witness import SIZE
from secret_agent_client.errors import DeniedError, InvalidError
from unit.store.workshop import Workshop, flip, put, value_of


def test_an_older_copy_is_named_with_the_command_that_accepts_it(shop: Workshop) -> None:
    shop.fill(a="1")
    older = shop.copy("older")
    with shop.unlocked() as store:
        put(store, "b")
    shop.put_back(older)
    with pytest.raises(InvalidError) as caught:
        shop.unlock()
    assert caught.value.message.startswith(
        "the store is older than the saved tally: it is at write 2, this machine last saw write 3"
    )
    assert caught.value.remedy == f"rm {shop.witness}"
    shop.witness.unlink()
    with shop.unlocked() as store:
        assert value_of(store, "app/a") == b"1"


def test_every_write_is_witnessed_at_once(shop: Workshop) -> None:
    with shop.created() as store:
        for number in range(5):
            put(store, "a", b"%d" % number)
            older = shop.witness.read_bytes()
            assert store.generation == int.from_bytes(older[24:32], "big")
            assert store.witness_is_kept


def test_another_history_of_the_same_length_is_named(shop: Workshop) -> None:
    shop.fill(a="1")
    fork = shop.copy("fork")
    with shop.unlocked() as store:
        put(store, "b", b"one way")
    seen = shop.witness.read_bytes()
    shop.witness.unlink()
    shop.put_back(fork)
    with shop.unlocked() as store:
        put(store, "b", b"the other way")
    shop.witness.write_bytes(seen)
    with pytest.raises(InvalidError, match="went another way than the saved tally"):
        shop.unlock()


def test_a_store_ahead_of_its_witness_opens(shop: Workshop) -> None:
    shop.fill(a="1")
    seen = shop.witness.read_bytes()
    with shop.unlocked() as store:
        put(store, "b")
    shop.witness.write_bytes(seen)
    with shop.unlocked() as store:
        assert store.count() == 2
    assert shop.witness.read_bytes() != seen


def test_another_store_in_its_place_is_named(shop: Workshop) -> None:
    shop.fill(a="1")
    seen = shop.witness.read_bytes()
    shop.witness.unlink()
    shop.path.unlink()
    shop.fill(b="2")
    shop.witness.write_bytes(seen)
    with pytest.raises(InvalidError, match="is of another store"):
        shop.unlock()


def test_a_missing_store_is_not_silently_made_anew(shop: Workshop) -> None:
    shop.fill(a="1")
    shop.path.unlink()
    with pytest.raises(InvalidError) as caught:
        shop.create()
    assert "is missing, and this machine last saw it at write 2" in caught.value.message
    assert caught.value.remedy == f"rm {shop.witness}"
    shop.witness.unlink()
    shop.create().close()


@pytest.mark.parametrize("at", [8, 24, 40, 80, 110, 127])
def test_an_altered_witness_is_named(shop: Workshop, at: int) -> None:
    shop.fill(a="1")
    shop.witness.write_bytes(flip(shop.witness.read_bytes(), at))
    with pytest.raises(InvalidError, match=r"was altered|is of another store"):
        shop.unlock()


@pytest.mark.parametrize("content", [b"x", bytes(SIZE), b"SAWITN01", b"SAWITN01" + bytes(SIZE)])
def test_a_damaged_witness_is_named(shop: Workshop, content: bytes) -> None:
    shop.fill(a="1")
    shop.witness.write_bytes(content)
    with pytest.raises(InvalidError, match=r"the saved tally .* is damaged") as caught:
        shop.unlock()
    assert caught.value.remedy == f"rm {shop.witness}"


def test_an_empty_witness_says_nothing(shop: Workshop) -> None:
    """A machine that lost its power between making the file and the first sighting."""
    shop.fill(a="1")
    shop.witness.write_bytes(b"")
    with shop.unlocked() as store:
        assert store.witness_is_kept
    assert shop.witness.stat().st_size == SIZE


def test_a_store_without_a_witness_opens(shop: Workshop) -> None:
    shop.fill(a="1")
    store = Store.unlock(shop.path, b"correct horse", clock_wall=lambda: 0)
    assert not store.witness_is_kept
    put(store, "b")
    assert not store.witness_is_kept
    store.close()


def test_a_witness_that_cannot_be_made_keeps_nobody_out(shop: Workshop) -> None:
    shop.fill(a="1")
    shop.witness.unlink()
    shop.witness.parent.rmdir()
    shop.witness.parent.write_text("a file where the folder should be")
    with shop.unlocked() as store:
        assert not store.witness_is_kept
        put(store, "b")
        assert value_of(store, "b") == b"value"


def test_a_witness_that_cannot_be_written_does_not_fail_a_durable_write(shop: Workshop) -> None:
    with shop.created() as store:
        with store._ledger.turn() as opened:
            assert opened.witness is not None
            closed = os.open(os.devnull, os.O_RDONLY)
            own, opened.witness._descriptor = opened.witness._descriptor, closed
        put(store, "a")
        kept = store.witness_is_kept
        assert not kept
        opened.witness._descriptor = own
        os.close(closed)
        put(store, "b")
        assert store.witness_is_kept
    with shop.unlocked() as store:
        assert store.count() == 2


def test_a_witness_open_to_others_is_refused(shop: Workshop) -> None:
    shop.fill(a="1")
    shop.witness.chmod(0o644)
    with pytest.raises(InvalidError, match="is open to others") as caught:
        shop.unlock()
    assert caught.value.remedy == f"chmod 600 {shop.witness}"


def test_a_witness_that_is_a_symlink_is_refused(shop: Workshop) -> None:
    shop.fill(a="1")
    shop.witness.rename(shop.witness.with_name("real"))
    shop.witness.symlink_to("real")
    with pytest.raises(InvalidError, match="is a symlink"):
        shop.unlock()


def test_a_wrong_passphrase_to_an_older_header_says_so(shop: Workshop) -> None:
    shop.fill(a="1")
    older = shop.copy("older")
    with shop.unlocked() as store:
        store.change_passphrase(b"correct horse", b"new")
    shop.put_back(older)
    with pytest.raises(DeniedError, match="an older copy, or altered"):
        shop.unlock(b"new")
    with pytest.raises(InvalidError, match="older than the saved tally"):
        shop.unlock(b"correct horse")
