"""The work of one call does not grow with the store: counted in SQLite's own steps, not in time."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from secret_agent.store import Store
from unit.store.workshop import Workshop, put

SMALL, LARGE = 20, 3000

CALLS: dict[str, Callable[[Store], object]] = {
    "get": lambda store: store.get("n/7", ""),
    "get a version": lambda store: store.get("n/7", "", 1),
    "describe": lambda store: store.describe("n/7", ""),
    "history": lambda store: store.history("n/7", ""),
    "stages": lambda store: store.stages("n/7"),
    "count": lambda store: store.count(),
    "put": lambda store: put(store, "n/8"),
    "put new": lambda store: put(store, "new"),
    "remove": lambda store: store.remove("n/9", "", purge=False),
    "restore": lambda store: store.restore("n/9", "", 1),
    "purge": lambda store: store.remove("n/10", "", purge=True),
    "anchor": lambda store: store.anchor(1, "ab"),
}


@contextmanager
def counted(store: Store) -> Iterator[list[int]]:
    """Count the steps of SQLite's machine."""
    steps = [0]

    def step() -> int:
        steps[0] += 1
        return 0

    with store._ledger.turn() as opened:
        sqlite = opened.database._sqlite
    sqlite.set_progress_handler(step, 1)
    yield steps
    sqlite.set_progress_handler(None, 1)


def steps_of_each(shop: Workshop, size: int) -> dict[str, int]:
    found = {}
    with shop.created() as store:
        with store.batch():
            for number in range(size):
                put(store, f"n/{number}")
        for name, call in CALLS.items():
            with counted(store) as steps:
                call(store)
            found[name] = steps[0]
    return found


@pytest.mark.slow
def test_one_call_takes_as_many_steps_in_a_large_store_as_in_a_small_one(shop: Workshop) -> None:
    small = steps_of_each(shop, SMALL)
    shop.path.unlink()
    shop.witness.unlink()
    large = steps_of_each(shop, LARGE)
    # A few steps more or less are whether the tree ends behind the row; a scan would be thousands.
    grown = {name: large[name] - small[name] for name in CALLS}
    assert {name: steps for name, steps in grown.items() if abs(steps) > 10} == {}
    assert max(large.values()) < 300
    assert min(large[name] for name in CALLS if name != "count") > 0


def test_unlocking_opens_no_row(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.fill(a="1", b="2")
    opened: list[object] = []
    monkeypatch.setattr("secret_agent.store.rows.open_meta", opened.append)
    monkeypatch.setattr("secret_agent.store.rows.open_fields", opened.append)
    monkeypatch.setattr("secret_agent.store.reading.open_meta", opened.append)
    monkeypatch.setattr("secret_agent.store.diagnosis.open_meta", opened.append)
    shop.unlock().close()
    assert opened == []


def test_listing_reads_no_value(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    with shop.created() as store:
        put(store, "a", bytes(500_000))
        monkeypatch.setattr("secret_agent.store.reading.open_fields", None)
        with store._ledger.turn() as opened:
            found = opened.database.after(b"", 10, bodies=False)
        assert [row.body for row in found] == [b""]
        assert [info.name for info in store.list()] == ["a"]
