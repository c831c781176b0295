"""A peer that is slow, silent or deaf is closed in a bounded time; one that only waits is not.

Real sockets under a virtual clock: a test that waits a minute takes none.
"""

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from secret_agent.model import ProcessKey
from secret_agent.server import limits
from secret_agent.server.connection import Connection
from secret_agent_client.wire import Decoder, encode

HELLO = encode({"id": 1, "verb": "hello", "body": {"version": 1}})
STATUS = encode({"id": 2, "verb": "status"})


class _Peer:
    """Stands in for holder.Peer, which has tests of its own: somebody who is who he is."""

    def identify(self, *, scope: str | None) -> Any:
        return type("Holder", (), {"scope": scope})

    def open_pidfd(self, _key: ProcessKey) -> int:
        raise AssertionError("nothing is bound here")


def _no_bug(error: BaseException) -> None:
    raise error


@asynccontextmanager
async def _served(
    handlers: dict[str, Any] | None = None,
) -> AsyncIterator[tuple[trio.socket.SocketType, Connection, Callable[[], bool]]]:
    """The client's end of a connection that is served; and whether its serving has ended."""
    ours, theirs = socket.socketpair()
    ended = False

    async def serve(connection: Connection) -> None:
        nonlocal ended
        await connection.run()
        ended = True

    async with trio.open_nursery() as nursery:
        theirs.setblocking(False)  # the socket's own name for it
        connection = Connection(
            theirs,
            _Peer(),  # type: ignore[arg-type]  # only identify() is asked
            handlers or {},
            scope=None,
            report_bug=_no_bug,
        )
        nursery.start_soon(serve, connection)
        with trio.socket.from_stdlib_socket(ours) as client:
            yield client, connection, lambda: ended
        nursery.cancel_scope.cancel()


async def _read_all(client: trio.socket.SocketType) -> list[Any]:
    """Every message until the agent hangs up."""
    decoder, seen = Decoder(), []
    while data := await client.recv(65536):
        decoder.feed(data)
        while (message := decoder.next()) is not None:
            seen.append(message)
    return seen


async def test_silence_before_hello_is_cut_short(autojump_clock: trio.testing.MockClock) -> None:
    async with _served() as (client, _, _):
        begun = trio.current_time()
        assert await _read_all(client) == []
        assert trio.current_time() - begun == pytest.approx(limits.HELLO_S, abs=0.1)


async def test_a_hello_that_drips_is_cut_short(autojump_clock: trio.testing.MockClock) -> None:
    await _drip(HELLO, greeted=False, most_s=limits.HELLO_S)


async def test_a_frame_that_drips_is_cut_short(autojump_clock: trio.testing.MockClock) -> None:
    """SECURITY-CASES 5.6: one byte a second keeps no connection open."""
    await _drip(STATUS, greeted=True, most_s=limits.FRAME_S)


async def test_parts_that_drip_are_cut_short(autojump_clock: trio.testing.MockClock) -> None:
    part = encode({"part": b"x", "more": True})
    await _drip(part * 100, greeted=True, most_s=limits.FRAME_S)


async def _drip(data: bytes, *, greeted: bool, most_s: float) -> None:
    """Send a byte a second; the agent hangs up within `most_s`."""
    async with _served() as (client, _, ended):
        if greeted:
            await client.send(HELLO)
            await client.recv(65536)
        begun = trio.current_time()
        for byte in data:
            if ended():
                break
            try:
                await client.send(bytes([byte]))
            except BrokenPipeError:
                break
            await trio.sleep(1)
        assert ended()
        assert trio.current_time() - begun <= most_s + 2


async def test_a_quiet_client_may_stay(autojump_clock: trio.testing.MockClock) -> None:
    async def status(*_: object) -> dict[str, Any]:
        return {"state": "locked"}

    async with _served({"status": status}) as (client, _, ended):
        await client.send(HELLO)
        await client.recv(65536)
        await trio.sleep(24 * 3600)
        assert not ended()
        await client.send(STATUS)
        assert b"locked" in await client.recv(65536)


async def test_a_client_that_does_not_read_is_hung_up_on(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def much(*_: object) -> dict[str, Any]:
        return {"value": bytes(1_000_000)}

    async with _served({"status": much}) as (client, _, ended):
        await client.send(HELLO + STATUS * 3)
        await trio.sleep(limits.WRITE_S * 3 + 1)
        assert ended()


async def test_a_client_that_does_not_read_its_events_is_hung_up_on(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with _served() as (client, connection, ended):
        await client.send(HELLO)
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(limits.EVENTS_QUEUED * 2):
            connection.push("session-locked", {"why": "x" * 1000})
        await trio.testing.wait_all_tasks_blocked()
        await trio.sleep(limits.WRITE_S + 1)
        assert ended()


async def test_a_reply_that_is_too_large_to_send_is_an_error_and_not_the_end(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secret_agent.server.connection.MAX_REPLY", 1_000_000)

    async def huge(*_: object) -> dict[str, Any]:
        return {"value": bytes(2_000_000)}

    async with _served({"status": huge}) as (client, _, _):
        await client.send(HELLO + STATUS + STATUS)
        decoder = Decoder()
        replies: list[Any] = []
        with trio.fail_after(30):
            while len(replies) < 3:
                decoder.feed(await client.recv(65536))
                while (message := decoder.next()) is not None:
                    replies.append(message)
        assert [reply["id"] for reply in replies] == [1, 2, 2]
        assert all("error" in reply for reply in replies[1:])
