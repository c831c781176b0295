"""A blocking connection to the agent: dial, check who answers, say hello, call.

Rules that hold here:

* before a byte is sent the kernel is asked who listens; it must be somebody who may (dial.py);
* everything has a deadline: dialling (also where the agent is stopped and its backlog full),
  sending, and receiving (also where it dribbles); what passes it is an error that says so;
* hello and the first request travel together, so that a first call costs one round trip;
* a connection on which a deadline passed or the framing broke is closed: a late reply must never
  be taken for the reply to the next request;
* an error of the agent's is raised as the class that its code names; it never holds a value.

`_socket` and not `socket`: the latter's enums and selectors cost more than all the rest of a
command that asks one thing.
"""

import os
import sys
import time
from _socket import SCM_RIGHTS, SOL_SOCKET, socket

from secret_agent_client.dial import dial, is_foreign, server_credentials, too_late
from secret_agent_client.errors import NoAgentError, SecretAgentError, UnavailableError
from secret_agent_client.exchange import Exchange
from secret_agent_client.paths import START, find_socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, Self

    Body = Mapping[str, Any]
    Reply = dict[str, Any]

DIAL_S = 5.0  # seconds to be let in
CALL_S = 30.0  # seconds for a reply; a verb that waits for a person is given more by its caller
CHUNK = 64 * 1024  # bytes read at a time
BATCH = 32  # requests under way at once; more could fill both directions and stop both sides


