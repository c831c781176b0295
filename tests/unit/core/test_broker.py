"""Which value is meant, under which lease it leaves, and what keeps it from leaving."""

import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from secret_agent import broker as module
from secret_agent.broker import Ask
from secret_agent.core import Agent
from secret_agent.model import Ancestor, ProcessKey
from secret_agent_client.errors import (
    DeniedError,
    ExpiredError,
    InvalidError,
    NotFoundError,
    SecretAgentError,
    UnavailableError,
)
from support.core_agent import SetClock, caller, get, put, records, refused, running, unlock
from support.holders import holder


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[Agent]:
    async with running(tmp_path) as started:
        await unlock(started)
        yield started


def set_policy(agent: Agent, *rules: str) -> None:
    """Rules of a policy file; the built-in ones hold no more."""
    text = "version = 1\n" + "".join(f"[[rule]]\n{rule}\n" for rule in rules)
    agent.places.policy.write_text(text)
    agent.places.policy.chmod(0o600)


ALL = 'id = "all"\neffect = "allow"\nsecrets = ["**"]\nactions = ["read", "list", "write"]\n'


async def fields_of(agent: Agent, name: str, **more: Any) -> dict[str, bytes]:
    grant = await get(agent, name, **more)
    return {field: value.reveal() for field, value in grant.fields.items()}


async def write(agent: Agent, name: str, kind: str, stage: str = "", **fields: bytes) -> None:
    await agent.store.write(
        name, stage, lambda store: store.put(name, stage, fields, type=kind, by="a test")
    )


# Which value


async def test_a_stage_is_that_one_and_a_preferred_one_falls_back(agent: Agent) -> None:
    await put(agent, "one/a", b"plain")
    await put(agent, "one/a", b"of prod", "prod")
    await put(agent, "only/prod", b"of prod", "prod")
    assert await fields_of(agent, "one/a") == {"value": b"plain"}
    assert await fields_of(agent, "one/a", stage="prod") == {"value": b"of prod"}
    assert await fields_of(agent, "one/a", prefer_stage="prod") == {"value": b"of prod"}
    assert await fields_of(agent, "one/a", prefer_stage="dev") == {"value": b"plain"}
    assert await refused(agent, "one/a", stage="dev") == "not-found"
    assert await refused(agent, "only/prod") == "not-found"
    assert await refused(agent, "only/prod", prefer_stage="dev") == "not-found"
    # One stage asked for wins over one preferred.
    assert await fields_of(agent, "one/a", stage="prod", prefer_stage="dev") == {
        "value": b"of prod"
    }


async def test_a_preferred_stage_that_is_denied_is_not_served_from_elsewhere(agent: Agent) -> None:
    await put(agent, "one/a", b"plain")
    set_policy(agent, ALL, 'id = "no"\neffect = "deny"\nsecrets = ["**"]\nstages = ["prod"]')
    assert await refused(agent, "one/a", prefer_stage="prod") == "denied"
    assert await fields_of(agent, "one/a", prefer_stage="dev") == {"value": b"plain"}


async def test_a_denied_name_and_an_absent_one_are_refused_alike(agent: Agent) -> None:
    """The decision comes before anybody looks."""
    await put(agent, "one/a")
    set_policy(agent, 'id = "some"\neffect = "allow"\nsecrets = ["other/*"]\nactions = ["read"]')
    told = set()
    for name in ("one/a", "one/b"):
        with pytest.raises(DeniedError) as caught:
            await get(agent, name)
        told.add(str(caught.value).replace(name, "NAME"))
    assert len(told) == 1


async def test_the_primary_field_is_the_type_s_or_the_only_one(agent: Agent) -> None:
    await write(agent, "one/login", "login", username=b"ada", password=b"secret")
    await write(agent, "one/odd", "login", pin=b"1234")
    assert await fields_of(agent, "one/login") == {"password": b"secret"}
    assert await fields_of(agent, "one/odd") == {"pin": b"1234"}
    assert await fields_of(agent, "one/login", field="username") == {"username": b"ada"}
    assert await fields_of(agent, "one/login", everything=True) == {
        "username": b"ada",
        "password": b"secret",
    }
    with pytest.raises(NotFoundError, match="it has username, password"):
        await get(agent, "one/login", field="pin")
    await write(agent, "one/two", "login", pin=b"1", puk=b"2")
    with pytest.raises(NotFoundError, match="has no field password"):
        await get(agent, "one/two")


