"""Through a scope: no more than it says, than its maker may, or than what it was made through."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from secret_agent.broker import Ask, Caller, Grant
from secret_agent.core import Agent
from secret_agent.scopes import Scope
from secret_agent_client.errors import DeniedError, ExpiredError, NotFoundError, SecretAgentError
from support.core_agent import SetClock, caller, own_pidfd, put, records, running, unlock


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[Agent]:
    async with running(tmp_path) as started:
        await unlock(started)
        for name in ("app/db", "app/web", "other/key"):
            await put(started, name, name.encode())
            await put(started, name, b"prod " + name.encode(), "prod")
        yield started


def begin(agent: Agent, **more: Any) -> Scope:
    """A scope that has begun; its socket is nobody's."""
    values: dict[str, Any] = {
        "allow": ("app/*",),
        "deny": (),
        "stage": None,
        "uids": frozenset({1000}),
        "maker": caller().holder,
        "expires": agent.clock.boot() + 600,
        "uses_left": None,
        "bound": None,
        "parent": None,
        "socket_path": "/run/app.sock",
    }
    scope = Scope(**(values | more))
    agent.begin_scope(scope, opener=own_pidfd)
    agent.serve_scope(scope, None)  # type: ignore[arg-type]  # nobody listens in these tests
    return scope


def inside(scope: Scope) -> Caller:
    return caller(555, uid=12345, scope=scope.id)


async def get(agent: Agent, scope: Scope, name: str, **more: Any) -> Grant:
    return await agent.broker.fetch(inside(scope), Ask(name, **more))


async def value(agent: Agent, scope: Scope, name: str, **more: Any) -> bytes:
    return (await get(agent, scope, name, **more)).fields["value"].reveal()


async def refused(agent: Agent, scope: Scope, name: str, **more: Any) -> SecretAgentError:
    with pytest.raises(SecretAgentError) as caught:
        await get(agent, scope, name, **more)
    return caught.value


async def test_what_is_inside_is_served_by_its_maker_s_standing(agent: Agent) -> None:
    scope = begin(agent)
    assert await value(agent, scope, "app/db") == b"app/db"
    (lease,) = agent.book.table.of_scope(scope.id)
    assert lease.holder.uid == 12345
    assert (await records(agent))[-2]["holder"]["scope"] == scope.id


async def test_what_is_outside_reads_as_absent(agent: Agent) -> None:
    scope = begin(agent, deny=("app/web",))
    for name in ("other/key", "app/web", "none/such"):
        error = await refused(agent, scope, name)
        assert (type(error), error.message) == (NotFoundError, "no such secret")
    assert len(agent.book.table) == 0


@pytest.mark.parametrize("action", ["write", "admin", "revoke", "rotate"])
async def test_it_can_do_nothing_but_read_list_and_delegate(agent: Agent, action: Any) -> None:
    scope = begin(agent)
    with pytest.raises(NotFoundError):
        await agent.broker.allow(inside(scope), action, "app/db")
    assert agent.broker.may(inside(scope), action, "app/db", "") is None
    assert agent.broker.may(inside(scope), "list", "app/db", "") is not None


async def test_a_scope_of_one_stage_means_that_stage_and_no_other(agent: Agent) -> None:
    scope = begin(agent, stage="prod")
    assert await value(agent, scope, "app/db") == b"prod app/db"
    assert await value(agent, scope, "app/db", stage="prod") == b"prod app/db"
    assert await value(agent, scope, "app/db", prefer_stage="prod") == b"prod app/db"
    for more in ({"stage": "dev"}, {"prefer_stage": "dev"}):
        assert (await refused(agent, scope, "app/db", **more)).code == "not-found"
    await agent.store.write(
        "app/db", "prod", lambda store: store.remove("app/db", "prod", purge=True)
    )
    for more in ({}, {"prefer_stage": "prod"}):
        error = await refused(agent, scope, "app/db", **more)
        assert error.code == "not-found", "the unnamed stage is outside"


