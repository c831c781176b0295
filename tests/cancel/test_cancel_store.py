"""Wherever work at the store is given up, it was done whole or not at all, what is served is what
is stored, and the next one's turn comes.
"""

import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from secret_agent import transfer
from secret_agent.core import Agent
from secret_agent.store import Store
from secret_agent.transfer import export_backup, import_backup
from secret_agent.writes import write_secret
from support.cancelling import Attempt, at_each_await
from support.core_agent import IDENTITY, RECIPIENT, caller, get, put, running, settled, unlock


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[Agent]:
    async with running(tmp_path) as started:
        await unlock(started)
        yield started


async def stored(agent: Agent, name: str) -> bytes:
    """What the store itself holds."""
    record = await agent.store.call(lambda store: store.get(name, ""))
    return record.fields["value"].reveal()


async def served(agent: Agent, name: str) -> bytes:
    return (await get(agent, name)).fields["value"].reveal()


async def test_a_write_is_whole_or_nothing_and_never_served_from_an_older_cache(
    agent: Agent,
) -> None:
    await put(agent, "one/a", b"0")
    written = 0

    async def scenario(at: Attempt) -> None:
        nonlocal written
        written += 1
        before = await served(agent, "one/a")
        new = str(written).encode()
        body = {"name": "one/a", "fields": {"value": new}}
        await at(lambda: write_secret(agent, caller().holder, body, ""))
        assert await served(agent, "one/a") in (before, new)
        await settled(agent)
        assert await served(agent, "one/a") == await stored(agent, "one/a")

    assert await at_each_await(scenario) >= 1


async def test_a_write_that_was_given_up_before_it_began_is_not_made_later(agent: Agent) -> None:
    await put(agent, "one/a", b"old")
    begun, go_on = threading.Event(), threading.Event()

    def hold(_store: Store) -> None:
        begun.set()
        go_on.wait()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(agent.store.call, hold)
        await trio.to_thread.run_sync(begun.wait)
        nursery.cancel_scope.cancel()  # the task goes; its thread still has the store
    with trio.move_on_after(0.05) as patience:
        await put(agent, "one/a", b"new")
    assert patience.cancelled_caught
    go_on.set()
    await settled(agent)
    assert await stored(agent, "one/a") == b"old"
    assert await served(agent, "one/a") == b"old"


async def test_a_read_that_is_given_up_caches_nothing_wrong(agent: Agent) -> None:
    await put(agent, "one/a", b"old")

    async def scenario(at: Attempt) -> None:
        agent.store._drop({("one/a", "")})
        await at(lambda: agent.store.entry("one/a", "", None))
        await put(agent, "one/a", b"new")
        assert await served(agent, "one/a") == b"new"

    assert await at_each_await(scenario) >= 1


async def test_the_store_closes_though_nobody_waits_for_it(agent: Agent) -> None:
    async def scenario(at: Attempt) -> None:
        await agent.lock("begin anew")
        await unlock(agent)
        store = agent.store._store
        assert store is not None
        await at(lambda: agent.store.close(None))
        await settled(agent)
        assert store._ledger._opened is None

    assert await at_each_await(scenario) >= 1


async def test_a_backup_that_is_given_up_leaves_no_descriptor_and_holds_nothing(
    agent: Agent, tmp_path: Path
) -> None:
    for number in range(transfer.PAGE + 2):
        await put(agent, f"one/n{number}")

    backup = tmp_path / "backup"

    async def scenario(at: Attempt) -> None:
        with backup.open("wb") as out:
            await at(lambda: export_backup(agent, caller(), out.fileno(), [RECIPIENT], None))
            await _threads_ended()
            assert _descriptors_of(backup) == 1
        assert await served(agent, "one/n1") == b"value"

    assert await at_each_await(scenario) >= 4


async def _threads_ended() -> None:
    """Return when no thread of a backup is left."""
    for number in range(int(transfer._threads.total_tokens)):
        await transfer._threads.acquire_on_behalf_of(number)
    for number in range(int(transfer._threads.total_tokens)):
        transfer._threads.release_on_behalf_of(number)


def _descriptors_of(path: Path) -> int:
    return sum(each.resolve() == path for each in Path("/proc/self/fd").iterdir())


async def test_a_restore_is_whole_or_nothing(agent: Agent, tmp_path: Path) -> None:
    names = [f"one/n{number}" for number in range(5)]
    for name in names:
        await put(agent, name)
    with (tmp_path / "backup").open("wb") as out:
        await export_backup(agent, caller(), out.fileno(), [RECIPIENT], None)

    async def scenario(at: Attempt) -> None:
        for name in names:
            await put(agent, name, b"changed")
        with (tmp_path / "backup").open("rb") as source:
            body = {"identity": IDENTITY}
            await at(lambda: import_backup(agent, caller(), source.fileno(), body))
        await settled(agent)
        found = {await stored(agent, name) for name in names}
        assert found in ({b"value"}, {b"changed"})
        assert {await served(agent, name) for name in names} == found

    assert await at_each_await(scenario) >= 3