async def test_a_derived_field_is_made_of_the_others_and_safe_in_a_url(agent: Agent) -> None:
    await write(
        agent,
        "one/db",
        "postgres-login",
        username=b"a@b",
        password=b"p/w:\xff",
        host=b"db",
        port=b"5432",
        database=b"app",
    )
    url = b"postgresql://a%40b:p%2Fw%3A%FF@db:5432/app"
    assert await fields_of(agent, "one/db", field="url") == {"url": url}
    assert (await fields_of(agent, "one/db", everything=True))["url"] == url
    await write(agent, "one/half", "postgres-login", username=b"a", password=b"b")
    assert "url" not in await fields_of(agent, "one/half", everything=True)
    assert await refused(agent, "one/half", field="url") == "not-found"


async def test_a_secret_past_its_expiry_is_expired_from_the_cache_too(agent: Agent) -> None:
    clock = agent.clock
    assert isinstance(clock, SetClock)
    at = int(clock.wall()) + 60
    await agent.store.write(
        "one/a",
        "",
        lambda store: store.put(
            "one/a", "", {"value": b"x"}, type="generic", by="a test", expires_at=at
        ),
    )
    await get(agent, "one/a")
    clock.moved += 60
    with pytest.raises(ExpiredError) as caught:
        await get(agent, "one/a")
    assert caught.value.remedy == "secret-agent set one/a --stdin"
    assert await refused(agent, "one/a", prefer_stage="dev") == "expired"
    assert (await records(agent))[-2]["because"].startswith("expired: ")


# Under which lease


async def test_who_asks_again_keeps_its_lease_and_it_begins_anew(agent: Agent) -> None:
    clock = agent.clock
    assert isinstance(clock, SetClock)
    await put(agent, "one/a")
    first = (await get(agent, "one/a", ttl_s=100)).lease
    clock.moved += 60
    again = (await get(agent, "one/a", ttl_s=100)).lease
    assert again is first
    assert again.expires == clock.boot() + 100
    others = [
        (await get(agent, "one/a", **more)).lease
        for more in ({"binding": "session"}, {"field": "value", "version": 1})
    ]
    assert others[0] is not first
    assert others[1] is first, "the same version by its number"


async def test_a_lease_that_is_over_is_ended_and_another_begun(agent: Agent) -> None:
    """The timer has not come yet."""
    clock = agent.clock
    assert isinstance(clock, SetClock)
    await put(agent, "one/a")
    first = (await get(agent, "one/a", ttl_s=100, uses=1)).lease
    clock.moved += 100
    second = (await get(agent, "one/a", ttl_s=100, uses=1)).lease
    assert second is not first
    assert first.ended == "expired"
    assert len(agent.watcher) == 1


@pytest.mark.parametrize(("asked", "ruled"), [(2, None), (None, 2), (5, 2), (2, 5)])
async def test_uses_are_the_fewer_of_what_was_asked_and_ruled(
    agent: Agent, asked: int | None, ruled: int | None
) -> None:
    await put(agent, "one/a")
    if ruled is not None:
        set_policy(agent, ALL + f"limits = {{ uses = {ruled} }}")
    assert (await get(agent, "one/a", uses=asked)).lease.uses_left == 1
    assert (await get(agent, "one/a", uses=asked)).lease.uses_left == 0
    assert await refused(agent, "one/a", uses=asked) == "expired"


async def test_a_lease_of_no_use_is_refused(agent: Agent) -> None:
    await put(agent, "one/a")
    with pytest.raises(InvalidError, match="at least one use"):
        await get(agent, "one/a", uses=0)
    assert len(agent.book.table) == 0


async def test_a_ttl_is_what_was_asked_and_at_most_what_is_ruled(agent: Agent) -> None:
    await put(agent, "one/a")
    now = agent.clock.boot()
    assert (await get(agent, "one/a")).lease.expires == now + agent.settings.lease_ttl_s
    for ttl_s, until in ((10, 10), (3600, 3600), (10**8, 3600)):
        agent.end_leases(agent.book.table, "revoked")
        lease = (await get(agent, "one/a", ttl_s=ttl_s)).lease
        assert lease.expires == now + until
        assert lease.most_until == now + 3600


