"""A disk that hangs holds nobody up for longer than his own deadline, and what comes of it too late
is closed again.
"""

import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio

from secret_agent import store_access
from secret_agent.core import Agent
from secret_agent.store import Store
from secret_agent.store_access import StoreAccess, _Handover
from secret_agent_client.errors import LockedError, UnavailableError
from support.core_agent import PASSPHRASE, Hang, running, settled, unlock

SHORT_S = 0.05  # a deadline that a test waits for


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[Agent]:
    async with running(tmp_path) as started:
        await unlock(started)
        yield started


@pytest.fixture
def access(agent: Agent) -> StoreAccess:
    return agent.store


async def test_a_disk_that_hangs_costs_each_caller_his_own_deadline_and_no_more(
    access: StoreAccess,
) -> None:
    told: list[str] = []

    async def ask() -> None:
        with pytest.raises(UnavailableError) as caught:
            await access.call(lambda store: store.count(), deadline_s=SHORT_S)
        told.append(caught.value.message)

    with Hang() as hang, trio.fail_after(SHORT_S * 20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_expect_unavailable, access, hang)
            await trio.to_thread.run_sync(hang.begun.wait)
            for _ in range(20):
                nursery.start_soon(ask)
    assert set(told) == {f"the store did not answer within {SHORT_S:g} s"}
    assert await access.call(lambda store: store.count()) == 0


async def _expect_unavailable(access: StoreAccess, hang: Hang) -> None:
    with pytest.raises(UnavailableError):
        await access.call(hang, deadline_s=SHORT_S)


async def test_a_lock_does_not_wait_for_a_disk_that_hangs_but_the_keys_go_when_it_wakes(
    agent: Agent, access: StoreAccess, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = access._store
    assert store is not None
    with Hang() as hang:
        for _ in range(int(access._limiter.total_tokens)):
            await _expect_unavailable(access, hang)  # all of the store's threads are gone
        monkeypatch.setattr(store_access, "DEADLINE_S", SHORT_S)
        await agent.lock("a test")
        assert agent.session.state == "locked"
    await settled(agent)
    with trio.fail_after(5):
        while store._ledger._opened is not None:  # a thread's end has no event
            await trio.lowlevel.checkpoint()
    monkeypatch.undo()
    await unlock(agent)


async def test_a_store_that_opens_after_its_deadline_is_closed_again(
    agent: Agent, access: StoreAccess, monkeypatch: pytest.MonkeyPatch
) -> None:
    await agent.lock("begin anew")
    plain, opened = Store.unlock, []
    go_on = threading.Event()

    def slow(*args: Any, **more: Any) -> Store:
        go_on.wait()
        opened.append(plain(*args, **more))
        return opened[0]

    monkeypatch.setattr(Store, "unlock", slow)
    monkeypatch.setattr(store_access, "OPEN_DEADLINE_S", SHORT_S)
    with pytest.raises(UnavailableError):
        await access.open("unlock", PASSPHRASE, locks=access.locks)
    go_on.set()
    await settled(agent)
    with pytest.raises(LockedError):
        opened[0].list()
    monkeypatch.undo()
    await access.open("unlock", PASSPHRASE, locks=access.locks)
    assert access.is_open


class Closable:
    """All that is asked of a store here."""

    def __init__(self) -> None:
        self.is_closed = False

    def close(self) -> None:
        self.is_closed = True


def test_a_store_that_comes_when_nobody_waits_is_closed() -> None:
    handover: Any = _Handover()
    late = Closable()
    assert handover.leave() is None
    handover.give(late)
    assert late.is_closed


def test_a_store_that_came_is_his_who_waits_and_his_to_close_who_leaves() -> None:
    for end in ("take", "leave"):
        handover: Any = _Handover()
        store = Closable()
        handover.give(store)
        assert getattr(handover, end)() is store
        assert not store.is_closed


async def test_what_fails_after_the_store_has_opened_closes_it(
    agent: Agent, access: StoreAccess, monkeypatch: pytest.MonkeyPatch
) -> None:
    await agent.lock("begin anew")

    def fail(_size: int) -> None:
        raise MemoryError

    monkeypatch.setattr(store_access, "LockedPage", fail)
    with pytest.raises(MemoryError):
        await access.open("unlock", PASSPHRASE, locks=access.locks)
    monkeypatch.undo()
    assert not access.is_open
    await unlock(agent)
