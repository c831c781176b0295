"""One connection: read, identify, dispatch, reply; and events in between.

Rules: nothing is answered before `hello`; the peer is identified anew for each request; requests
are handled in order, slow
ones beside them; a frame that is no message gets an error and the connection goes on, a stream out
of step gets an error and
ends; a peer that is slow to speak or to listen is closed; when the process that connected is gone,
so is the connection,
whoever else holds its other end.  Descriptors that no verb expects are closed at once.
"""

import os
import socket
import struct
from array import array
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from secret_agent.broker import Caller
from secret_agent.events import Listener
from secret_agent.holder.identify import Peer
from secret_agent.server.limits import (
    EVENTS_QUEUED,
    FRAME_S,
    HELLO_S,
    RECEIVE,
    SLOW_AT_ONCE,
    WRITE_S,
)
from secret_agent_client.errors import (
    InternalError,
    InvalidError,
    SecretAgentError,
    UnavailableError,
)
from secret_agent_client.messages import Verb, check_request
from secret_agent_client.version import PROTOCOL, __version__
from secret_agent_client.wire import MAX_REPLY, Decoder, FrameError, encode

Handler = Callable[["Connection", Caller, dict[str, Any]], Awaitable[dict[str, Any]]]

MAX_DESCRIPTORS = 4  # that one recvmsg takes; more are closed by the kernel
FEATURES = ["parts", "events", "descriptors"]


