"""The library for trio programs: many tasks on one connection, cancellation, ends."""

import threading
from pathlib import Path
from typing import Any

import pytest
import trio

from secret_agent_client import LockedError, NoAgentError, UnavailableError, aio
from secret_agent_client.errors import DeniedError
from support.fake_agent import Answer, Body, FakeAgent, Talk, got


async def test_values_and_the_greeting(socket_path: Path) -> None:
    with FakeAgent(socket_path, {"get": got(password=b"pw")}) as agent:
        async with aio.connect() as client:
            assert (await client.get("a/b")).reveal() == b"pw"
            assert await client.connection.agent_version() == "0.1.0"
            assert await client.connection.scope() is None
        assert agent.heard[1][1]["channel"] == "library"


async def test_many_tasks_share_a_connection(socket_path: Path) -> None:
    def echo(_talk: Talk, body: Body) -> Answer:
        return DeniedError("seven") if body["n"] == 7 else dict(body)

    with FakeAgent(socket_path, {"x": echo}) as agent:
        async with aio.open_connection() as connection:
            answers = await connection.call_many([("x", {"n": n}) for n in range(200)])
        assert [a["n"] for a in answers if isinstance(a, dict)] == [*range(7), *range(8, 200)]
        assert isinstance(answers[7], DeniedError)
        assert agent.verbs().count("hello") == 1


async def test_a_lease_is_given_back_also_when_its_task_is_cancelled(socket_path: Path) -> None:
    answers: dict[str, Any] = {"get": got(password=b"pw"), "release": {}}
    with FakeAgent(socket_path, answers) as agent:
        async with aio.connect() as client:
            with trio.CancelScope() as scope:
                async with client.lease("a/b") as lease:
                    assert lease.value.reveal() == b"pw"
                    scope.cancel()
                    await trio.sleep_forever()
            assert scope.cancelled_caught
        assert agent.heard[-1] == ("release", {"leases": [lease.id]})


async def test_a_lease_whose_agent_went_away_ends_quietly(socket_path: Path) -> None:
    with FakeAgent(socket_path, {"get": got(password=b"pw"), "release": None}):
        async with aio.connect() as client, client.lease("a/b"):
            pass


async def test_renewing_takes_over_the_new_end(socket_path: Path) -> None:
    renewed = {"id": "l-1", "expires_at": "2031-01-01T00:00:00Z", "ttl_s": 9}
    answers: dict[str, Any] = {"get": got(password=b"p"), "renew": renewed, "release": {}}
    with FakeAgent(socket_path, answers) as agent:
        async with aio.connect() as client, client.lease("a/b") as lease:
            await client.renew(lease)
            await client.renew(lease, ttl_s=9)
            assert lease.expires_at == "2031-01-01T00:00:00Z"
        assert [b for v, b in agent.heard if v == "renew"][1] == {"lease": lease.id, "ttl_s": 9}


async def test_a_programs_own_error_comes_out_as_it_went_in(socket_path: Path) -> None:
    """Not wrapped in a group because our reader has a nursery."""
    with FakeAgent(socket_path, {"get": LockedError("locked")}):
        with pytest.raises(LockedError):
            async with aio.connect() as client:
                await client.get("a/b")
        with pytest.raises(KeyError, match="mine"):
            async with aio.connect():
                raise KeyError("mine")


async def test_a_silent_agent_is_an_error_at_the_deadline_and_others_go_on(
    socket_path: Path,
) -> None:
    with FakeAgent(socket_path, {"status": {}}):
        async with aio.open_connection() as connection:
            with pytest.raises(UnavailableError, match=r"within 0\.05 s"):
                await connection.call("never-answered", deadline_s=0.05)
            assert await connection.call("status") == {}


async def test_a_cancelled_call_forgets_its_reply(socket_path: Path) -> None:
    asked, answer_now = threading.Event(), threading.Event()

    def late(_talk: Talk, _body: Body) -> Answer:
        asked.set()
        answer_now.wait(20)
        return {"late": True}

    with FakeAgent(socket_path, {"late": late, "status": {}}):
        async with aio.open_connection() as connection:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(connection.call, "late")
                await trio.to_thread.run_sync(asked.wait)
                nursery.cancel_scope.cancel()
            answer_now.set()
            assert await connection.call("status") == {}


async def test_events_come_and_the_agents_end_is_an_error(socket_path: Path) -> None:
    def subscribe(talk: Talk, _body: Body) -> Answer:
        talk.send({"id": 1, "ok": {"subscribed": True}})
        talk.event("agent-stopping", {})
        return None

    names: list[str] = []

    async def listen(client: aio.Client) -> None:
        async for event in client.events():
            names.append(event["event"])  # noqa: PERF401  # extend() would lose them at the end

    with FakeAgent(socket_path, {"events": subscribe}):
        async with aio.connect() as client:
            with pytest.raises(NoAgentError, match="closed the connection"):
                await listen(client)
            with pytest.raises(NoAgentError):
                await client.get("a/b")
    assert names == ["agent-stopping"]


async def test_garbage_ends_every_wait(socket_path: Path) -> None:
    with FakeAgent(socket_path, {"x": b"\xff" * 64}):
        async with aio.open_connection() as connection:
            with pytest.raises(NoAgentError, match="no message"):
                await connection.call("x")


@pytest.mark.usefixtures("folder")
async def test_without_an_agent_it_says_so() -> None:
    with pytest.raises(NoAgentError, match="no agent is running"):
        async with aio.connect():
            pass
