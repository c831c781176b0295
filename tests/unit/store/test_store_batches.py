"""Batches, whole copies, the anchor, and what is left after close."""

import sqlite3
from collections.abc import Callable
from contextlib import suppress

import pytest

from secret_agent.store import Store
from secret_agent_client.errors import LockedError, NotFoundError
from unit.store.workshop import Workshop, put, value_of


def test_a_batch_is_one_write(shop: Workshop) -> None:
    with shop.created() as store:
        before = store.generation
        with store.batch():
            put(store, "a")
            put(store, "b")
            assert store.count() == 2
        assert store.generation == before + 1
    with shop.unlocked() as store:
        assert store.count() == 2


def test_a_batch_that_raises_has_not_happened(shop: Workshop) -> None:
    with shop.created() as store:
        put(store, "a", b"before")
        before = store.generation
        with suppress(ZeroDivisionError), store.batch():
            put(store, "a", b"after")
            store.remove("a", "", 1, purge=True)
            raise ZeroDivisionError
        assert (store.generation, store.count()) == (before, 1)
        assert value_of(store, "a") == b"before"
        assert put(store, "a", b"next") == 2
    with shop.unlocked() as store:
        assert value_of(store, "a") == b"next"


def test_a_refused_write_inside_a_batch_leaves_the_rest_of_it(shop: Workshop) -> None:
    with shop.created() as store:
        with store.batch():
            put(store, "a")
            with pytest.raises(NotFoundError):
                store.remove("b", "", purge=True)
            put(store, "c")
        assert store.count() == 2
    with shop.unlocked() as store:
        assert store.count() == 2


def test_a_batch_without_writes_is_no_write(shop: Workshop) -> None:
    with shop.created() as store:
        before = store.generation
        with store.batch():
            pass
        assert store.generation == before


def test_records_are_every_version_that_is_not_deleted(shop: Workshop) -> None:
    with shop.created() as store:
        with store.batch():
            for number in range(100):  # more than one page of them
                put(store, f"n/{number}", b"%d" % number)
        put(store, "n/1", b"again")
        store.remove("n/2", "", purge=False)
        found = [(r.name, r.version, r.fields["password"].reveal()) for r in store.records()]
        assert len(found) == 100
        assert ("n/1", 1, b"1") in found
        assert found.index(("n/1", 2, b"again")) == found.index(("n/1", 1, b"1")) + 1
        assert not [name for name, _, _ in found if name == "n/2"]
        only = {("n/5", ""), ("n/6", "prod")}
        assert [record.name for record in store.records(only)] == ["n/5"]


def test_the_anchor_is_kept(shop: Workshop) -> None:
    with shop.created() as store:
        nothing = store.anchored
        assert nothing is None
        store.anchor(41, "ab" * 32)
        put(store, "a")
        assert store.anchored == (41, "ab" * 32)
        before = store.generation
        store.anchor(41, "ab" * 32)
        assert store.generation == before
    with shop.unlocked() as store:
        assert store.anchored == (41, "ab" * 32)


def test_after_close_every_call_says_that_the_store_is_locked(shop: Workshop) -> None:
    store = shop.create()
    put(store, "a")
    store.close()
    store.close()
    calls: list[Callable[[], object]] = [
        lambda: put(store, "a"),
        lambda: store.get("a", ""),
        store.list,
        lambda: store.describe("a", ""),
        lambda: store.history("a", ""),
        lambda: store.stages("a"),
        lambda: store.remove("a", "", purge=True),
        lambda: store.restore("a", "", 1),
        store.count,
        store.damage,
        lambda: list(store.records()),
        lambda: store.batch().__enter__(),
        lambda: store.prove_passphrase(b"x"),
        lambda: store.change_passphrase(b"x", b"y"),
        lambda: store.enrol_key(bytes(32)),
        lambda: store.anchor(1, "a"),
        lambda: store.anchored,
        lambda: store.key_slots,
        lambda: store.generation,
    ]
    for call in calls:
        with pytest.raises(LockedError) as caught:
            call()
        assert caught.value.remedy == "secret-agent unlock"


def test_the_id_of_a_store_stays(shop: Workshop) -> None:
    with shop.created() as store:
        before = store.store_id
    with shop.unlocked() as store:
        assert store.store_id == before
        assert len(bytes.fromhex(before)) == 16


def test_a_bug_of_ours_stays_one_and_the_batch_around_it_has_not_happened(shop: Workshop) -> None:
    def write_a_row_twice(store: Store) -> None:
        with store.batch(), store._ledger.turn() as opened:
            put(store, "b")
            opened.database.insert(row)

    with shop.created() as store:
        put(store, "a")
        with store._ledger.turn() as opened:
            (row,) = opened.database.after(b"", 1)
        with pytest.raises(sqlite3.IntegrityError):
            write_a_row_twice(store)
        assert store.count() == 1
