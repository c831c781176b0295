"""A peer on the wire with no manners of its own: it sends what it is told, well formed or not.

Rules that hold here: every read has a deadline; a reply is matched by the test, not here; nothing
is retried.
"""

import socket
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from secret_agent_client.version import PROTOCOL
from secret_agent_client.wire import MAX_REPLY, MAX_REPLY_VALUES, Decoder, encode

DEADLINE_S = 20.0  # seconds of silence after which a test has failed; generous, machines are loaded


class Peer:
    """One connection.  `call` is the polite way; `send_bytes` and `next_message` the bare one."""

    def __init__(self, path: Path | str, *, deadline_s: float = DEADLINE_S) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(deadline_s)
        self._decoder = Decoder(max_message=MAX_REPLY, max_values=MAX_REPLY_VALUES)
        self._last_id = 0
        self.events: list[dict[str, Any]] = []
        try:
            self.socket.connect(str(path))
        except BaseException:
            self.socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    @property
    def server_pid(self) -> int:
        """Who listens, as the kernel says."""
        size = struct.calcsize("3i")
        raw = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        pid: int = struct.unpack("3i", raw)[0]
        return pid

    def hello(self, **more: Any) -> dict[str, Any]:
        """Introduce ourselves as a current client does."""
        return self.call("hello", {"version": PROTOCOL, "client": "tests", **more})

    def send_bytes(self, data: bytes) -> None:
        self.socket.sendall(data)

    def send(
        self, verb: str, body: Mapping[str, Any] | None = None, *, descriptors: tuple[int, ...] = ()
    ) -> int:
        """Send a request without waiting; its id."""
        self._last_id += 1
        data = encode({"id": self._last_id, "verb": verb, "body": dict(body or {})})
        if descriptors:
            socket.send_fds(self.socket, [data[:1]], descriptors)
            data = data[1:]
        self.socket.sendall(data)
        return self._last_id

    def next_message(self) -> dict[str, Any] | None:
        """The next message of any kind, or None where the agent closed the connection."""
        while (message := self._decoder.next()) is None:
            try:
                data = self.socket.recv(64 * 1024)
            except ConnectionResetError:
                return None
            if not data:
                return None
            self._decoder.feed(data)
        return message

    def reply(self, request_id: int | None) -> dict[str, Any]:
        """The reply to a request of ours; events that come before it are kept in `events`."""
        while True:
            message = self.next_message()
            assert message is not None, "the agent closed the connection without a reply"
            if "event" in message:
                self.events.append(message)
                continue
            assert message["id"] == request_id, f"a reply to {message['id']}, not to {request_id}"
            return message

    def ask(
        self, verb: str, body: Mapping[str, Any] | None = None, *, descriptors: tuple[int, ...] = ()
    ) -> dict[str, Any]:
        """Send a request and return its whole reply, `ok` or `error`."""
        return self.reply(self.send(verb, body, descriptors=descriptors))

    def call(
        self, verb: str, body: Mapping[str, Any] | None = None, *, descriptors: tuple[int, ...] = ()
    ) -> dict[str, Any]:
        """The `ok` map; an `error` is an AssertionError that shows it."""
        reply = self.ask(verb, body, descriptors=descriptors)
        assert "ok" in reply, f"{verb}: {reply.get('error')}"
        ok: dict[str, Any] = reply["ok"]
        return ok

    def refused(self, verb: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The `error` map; an `ok` is an AssertionError."""
        reply = self.ask(verb, body)
        assert "error" in reply, f"{verb} was not refused"
        error: dict[str, Any] = reply["error"]
        return error

    def next_event(self) -> dict[str, Any]:
        """The next event, kept or still to come."""
        if self.events:
            return self.events.pop(0)
        message = self.next_message()
        assert message is not None, "the agent closed the connection without an event"
        assert "event" in message, "something other than an event came"
        return message

    def is_closed(self) -> bool:
        """Whether the agent closes the connection; waits for it until the deadline."""
        try:
            while self.next_message() is not None:
                pass
        except TimeoutError:
            return False
        return True
