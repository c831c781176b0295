"""What is served is what is stored, and the store's keys are in memory exactly while the session is
open.
"""

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trio

from secret_agent.core import Agent
from secret_agent.store import Store
from secret_agent.store_access import Entry, StoreAccess
from secret_agent_client.errors import (
    DeniedError,
    LockedError,
    NotFoundError,
    SecretAgentError,
    UnavailableError,
)
from support.core_agent import Hang, put, records, running, unlock


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[Agent]:
    async with running(tmp_path) as started:
        await unlock(started)
        yield started


@pytest.fixture
def access(agent: Agent) -> StoreAccess:
    return agent.store


async def value(access: StoreAccess, name: str, version: int | None = None) -> bytes:
    entry = await access.entry(name, "", version)
    return access.open_field(entry, version, "value").reveal()


# What is served is what is stored


async def test_a_second_request_does_not_ask_the_store(agent: Agent, access: StoreAccess) -> None:
    await put(agent, "one/a", b"first")
    assert await value(access, "one/a") == b"first"
    with Hang() as hang:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(access.call, hang)
            await trio.to_thread.run_sync(hang.begun.wait)
            assert await value(access, "one/a") == b"first"
            nursery.cancel_scope.cancel()


async def _stored(access: StoreAccess, version: int | None) -> tuple[int, bytes] | str:
    """What the store itself has, past the cache."""

    def read(store: Store) -> tuple[int, bytes] | str:
        try:
            record = store.get("one/a", "", version)
        except NotFoundError as error:
            return error.code
        return record.version, record.fields["value"].reveal()

    return await access.call(read)


async def _served(access: StoreAccess, version: int | None) -> tuple[int, bytes] | str:
    try:
        entry = await access.entry("one/a", "", version)
    except NotFoundError as error:
        return error.code
    return entry.version, access.open_field(entry, version, "value").reveal()


def _put(store: Store, text: int) -> None:
    store.put("one/a", "", {"value": b"%d" % text}, type="generic", by="a test")


Change = Callable[[Store, int], object]
CHANGES: tuple[Change, ...] = (
    *(_put,) * 3,
    lambda store, version: store.remove("one/a", "", version, purge=False),
    lambda store, version: store.remove("one/a", "", version, purge=True),
    lambda store, _: store.remove("one/a", "", purge=True),
    lambda store, version: store.restore("one/a", "", version),
)


def _of(change: Change, version: int) -> Callable[[Store], object]:
    return lambda store: change(store, version)


@pytest.mark.parametrize("seed", range(5))
async def test_no_order_of_changes_brings_an_older_value_back(
    access: StoreAccess, seed: int
) -> None:
    """Written, hidden, destroyed and restored in any order, between requests for any version."""
    chance = random.Random(seed)  # noqa: S311  # the same each time
    for _ in range(60):
        change, version = chance.choice(CHANGES), chance.randint(1, 6)
        with suppress(NotFoundError):
            await access.write("one/a", "", _of(change, version))
        for asked in (None, *range(1, 7)):
            assert await _served(access, asked) == await _stored(access, asked)


async def test_a_version_that_nobody_thought_of_is_forgotten_too(
    agent: Agent, access: StoreAccess
) -> None:
    """Another program wrote it between the look at the history and the removal of all."""
    for text in (b"1", b"2"):
        await put(agent, "one/a", text)
    assert await value(access, "one/a", 2) == b"2"
    await access.write(
        "one/a", "", lambda store: store.remove("one/a", "", purge=True), versions=(1,)
    )
    with pytest.raises(NotFoundError):
        await access.entry("one/a", "", 2)


async def test_what_is_read_while_a_write_waits_is_forgotten_when_it_is_done(
    agent: Agent, access: StoreAccess
) -> None:
    await put(agent, "one/a", b"old")
    with Hang() as hang:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(access.call, hang)
            await trio.to_thread.run_sync(hang.begun.wait)
            nursery.start_soon(value, access, "one/a")
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(put, agent, "one/a", b"new")
            await trio.testing.wait_all_tasks_blocked()
            hang.let_go.set()
    assert await value(access, "one/a") == b"new"


