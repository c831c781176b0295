"""The library for trio programs: the same connection, client and leases, with `await`.

Rules that hold here: one task reads and hands replies to those who wait, so that calls of many
tasks share a connection; a call that is cancelled or late forgets its reply and leaves the
connection whole; giving a lease back is shielded and has a deadline, so that it happens on
cancellation too and holds nothing up.

trio is the program's own: secret_agent_client needs it for this module alone.
"""

import os
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio

from secret_agent_client.client import CLIENT, Lease, get_body, lease_body
from secret_agent_client.connection import CALL_S, CHUNK, DIAL_S
from secret_agent_client.dial import dial, is_foreign, server_credentials, too_late
from secret_agent_client.errors import NoAgentError, SecretAgentError
from secret_agent_client.exchange import MAX_EVENTS, Exchange
from secret_agent_client.held import hold, let_go
from secret_agent_client.paths import START, find_socket
from secret_agent_client.references import Reference
from secret_agent_client.value import SecretValue

Body = Mapping[str, Any]
Reply = dict[str, Any]
Event = dict[str, Any]
RELEASE_S = 2.0  # seconds that giving a lease back may take on the way out of a block


class Connection:
    """One connection, for any number of tasks.  Made by `open_connection`."""

    def __init__(self, stream: trio.SocketStream, *, server_pid: int, foreign: bool) -> None:
        self.server_pid = server_pid
        self._stream = stream
        self._exchange = Exchange(client=CLIENT, scope_only=foreign)
        self._sending = trio.Lock()
        self._waiting: dict[int, trio.Event] = {}
        self._greeted = trio.Event()
        self._ended: SecretAgentError | None = None
        # MAX_EVENTS, as the exchange keeps: a reader further behind loses the oldest.
        self._events_in, self._events_out = trio.open_memory_channel[Event](MAX_EVENTS)

    async def agent_version(self) -> str:
        return str((await self._greeting())["agent"])

    async def scope(self) -> str | None:
        """The id of the scope whose socket this is; None on the user's own."""
        scope = (await self._greeting())["scope"]
        return None if scope is None else str(scope)

    async def call(
        self, verb: str, body: Body | None = None, *, deadline_s: float = CALL_S
    ) -> Reply:
        """Ask and wait; the `ok` map.  Raises as the blocking connection's `call` does."""
        with trio.move_on_after(deadline_s) as scope:
            answer = await self._ask(verb, body)
        if scope.cancelled_caught:
            raise too_late(self.server_pid, "answer", deadline_s)
        if isinstance(answer, SecretAgentError):
            raise answer
        return answer

    async def call_many(
        self, requests: Sequence[tuple[str, Body | None]], *, deadline_s: float = CALL_S
    ) -> list[Reply | SecretAgentError]:
        """Ask many things at once; each one's `ok` map or error, in order."""
        answers: list[Reply | SecretAgentError] = [{} for _ in requests]

        async def one(at: int, verb: str, body: Body | None) -> None:
            try:
                answers[at] = await self.call(verb, body, deadline_s=deadline_s)
            except SecretAgentError as error:
                answers[at] = error

        async with trio.open_nursery() as nursery:
            for at, (verb, body) in enumerate(requests):
                nursery.start_soon(one, at, verb, body)
        return answers

    async def events(self) -> AsyncIterator[Event]:
        """Events as they come, until the agent goes away (NoAgentError)."""
        await self.call("events")
        async for event in self._events_out:
            yield event
        raise self._ended or _gone()

    async def _ask(self, verb: str, body: Body | None) -> Reply | SecretAgentError:
        if self._exchange.scope_only:
            await self._greeting()
        self._check()
        request_id, data = self._exchange.request(verb, body)
        answered = self._waiting[request_id] = trio.Event()
        try:
            await self._send(data)
            await answered.wait()
        except trio.Cancelled:
            self._exchange.abandon(request_id)
            raise
        finally:
            del self._waiting[request_id]
        answer = self._exchange.take(request_id)
        if answer is None:
            raise self._ended or _gone()
        return answer

    async def _greeting(self) -> Reply:
        self._check()
        await self._send(b"")
        with trio.move_on_after(CALL_S) as scope:
            await self._greeted.wait()
        if scope.cancelled_caught:
            raise too_late(self.server_pid, "answer", CALL_S)
        if self._exchange.greeting is None:
            raise self._ended or _gone()
        return self._exchange.greeting

    async def _send(self, data: bytes) -> None:
        """Send all of it or nothing: half a frame would end the connection for everybody.

        A hello that is still to be said goes in front.
        """
        async with self._sending:
            with trio.CancelScope(shield=True), trio.move_on_after(CALL_S) as scope:
                try:
                    await self._stream.send_all(self._exchange.hello() + data)
                except trio.BrokenResourceError:
                    return  # what it said before it closed is still read
            if scope.cancelled_caught:
                self._end(too_late(self.server_pid, "take a request", CALL_S))
        self._check()

    async def read(self) -> None:
        """The one reader; ends when the connection does, and then everybody's waiting."""
        try:
            while data := await self._stream.receive_some(CHUNK):
                self._exchange.feed(data)
                self._hand_out()
        except SecretAgentError as error:
            self._end(error)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            self._end(self._ended or _gone())

    def _hand_out(self) -> None:
        if self._exchange.greeting is not None:
            self._greeted.set()
        for request_id, answered in self._waiting.items():
            if self._exchange.has(request_id):
                answered.set()
        events, self._exchange.events = self._exchange.events, []
        for event in events:
            try:
                self._events_in.send_nowait(event)
            except trio.WouldBlock:
                self._events_out.receive_nowait()
                self._events_in.send_nowait(event)

    def _check(self) -> None:
        if self._ended is not None:
            raise self._ended

    def _end(self, error: SecretAgentError) -> None:
        self._ended = self._ended or error
        self._events_in.close()
        self._greeted.set()
        for answered in self._waiting.values():
            answered.set()


