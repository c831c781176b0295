"""A write is checked as a whole, generates what it was asked to, and is one version or none."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio

from secret_agent.core import Agent
from secret_agent.secret_types import generate
from secret_agent.writes import MAX_TIME, author, write_secret
from secret_agent_client.errors import InvalidError, SecretAgentError, UsageError
from secret_agent_client.messages import MAX_SECRET, MAX_TEXT
from support.core_agent import caller, get, running, unlock
from support.holders import holder

LOGIN = {"username": b"ada", "password": b"secret"}


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[Agent]:
    async with running(tmp_path) as started:
        await unlock(started)
        yield started


async def write(agent: Agent, stage: str = "", **body: Any) -> dict[str, Any]:
    return await write_secret(agent, caller().holder, {"name": "one/a"} | body, stage)


async def fields_of(agent: Agent, stage: str | None = None) -> dict[str, bytes]:
    grant = await get(agent, "one/a", everything=True, stage=stage)
    return {name: value.reveal() for name, value in grant.fields.items()}


async def versions(agent: Agent) -> int:
    try:
        return len(await agent.store.history("one/a", ""))
    except SecretAgentError:
        return 0


async def test_the_first_write_creates_and_the_next_goes_over_it(agent: Agent) -> None:
    assert await write(agent, type="login", fields=LOGIN) == {
        "name": "one/a",
        "version": 1,
        "stage": None,
        "type": "login",
        "created": True,
        "generated": [],
    }
    reply = await write(agent, fields={"password": b"new"}, note="rotated")
    assert (reply["version"], reply["created"], reply["type"]) == (2, False, "login")
    assert await fields_of(agent) == {"username": b"ada", "password": b"new"}
    reply = await write(agent, fields={"password": b"alone"}, replace=True)
    assert (reply["version"], reply["type"]) == (3, "login")
    assert await fields_of(agent) == {"password": b"alone"}


async def test_stages_are_secrets_of_their_own(agent: Agent) -> None:
    await write(agent, fields={"value": b"plain"})
    reply = await write(agent, "prod", fields={"value": b"of prod"})
    assert (reply["version"], reply["stage"], reply["created"]) == (1, "prod", True)
    assert await fields_of(agent) == {"value": b"plain"}
    assert await fields_of(agent, "prod") == {"value": b"of prod"}


@pytest.mark.parametrize(
    ("body", "error", "told"),
    [
        ({}, UsageError, "there is nothing to write"),
        ({"note": "only a note"}, UsageError, "there is nothing to write"),
        ({"type": "no-such"}, InvalidError, "there is no such type; there are generic, login"),
        ({"type": "postgres-login", "fields": {"password": b"x"}}, InvalidError, "field username"),
        (
            {"type": "postgres-login", "fields": {"username": b"x", "url": b"y"}},
            InvalidError,
            "url of type postgres-login is derived",
        ),
        ({"fields": {"v": b"x"}, "note": "n" * (MAX_TEXT + 1)}, InvalidError, "a note has more"),
        ({"fields": {"v": b"x"}, "expires_at": MAX_TIME + 1}, InvalidError, "beyond the year 9999"),
        ({"generate": "no-such:32"}, InvalidError, "a generator is"),
        ({"generate": "alnum:3"}, InvalidError, "needs a length of at least"),
        (
            {"fields": {"value": b"x"}, "generate": ""},
            UsageError,
            "the field value is both given and to be generated",
        ),
    ],
)
async def test_what_is_wrong_is_named_and_nothing_is_written(
    agent: Agent, body: dict[str, Any], error: type[SecretAgentError], told: str
) -> None:
    with pytest.raises(error, match=told):
        await write(agent, **body)
    assert await versions(agent) == 0


async def test_what_is_kept_counts_for_the_schema_and_what_is_replaced_does_not(
    agent: Agent,
) -> None:
    await write(agent, type="postgres-login", fields=LOGIN)
    await write(agent, fields={"password": b"new"})
    with pytest.raises(InvalidError, match="needs the field username"):
        await write(agent, fields={"password": b"new"}, replace=True)
    assert await versions(agent) == 2


async def test_the_type_can_change_where_the_fields_fit_it(agent: Agent) -> None:
    await write(agent, fields={"value": b"x"})
    with pytest.raises(InvalidError, match="needs the field username"):
        await write(agent, type="postgres-login", fields={"password": b"y"})
    reply = await write(agent, type="postgres-login", fields=LOGIN)
    assert reply["type"] == "postgres-login"


@pytest.mark.parametrize(
    ("body", "field", "size"),
    [
        ({"generate": ""}, "value", 32),
        ({"generate": "hex:20"}, "value", 40),
        ({"generate": "bytes:16", "generate_field": "pin"}, "pin", 16),
        ({"generate_field": "pin"}, "pin", 32),
        ({"generate": "", "type": "token"}, "token", 64),
    ],
)
async def test_a_field_is_generated_by_the_spec_or_the_type_s_own(
    agent: Agent, body: dict[str, Any], field: str, size: int
) -> None:
    reply = await write(agent, **body)
    assert reply["generated"] == [field]
    first = (await fields_of(agent))[field]
    assert len(first) == size
    assert first.hex() not in repr(reply)
    await write(agent, **body)
    assert (await fields_of(agent))[field] != first


async def test_what_is_generated_counts_for_the_limit_of_all_fields(agent: Agent) -> None:
    full = {f"f{number}": b"x" * (MAX_SECRET // 2) for number in range(2)}
    with pytest.raises(InvalidError, match=f"more than {MAX_SECRET} bytes in all"):
        await write(agent, fields=full, generate="")
    assert generate.MAX_LENGTH < MAX_SECRET


async def test_create_only_leaves_what_is_there(agent: Agent) -> None:
    await write(agent, fields={"value": b"first"}, create_only=True)
    with pytest.raises(InvalidError, match="is there already"):
        await write(agent, fields={"value": b"second"}, create_only=True)
    assert await fields_of(agent) == {"value": b"first"}


async def test_two_who_write_at_once_do_not_break_each_other_s_schema(agent: Agent) -> None:
    """Each is checked against what is there when its turn comes, not when it was asked for."""
    await write(agent, fields={"value": b"x"})
    ends: list[str] = []

    async def attempt(**body: Any) -> None:
        try:
            await write(agent, **body)
        except InvalidError:
            ends.append("refused")

    for _ in range(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: attempt(fields={"value": b"y"}, type="generic"))
            nursery.start_soon(lambda: attempt(fields=LOGIN, type="postgres-login", replace=True))
            nursery.start_soon(lambda: attempt(fields={"value": b"z"}, replace=True))
        info = await agent.store.call(lambda store: store.describe("one/a", ""))
        assert info.type == "generic" or "username" in info.field_names
    assert "refused" in ends


async def test_who_wrote_is_the_program_and_the_uid_in_bounds(agent: Agent) -> None:
    await write(agent, fields={"value": b"x"})
    (version,) = await agent.store.history("one/a", "")
    assert version.by == f"uid {caller().holder.uid} python3"
    assert author(holder(exe="")) == "uid 1000"
    assert len(author(holder(exe="/" + "x" * 500))) == 128