async def test_a_reason_is_needed_where_the_rule_says_so(agent: Agent) -> None:
    await put(agent, "one/a")
    set_policy(agent, ALL + "limits = { reason = true }")
    assert await refused(agent, "one/a") == "denied"
    await get(agent, "one/a", reason="an incident")
    assert (await records(agent))[-2]["reason"] == "an incident"


async def test_their_number_is_bounded(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_LEASES", 2)
    for name in ("one/a", "one/b", "one/c"):
        await put(agent, name)
    await get(agent, "one/a")
    await get(agent, "one/b")
    with pytest.raises(UnavailableError, match="2 leases are alive"):
        await get(agent, "one/c")
    await get(agent, "one/a")  # what is held already is served
    agent.end_leases(agent.book.table, "revoked")
    await get(agent, "one/c")


def above(pid: int, **more: Any) -> Ancestor:
    plain = Ancestor(ProcessKey(pid, 5), "/bin/bash", "bash", os.geteuid(), 90, None)
    return replace(plain, **more)


@pytest.mark.parametrize(
    ("binding", "who", "registered", "bound"),
    [
        ("process", {}, None, 100),
        ("session", {}, None, None),
        ("shell", {}, None, 90),
        ("shell", {"ancestry": (above(95), above(90))}, 90, 90),
        ("shell", {"ancestry": (above(95), above(80))}, 80, 80),
        ("shell", {"shell": ProcessKey(100, 7), "ancestry": (above(95),)}, None, 95),
        ("shell", {"shell": None, "ancestry": (above(95),)}, None, 95),
        ("shell", {"shell": None, "ancestry": (above(95, uid=12345),)}, None, 100),
        ("shell", {"shell": None, "ancestry": (above(1),)}, None, 100),
        ("shell", {"shell": None}, None, 100),
        ("shell", {"scope": "any"}, None, 100),
    ],
    ids=[
        "the process itself",
        "the session",
        "the shell above",
        "a registered shell above",
        "a registered shell above the nearest",
        "a shell that asks for itself: what started it",
        "no shell: what started it",
        "another user's process is nothing to be bound to",
        "init is nothing to be bound to",
        "nothing above",
        "inside a scope: itself",
    ],
)
def test_what_a_lease_is_bound_to(
    binding: Any, who: dict[str, Any], registered: int | None, bound: int | None
) -> None:
    process = module._bound_process(
        holder(**({"uid": os.geteuid()} | who)), binding, lambda key: key.pid == registered
    )
    assert (None if process is None else process.pid) == bound


# What keeps it from leaving


async def test_locked_nothing_is_decided_and_the_refusal_is_recorded(agent: Agent) -> None:
    await put(agent, "one/a")
    await agent.lock("a test")
    assert await refused(agent, "one/a") == "locked"
    refusal = (await records(agent))[-2]
    assert (refusal["outcome"], refusal["secret"]) == ("deny", "one/a")
    decision = await agent.broker.allow(caller(), "admin", None, needs_session=False)
    assert decision.allowed


async def test_past_its_end_the_session_counts_as_locked(agent: Agent) -> None:
    clock = agent.clock
    assert isinstance(clock, SetClock)
    await put(agent, "one/a")
    await unlock(agent, lifetime_s=100)
    clock.moved += 100
    assert agent.store.is_open, "no timer has fired"
    assert await refused(agent, "one/a") == "locked"
    with pytest.raises(SecretAgentError):
        await agent.broker.allow(caller(), "write", "one/a")


async def test_what_cannot_be_recorded_is_not_served_and_leaves_no_lease(agent: Agent) -> None:
    await put(agent, "one/a")

    async def fail(_fields: dict[str, Any]) -> None:
        raise UnavailableError("the audit log cannot be written: no space")

    agent.broker.record = fail
    for _ in range(2):
        with pytest.raises(UnavailableError):
            await get(agent, "one/a")
        assert len(agent.book.table) == 0
        assert len(agent.watcher) == 0
    assert ("one/a", "") not in agent.broker.last_used
    with pytest.raises(UnavailableError):
        await agent.broker.allow(caller(), "write", "one/a")
    with pytest.raises(UnavailableError):
        await agent.broker.fetch(caller(), Ask("one/none"))


async def test_the_last_use_is_remembered(agent: Agent) -> None:
    await put(agent, "one/a")
    await get(agent, "one/a")
    assert agent.broker.last_used == {("one/a", ""): agent.clock.wall()}