class Client:
    """What `connect` gives: values, leases and events."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    async def get(
        self, reference: str | Reference, *, ttl_s: int | None = None, reason: str | None = None
    ) -> SecretValue:
        """The field that the reference names, or the type's primary one."""
        reply = await self.connection.call("get", get_body(reference, ttl_s=ttl_s, reason=reason))
        hold(reply["lease"]["id"])
        (value,) = reply["fields"].values()
        return SecretValue(value)

    @asynccontextmanager
    async def lease(
        self, reference: str | Reference, *, ttl_s: int | None = None, reason: str | None = None
    ) -> AsyncIterator[Lease]:
        """`async with client.lease("payments/db") as lease:` given back with the block."""
        body = lease_body(reference, ttl_s=ttl_s, reason=reason)
        lease = Lease(await self.connection.call("get", body))
        hold(lease.id)
        try:
            yield lease
        finally:
            lease.wipe()
            if let_go(lease.id):
                await self._release(lease)

    async def renew(self, lease: Lease, *, ttl_s: int | None = None) -> None:
        """Prolong a lease, never past its rule's most.  Raises ExpiredError where it is over."""
        body: dict[str, Any] = {"lease": lease.id}
        if ttl_s is not None:
            body["ttl_s"] = ttl_s
        lease.renewed(await self.connection.call("renew", body))

    def events(self) -> AsyncIterator[Event]:
        """Events as they come; see client/PROTOCOL.md.  Raises NoAgentError at the agent's end."""
        return self.connection.events()

    async def _release(self, lease: Lease) -> None:
        with trio.CancelScope(shield=True):
            try:
                await self.connection.call("release", {"leases": [lease.id]}, deadline_s=RELEASE_S)
            except SecretAgentError:
                return  # over already is what was wanted


@asynccontextmanager
async def open_connection(
    path: str | None = None, *, deadline_s: float = DIAL_S
) -> AsyncIterator[Connection]:
    """Dial as the blocking connection does, and read until the block ends.

    Raises NoAgentError, UnavailableError, InvalidError as `secret_agent_client.connect` does.
    """
    target, explicit = find_socket(os.environ, path)
    # In a thread: where the agent is stopped and its backlog full, dialling waits.
    raw = await trio.to_thread.run_sync(
        lambda: dial(target, explicit=explicit, deadline_s=deadline_s)
    )
    pid, foreign = server_credentials(raw)[0], is_foreign(raw)
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(socket.socket(fileno=raw.detach())))
    connection = Connection(stream, server_pid=pid, foreign=foreign)
    raised: BaseException | None = None
    try:
        async with stream, trio.open_nursery() as nursery:
            nursery.start_soon(connection.read)
            try:
                yield connection
            except BaseException as error:
                raised = error
                raise
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        # The nursery is ours: the program's own error must come out as it went in.
        if raised is None or group.exceptions != (raised,):
            raise
        raise raised from raised.__cause__


@asynccontextmanager
async def connect(path: str | None = None, *, deadline_s: float = DIAL_S) -> AsyncIterator[Client]:
    """The client for `async with aio.connect() as client:`; raises as open_connection does."""
    async with open_connection(path, deadline_s=deadline_s) as connection:
        yield Client(connection)


def _gone() -> NoAgentError:
    return NoAgentError("the agent closed the connection", remedy=START)