class Connection:
    """One connection.  Not for several threads at once: each takes its own."""

    __slots__ = ("_exchange", "_socket", "path", "server_pid")

    def __init__(self, sock: socket, path: str, *, client: str) -> None:
        self._socket = sock
        self._exchange = Exchange(client=client, scope_only=is_foreign(sock))
        self.path = path
        self.server_pid = server_credentials(sock)[0]

    @classmethod
    def connect(
        cls, path: str | None = None, *, deadline_s: float = DIAL_S, client: str = "secret-agent"
    ) -> "Self":
        """Dial the socket that the environment names, or `path`, and check who listens.

        Raises NoAgentError where nobody answers or somebody who may not, InvalidError for a path
        that is unsafe, UnavailableError at the deadline.
        """
        target, explicit = find_socket(os.environ, path)
        return cls(dial(target, explicit=explicit, deadline_s=deadline_s), target, client=client)

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close; a second time does nothing."""
        self._socket.close()

    def fileno(self) -> int:
        """The socket's descriptor, for select and poll; -1 once closed."""
        return self._socket.fileno()

    @property
    def agent_version(self) -> str:
        return str(self._greet().get("agent"))

    @property
    def features(self) -> "tuple[str, ...]":
        """What the agent can do beyond the verbs; those it does not know are absent."""
        return tuple(self._greet().get("features", ()))

    @property
    def scope(self) -> str | None:
        """The id of the scope whose socket this is; None on the user's own."""
        scope = self._greet().get("scope")
        return None if scope is None else str(scope)

    def call(
        self,
        verb: str,
        body: "Body | None" = None,
        *,
        deadline_s: float = CALL_S,
        descriptors: "Sequence[int]" = (),
    ) -> "Reply":
        """Ask and wait; the `ok` map.

        `descriptors` are open files that travel with the request; they stay open here.
        Raises the SecretAgentError that the agent answers with, UnavailableError at the deadline,
        NoAgentError where the agent goes away.
        """
        answer = self._ask([(verb, body)], time.monotonic() + deadline_s, descriptors)[0]
        if isinstance(answer, SecretAgentError):
            raise answer
        return answer

    def call_many(
        self, requests: "Sequence[tuple[str, Body | None]]", *, deadline_s: float = CALL_S
    ) -> "list[Reply | SecretAgentError]":
        """Ask many things in few round trips; each one's `ok` map or error, in order.

        An error of one is in the list and raised for none; what ends the connection is raised.
        """
        until = time.monotonic() + deadline_s
        answers: list[Reply | SecretAgentError] = []
        for at in range(0, len(requests), BATCH):
            answers += self._ask(requests[at : at + BATCH], until, ())
        return answers

    def next_event(self, timeout_s: float | None) -> "Reply | None":
        """The next event, waiting `timeout_s` for it (None: for ever); None where none came.

        Raises NoAgentError once the agent has gone away.
        """
        self._greet()
        until = None if timeout_s is None else time.monotonic() + timeout_s
        while not self._exchange.events:
            if not self._receive(until):
                return None
        return self._exchange.events.pop(0)

    def _greet(self) -> "Reply":
        """The agent's greeting, asked for now if it has not come."""
        until = time.monotonic() + CALL_S
        self._send(self._exchange.hello(), until)
        while self._exchange.greeting is None:
            self._receive_or_fail(until, CALL_S)
        return self._exchange.greeting

    def _ask(
        self, requests: "Sequence[tuple[str, Body | None]]", until: float, fds: "Sequence[int]"
    ) -> "list[Reply | SecretAgentError]":
        wait_s = until - time.monotonic()
        if self._exchange.scope_only:
            self._greet()
        asked = [self._exchange.request(verb, body) for verb, body in requests]
        hello, data = self._exchange.hello(), b"".join(data for _, data in asked)
        if fds:  # they belong to the request's first byte, so the hello goes ahead by itself
            self._send(hello, until)
            hello, data = b"", self._send_with(data, fds, until)
        self._send(hello + data, until)
        return [self._await(request_id, until, wait_s) for request_id, _ in asked]

    def _await(self, request_id: int, until: float, wait_s: float) -> "Reply | SecretAgentError":
        while (answer := self._exchange.take(request_id)) is None:
            self._receive_or_fail(until, wait_s)
        return answer

    def _send(self, data: bytes, until: float) -> None:
        """Send all of it, unless the agent has closed: then what it said first is still read."""
        view = memoryview(data)
        while view:
            self._wait_at_most(until)
            try:
                view = view[self._socket.send(view) :]
            except TimeoutError:
                raise self._too_late("take a request", CALL_S) from None
            except (BrokenPipeError, ConnectionResetError):
                return
            except OSError as error:
                raise self._lost(error) from None

    def _send_with(self, data: bytes, fds: "Sequence[int]", until: float) -> bytes:
        """Send the descriptors and as much as goes with them; what is left of the bytes."""
        rights = b"".join(fd.to_bytes(4, sys.byteorder) for fd in fds)
        self._wait_at_most(until)
        try:
            sent = self._socket.sendmsg([data], [(SOL_SOCKET, SCM_RIGHTS, rights)])
        except TimeoutError:
            raise self._too_late("take a request", CALL_S) from None
        except (BrokenPipeError, ConnectionResetError):
            return b""
        except OSError as error:
            raise self._lost(error) from None
        return data[sent:]

    def _receive_or_fail(self, until: float, wait_s: float) -> None:
        if not self._receive(until):
            raise self._too_late("answer", wait_s)

    def _receive(self, until: float | None) -> bool:
        """Take in what has come, waiting for it; False once the time is over."""
        if until is not None and until <= time.monotonic():
            return False
        self._wait_at_most(until)
        try:
            data = self._socket.recv(CHUNK)
        except TimeoutError:
            return False
        except OSError as error:
            raise self._lost(error) from None
        if not data:
            raise self._lost(None)
        try:
            self._exchange.feed(data)
        except SecretAgentError:
            self.close()
            raise
        return True

    def _wait_at_most(self, until: float | None) -> None:
        # Zero would make the socket non-blocking, whose error is another one.
        left = None if until is None else max(0.001, until - time.monotonic())
        try:
            self._socket.settimeout(left)
        except OSError as error:
            raise self._lost(error) from None

    def _too_late(self, what: str, wait_s: float) -> UnavailableError:
        self.close()
        return too_late(self.server_pid, what, wait_s)

    def _lost(self, error: OSError | None) -> NoAgentError:
        self.close()
        why = "" if error is None else f": {os.strerror(error.errno or 0).lower()}"
        return NoAgentError(f"the agent closed the connection{why}", remedy=START)