class Connection:
    """One peer.  `handlers` is its whole world: a scoped socket's has no control verb in it."""

    def __init__(
        self,
        sock: socket.socket,
        peer: Peer,
        handlers: dict[str, Handler],
        *,
        scope: str | None,
        report_bug: Callable[[BaseException], None],
    ) -> None:
        self.peer = peer
        self.scope = scope
        self.listener: Listener | None = None
        self.closing = trio.CancelScope()
        self._sock = sock
        self._handlers = handlers
        self._report_bug = report_bug
        self._decoder = Decoder()
        self._descriptors: deque[int] = deque()
        self._writing = trio.Lock()
        self._greeted = False
        self._due = trio.current_time() + HELLO_S
        self._slow = 0
        self.heard_at = trio.current_time()  # when it last asked something
        self._events: deque[bytes] = deque()
        self._nursery: trio.Nursery | None = None

    async def run(self) -> None:
        """Serve until the peer hangs up, is gone, or misbehaves."""
        try:
            with self.closing:
                async with trio.open_nursery() as nursery:
                    self._nursery = nursery
                    try:
                        await self._serve()
                    finally:
                        self._nursery = None  # a nursery that is closing takes no event any more
                    nursery.cancel_scope.cancel()
        finally:
            self._sock.close()
            while self._descriptors:
                os.close(self._descriptors.popleft())

    def push(self, event: str, body: dict[str, Any]) -> None:
        """Queue an event behind those before it; a peer too far behind is closed."""
        if len(self._events) >= EVENTS_QUEUED or self._nursery is None:
            self.closing.cancel()
            return
        self._events.append(encode({"event": event, "body": body}))
        if len(self._events) == 1:
            self._nursery.start_soon(self._send_events)

    def take_descriptor(self) -> int:
        """The descriptor that came with the request.  Raises InvalidError where there is none."""
        if not self._descriptors:
            raise InvalidError("the request needs a descriptor beside it (SCM_RIGHTS)")
        return self._descriptors.popleft()

    @property
    def waits(self) -> bool:
        """Whether a request of this connection is under way that may take long."""
        return self._slow > 0

    async def _serve(self) -> None:
        while await self._receive():
            while True:
                try:
                    message = self._decoder.next()
                except FrameError as error:
                    await self._reply(None, error)
                    return
                except InvalidError as error:
                    await self._reply(None, error)
                    continue
                if message is None:
                    break
                if not await self._take(message):
                    return

    async def _receive(self) -> bool:
        """Feed what has come; False at the end of the stream or of the peer's time."""
        with trio.CancelScope(deadline=self._deadline()):
            return await self._receive_once()
        return False

    def _deadline(self) -> float:
        """Until when more has to come.  It stands still while a message drips in, byte by byte."""
        if self._greeted and not self._decoder.holds_partial:
            self._due = float("inf")
        elif self._due == float("inf"):
            self._due = trio.current_time() + FRAME_S
        return self._due

    async def _receive_once(self) -> bool:
        await trio.lowlevel.checkpoint()  # a peer that always has more must not keep the others out
        while True:
            try:
                data, ancillary, _, _ = self._sock.recvmsg(
                    RECEIVE, _ANCILLARY, socket.MSG_CMSG_CLOEXEC
                )
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self._sock)
                continue
            except OSError:
                return False
            if ancillary:
                self._keep_descriptors(ancillary)
            self._decoder.feed(data)
            return bool(data)

    def _keep_descriptors(self, ancillary: list[tuple[int, int, bytes]]) -> None:
        for level, kind, data in ancillary:
            if level != socket.SOL_SOCKET or kind != socket.SCM_RIGHTS:
                continue
            received = array("i")
            received.frombytes(data[: len(data) - len(data) % received.itemsize])
            for descriptor in received:
                if len(self._descriptors) < MAX_DESCRIPTORS:
                    self._descriptors.append(descriptor)
                else:
                    os.close(descriptor)

    async def _take(self, message: dict[str, Any]) -> bool:
        """Handle one message; False where the connection is to end."""
        self.heard_at = trio.current_time()
        request_id = message.get("id")
        if type(request_id) is not int:
            request_id = None
        try:
            request_id, verb, body = check_request(message)
            if not self._greeted:
                return await self._greet(request_id, verb, body)
            if verb.slow:
                self._start_slow(request_id, verb, body)
                return True
        except SecretAgentError as error:
            await self._reply(request_id, error)
            return self._greeted
        await self._answer(request_id, verb, body)
        return True

    async def _greet(self, request_id: int, verb: Verb, body: dict[str, Any]) -> bool:
        if verb.name != "hello":
            raise InvalidError("the first request of a connection is hello")
        if body["version"] != PROTOCOL:
            raise UnavailableError(
                f"the agent ({__version__}) speaks protocol {PROTOCOL}, "
                f"the client protocol {body['version']}",
                remedy="secret-agent stop && secret-agent start",
            )
        self._greeted = True
        await self._reply(
            request_id,
            {
                "version": PROTOCOL,
                "features": FEATURES,
                "agent": __version__,
                "pid": os.getpid(),
                "scope": self.scope,
            },
        )
        return True

    def _start_slow(self, request_id: int, verb: Verb, body: dict[str, Any]) -> None:
        if self._slow >= SLOW_AT_ONCE or self._nursery is None:
            raise UnavailableError(f"{SLOW_AT_ONCE} slow requests of this connection are under way")
        self._slow += 1

        async def answer() -> None:
            try:
                await self._answer(request_id, verb, body)
            finally:
                self._slow -= 1

        self._nursery.start_soon(answer)

    async def _answer(self, request_id: int, verb: Verb, body: dict[str, Any]) -> None:
        await self._reply(request_id, await self._outcome(verb, body))

    async def _outcome(self, verb: Verb, body: dict[str, Any]) -> dict[str, Any] | SecretAgentError:
        handler = self._handlers.get(verb.name)
        if handler is None:
            return InvalidError(f"this socket has no {verb.name}: it is a scope's")
        try:
            caller = Caller(self.peer.identify(scope=self.scope), self.peer.open_pidfd)
            return await handler(self, caller, body)
        except SecretAgentError as error:
            return error
        except Exception as error:  # noqa: BLE001  # a bug of ours must not end the agent, nor be told to a peer
            self._report_bug(error)
            return InternalError(f"{verb.name} failed inside the agent")
        finally:
            if not verb.descriptors:
                while self._descriptors:
                    os.close(self._descriptors.popleft())

    async def _reply(
        self, request_id: int | None, outcome: dict[str, Any] | SecretAgentError
    ) -> None:
        if not isinstance(outcome, SecretAgentError):
            try:
                data = encode({"id": request_id, "ok": outcome}, most=MAX_REPLY)
            except InvalidError as error:
                outcome = error
        if isinstance(outcome, SecretAgentError):
            data = encode({"id": request_id, "error": outcome.to_wire()})
        await self._send(data)

    async def _send_events(self) -> None:
        """Send what is queued, in order; an event leaves the queue once it is sent."""
        while self._events:
            await self._send(self._events[0])
            self._events.popleft()
            await trio.lowlevel.checkpoint()  # many events to one peer are nobody else's wait

    async def _send(self, data: bytes) -> None:
        """Send all or close: a reply in pieces with another between them would be no reply."""
        sent = 0
        if not self._writing.locked():
            try:
                sent = self._sock.send(data)
            except BlockingIOError:
                sent = 0
            except OSError:
                self.closing.cancel()
                return
        if sent < len(data):
            await self._send_slowly(memoryview(data)[sent:])

    async def _send_slowly(self, left: memoryview) -> None:
        """Send to a peer that reads slower than it is told; others' turns come in between."""
        with trio.move_on_after(WRITE_S) as deadline:
            async with self._writing:
                while left:
                    await trio.lowlevel.wait_writable(self._sock)
                    try:
                        left = left[self._sock.send(left) :]
                    except BlockingIOError:
                        continue
                    except OSError:
                        self.closing.cancel()
                        return
        if deadline.cancelled_caught:
            self.closing.cancel()


_ANCILLARY = socket.CMSG_SPACE(MAX_DESCRIPTORS * struct.calcsize("i"))
