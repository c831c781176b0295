"""What is over ends when it is over, without anybody asking, and an end that cannot be recorded is
an end all the same.
"""

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import trio

from secret_agent.clock import Clock
from secret_agent.core import Agent
from secret_agent.leases.table import Lease, Why
from secret_agent_client.errors import UnavailableError
from support.core_agent import SetClock, get, put, running, unlock

SOON_S = 10.0  # nothing here takes more than a second of it


@pytest.fixture
async def agent(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[Agent]:
    """One whose clock is the machine's and whose timers run."""
    async with running(tmp_path, clock=Clock()) as started:
        with trio.CancelScope() as timers:
            nursery.start_soon(started.run_timers)
            await unlock(started)
            await put(started, "one/a")
            await put(started, "one/b")
            yield started
            timers.cancel()
        nursery.cancel_scope.cancel()


class Ends:
    """The ends of leases as they are announced."""

    def __init__(self, agent: Agent) -> None:
        self.told: list[tuple[str, Why]] = []
        self._agent = agent
        self._plain = agent.book._announce
        self._came = trio.Event()
        agent.book._announce = self._announce

    def _announce(self, lease: Lease, why: Why) -> None:
        self._plain(lease, why)
        self.told.append((lease.secret, why))
        self._came.set()

    async def until(self, count: int) -> list[tuple[str, Why]]:
        with trio.fail_after(SOON_S):
            while len(self.told) < count:
                self._came = trio.Event()
                await self._came.wait()
        return self.told


async def granted(agent: Agent, name: str, ttl_s: int) -> None:
    await get(agent, name, ttl_s=ttl_s)
    agent.changed()


@pytest.mark.slow
async def test_a_lease_ends_when_its_term_is_over(agent: Agent) -> None:
    ends = Ends(agent)
    begin = agent.clock.boot()
    await granted(agent, "one/a", 1)
    assert await ends.until(1) == [("one/a", "expired")]
    assert 1.0 <= agent.clock.boot() - begin < 2.0


@pytest.mark.slow
async def test_what_ends_sooner_does_not_wait_for_what_ends_later(agent: Agent) -> None:
    ends = Ends(agent)
    await granted(agent, "one/a", 600)
    await trio.testing.wait_all_tasks_blocked()
    await granted(agent, "one/b", 1)
    assert await ends.until(1) == [("one/b", "expired")]


@pytest.mark.slow
async def test_the_session_s_lifetime_ends_the_leases_with_it(agent: Agent) -> None:
    ends = Ends(agent)
    await granted(agent, "one/a", 600)
    await unlock(agent, lifetime_s=1)
    assert await ends.until(1) == [("one/a", "locked")]
    assert agent.session.state == "locked"


async def test_an_end_that_cannot_be_recorded_is_one_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path) as agent:
        await unlock(agent)
        await put(agent, "one/a")
        lease = (await get(agent, "one/a")).lease

        async def fail(_fields: Mapping[str, Any]) -> None:
            raise UnavailableError("the audit log cannot be written")

        monkeypatch.setattr(agent, "record", fail)
        assert await agent.lock("a test") == 1
        await trio.testing.wait_all_tasks_blocked()
        assert lease.ended == "locked"
        assert not agent.store.is_open


async def test_the_shells_line_tells_what_is_next_and_no_harm_comes_where_it_cannot(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    async with running(tmp_path) as agent:
        clock = agent.clock
        assert isinstance(clock, SetClock)
        await unlock(agent, lifetime_s=600)
        await put(agent, "one/a")
        await get(agent, "one/a", ttl_s=60)
        nursery.start_soon(agent.run_prompt_file)
        await trio.testing.wait_all_tasks_blocked()
        state, locks_at, lease_until, *_ = (tmp_path / "prompt").read_text().split()
        now = int(clock.wall())
        assert (state, int(locks_at) - now, int(lease_until) - now) == ("unlocked", 600, 60)
        (tmp_path / "prompt.new").mkdir()
        await agent.lock("a test")
        await trio.testing.wait_all_tasks_blocked()
        assert agent.session.state == "locked"
        nursery.cancel_scope.cancel()