async def test_a_lease_through_a_scope_ends_no_later_than_the_scope(agent: Agent) -> None:
    scope = begin(agent, expires=agent.clock.boot() + 30)
    lease = (await get(agent, scope, "app/db", ttl_s=600)).lease
    assert lease.expires == lease.most_until == scope.expires


async def test_its_uses_are_counted_over_all_secrets_and_leases(agent: Agent) -> None:
    parent = begin(agent, uses_left=3)
    child = begin(agent, parent=parent.id, uses_left=10)
    await get(agent, child, "app/db")
    await get(agent, child, "app/db")
    await get(agent, parent, "app/web")
    for scope in (parent, child):
        assert isinstance(await refused(agent, scope, "app/db"), ExpiredError)
    assert (parent.uses_left, child.uses_left) == (0, 8)


async def test_a_child_is_never_wider_than_what_it_was_made_through(agent: Agent) -> None:
    parent = begin(agent, allow=("app/db",), stage="prod")
    child = begin(agent, allow=("**",), parent=parent.id)
    assert await value(agent, child, "app/db", stage="prod") == b"prod app/db"
    for name, stage in (("app/web", "prod"), ("app/db", "dev"), ("other/key", "prod")):
        assert (await refused(agent, child, name, stage=stage)).code == "not-found"
    assert agent.end_scope(parent.id, "revoked") == [parent.id, child.id]
    assert (await refused(agent, child, "app/db", stage="prod")).code == "not-found"


async def test_a_scope_that_is_over_serves_nothing_though_no_timer_has_fired(agent: Agent) -> None:
    scope = begin(agent, expires=agent.clock.boot() + 30)
    await get(agent, scope, "app/db")
    clock = agent.clock
    assert isinstance(clock, SetClock)
    clock.moved += 30
    assert isinstance(await refused(agent, scope, "app/db"), ExpiredError)
    await agent.sweep()
    assert len(agent.scopes) == len(agent.book.table) == 0


async def test_the_end_of_a_scope_ends_its_leases_alone(agent: Agent) -> None:
    first, second = begin(agent), begin(agent)
    for scope in (first, second):
        await get(agent, scope, "app/db")
    own = await agent.broker.fetch(caller(), Ask("app/db"))
    agent.end_scope(first.id, "revoked")
    agent.end_scope(first.id, "revoked")
    assert {lease.scope for lease in agent.book.table} == {second.id, None}
    assert own.lease.ended is None
    ends = [each for each in await records(agent) if each.get("because") == "scope-ended"]
    assert len(ends) == 1


async def test_a_policy_that_now_denies_the_maker_denies_the_scope(agent: Agent) -> None:
    scope = begin(agent)
    await get(agent, scope, "app/db")
    agent.places.policy.write_text("version = 1\n")
    agent.places.policy.chmod(0o600)
    assert isinstance(await refused(agent, scope, "app/db"), DeniedError)


async def test_a_scope_bound_to_a_process_that_is_gone_does_not_begin(agent: Agent) -> None:
    def gone(_process: object) -> int:
        raise DeniedError("the process is gone")

    scope = Scope(
        allow=("app/*",),
        deny=(),
        stage=None,
        uids=frozenset({1000}),
        maker=caller().holder,
        expires=agent.clock.boot() + 600,
        uses_left=None,
        bound=caller().holder.process,
        parent=None,
        socket_path="/run/app.sock",
    )
    with pytest.raises(DeniedError):
        agent.begin_scope(scope, opener=gone)
    assert len(agent.scopes) == 0


async def test_a_scope_ends_with_the_process_that_it_is_bound_to(agent: Agent) -> None:
    bound = begin(agent, bound=caller().holder.process)
    other = begin(agent)
    agent._scope_process_gone(caller().holder.process)
    assert [scope.id for scope in agent.scopes] == [other.id]
    assert bound.id not in {scope.id for scope in agent.scopes}
