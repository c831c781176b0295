"""Wherever a request is given up, no lease is left without its record, nothing stays watched or
locked, and the next request is served.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from secret_agent.broker import Ask
from secret_agent.core import Agent
from secret_agent_client.errors import SecretAgentError
from support.cancelling import Attempt, at_each_await
from support.core_agent import caller, get, put, records, running, settled, unlock

PLACES = {("one/a", ""), ("one/a", "dev")}


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[Agent]:
    async with running(tmp_path) as started:
        await unlock(started)
        await put(started, "one/a")
        await put(started, "one/a", b"of dev", "dev")
        yield started


async def check_leases(agent: Agent) -> None:
    """Every living lease is on record, and exactly the processes of leases are watched."""
    await settled(agent)
    granted = {
        record["lease"]
        for record in await records(agent)
        if (record["event"], record["outcome"]) == ("decision", "allow") and "lease" in record
    }
    assert {lease.id for lease in agent.book.table} <= granted
    assert len(agent.watcher) == len({lease.bound for lease in agent.book.table if lease.bound})


@pytest.mark.parametrize("cached", [False, True], ids=["from the store", "from the cache"])
@pytest.mark.parametrize(
    "asked",
    [{}, {"version": 1}, {"prefer_stage": "dev"}, {"prefer_stage": "none"}, {"everything": True}],
    ids=["newest", "version", "a stage", "no such stage", "all fields"],
)
async def test_a_fetch_leaves_nothing_behind(
    agent: Agent, asked: dict[str, Any], *, cached: bool
) -> None:
    async def scenario(at: Attempt) -> None:
        if cached:
            await get(agent, "one/a", **asked)
        else:
            agent.store._drop(PLACES)
        agent.end_leases(agent.book.table, "revoked")
        await at(lambda: agent.broker.fetch(caller(), Ask("one/a", **asked)))
        await check_leases(agent)
        assert len(agent.book.table) == (not at.cancelled)
        assert (await get(agent, "one/a")).fields["value"].reveal() == b"value"

    assert await at_each_await(scenario) >= (1 if cached else 2)


async def test_a_fetch_under_a_lease_that_it_has_keeps_that_lease(agent: Agent) -> None:
    lease = (await get(agent, "one/a")).lease

    async def scenario(at: Attempt) -> None:
        await at(lambda: agent.broker.fetch(caller(), Ask("one/a")))
        await check_leases(agent)
        assert list(agent.book.table) == [lease]

    assert await at_each_await(scenario) >= 1


@pytest.mark.parametrize("ask", [Ask("one/none"), Ask("one/a", field="none")], ids=lambda a: a.name)
async def test_a_refusal_that_is_given_up_leaves_nothing(agent: Agent, ask: Ask) -> None:
    async def fetch() -> None:
        with pytest.raises(SecretAgentError):
            await agent.broker.fetch(caller(), ask)

    async def scenario(at: Attempt) -> None:
        agent.store._drop(PLACES)
        await at(fetch)
        await check_leases(agent)
        assert len(agent.book.table) == 0

    assert await at_each_await(scenario) >= 2


async def test_a_decision_that_is_given_up_holds_nothing_up(agent: Agent) -> None:
    async def scenario(at: Attempt) -> None:
        await at(lambda: agent.broker.allow(caller(), "write", "one/a"))
        assert (await agent.broker.allow(caller(), "write", "one/a")).allowed

    assert await at_each_await(scenario) >= 1


@pytest.mark.parametrize("ending", ["lock", "revoke", "process", "scope"])
async def test_what_ends_a_lease_before_its_value_leaves_wins(agent: Agent, ending: str) -> None:
    """The record of the grant is being written when the lease ends: the value does not leave."""
    written = agent.broker.record

    async def record_and_end(fields: dict[str, Any]) -> None:
        await written(fields)
        (lease,) = agent.book.table
        if ending == "lock":
            await agent.lock("a test")
        elif ending == "process":
            assert lease.bound is not None
            agent.book._process_gone(lease.bound)
        else:
            agent.end_leases([lease], "revoked" if ending == "revoke" else "scope-ended")

    agent.broker.record = record_and_end
    with pytest.raises(SecretAgentError) as caught:
        await get(agent, "one/a")
    assert caught.value.code in ("locked", "expired", "denied")
    assert len(agent.book.table) == 0