async def test_a_change_of_several_forgets_each_and_no_other(
    agent: Agent, access: StoreAccess
) -> None:
    for name in ("one/a", "one/b", "one/c"):
        await put(agent, name, b"old")
        await value(access, name)
    cache = access._cache
    assert cache is not None

    def change(store: Store) -> None:
        for name in ("one/a", "one/b"):
            store.put(name, "", {"value": b"new"}, type="generic", by="a test")

    await access.change({("one/a", ""), ("one/b", "")}, change)
    assert cache.meta(("one/c", "", 0)) is not None
    found = [await value(access, name) for name in ("one/a", "one/b", "one/c")]
    assert found == [b"new", b"new", b"old"]


# Locking


async def test_locked_it_serves_nothing(agent: Agent, access: StoreAccess) -> None:
    await put(agent, "one/a")
    entry = await access.entry("one/a", "", None)
    await agent.lock("a test")
    assert not access.is_open
    for call in (access.infos, lambda: access.entry("one/a", "", None)):
        with pytest.raises(LockedError):
            await call()
    with pytest.raises(LockedError):
        access.open_field(entry, None, "value")


async def test_a_lock_while_a_read_waits_for_its_turn_keeps_it_from_being_served(
    agent: Agent, access: StoreAccess
) -> None:
    await put(agent, "one/a")
    with Hang() as hang:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(access.call, hang)
            await trio.to_thread.run_sync(hang.begun.wait)
            nursery.start_soon(_expect, LockedError, access.entry, "one/a", "", None)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(agent.lock, "a test")
            await trio.testing.wait_all_tasks_blocked()
            hang.let_go.set()


async def _expect(
    error: type[SecretAgentError], call: Callable[..., Awaitable[object]], *args: Any
) -> None:
    with pytest.raises(error):
        await call(*args)


async def test_a_reader_of_one_session_is_not_served_by_the_next(
    agent: Agent, access: StoreAccess, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(agent, "one/a")
    plain = access.call

    async def call(use: Callable[[Store], Any], **more: Any) -> Any:
        found = await plain(use, **more)
        monkeypatch.undo()
        await agent.lock("in between")
        await unlock(agent)
        return found

    monkeypatch.setattr(access, "call", call)
    with pytest.raises(LockedError):
        await access.entry("one/a", "", None)


async def test_a_disk_that_refuses_at_lock_is_recorded_and_the_keys_go_all_the_same(
    agent: Agent, access: StoreAccess, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_store: Store, _seq: int, _digest: str) -> None:
        raise UnavailableError("the disk is full")

    store = access._store
    assert store is not None
    monkeypatch.setattr(Store, "anchor", refuse)
    await agent.lock("a test")
    with pytest.raises(LockedError):
        store.list()
    written = await records(agent)
    assert any(record.get("because") == "unavailable: the disk is full" for record in written)


# The rest


async def test_a_wrong_passphrase_leaves_it_closed(agent: Agent, access: StoreAccess) -> None:
    await agent.lock("begin anew")
    with pytest.raises(DeniedError):
        await access.open("unlock", b"wrong", locks=access.locks)
    assert not access.is_open


async def test_closing_what_is_closed_does_nothing(agent: Agent, access: StoreAccess) -> None:
    await access.close((1, "x"))
    await access.close((1, "x"))
    assert not access.is_open


async def test_a_witness_that_cannot_be_kept_is_told(
    agent: Agent, access: StoreAccess, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert access.trouble is None
    monkeypatch.setattr(Store, "witness_is_kept", False)
    assert "could not be remembered" in str(access.trouble)
    await agent.lock("a test")
    assert access.trouble is None


async def test_a_link_in_the_store_s_place_counts_as_there(
    access: StoreAccess, tmp_path: Path
) -> None:
    assert access.exists
    link = tmp_path / "link.db"
    link.symlink_to(tmp_path / "nowhere")
    assert StoreAccess(link, tmp_path / "w", access._clock).exists
    assert not StoreAccess(tmp_path / "none", tmp_path / "w", access._clock).exists


async def test_an_entry_shows_no_value(agent: Agent, access: StoreAccess) -> None:
    await put(agent, "one/a", b"canary-value")
    entry = await access.entry("one/a", "", None)
    assert entry == Entry("one/a", "", 1, "generic", ("value",), None)
    assert "canary" not in repr(vars(access))
