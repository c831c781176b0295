"""A server on a real Unix socket that speaks the wire as it is told, well or badly.

Rules that hold here: it runs in a thread of the test and ends with its block; what it hears is kept
in `heard`; it never answers on its own account beyond `hello`; its folder is short-named, since a
socket's path has 107 bytes at most.
"""

import contextlib
import itertools
import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from secret_agent_client.errors import SecretAgentError
from secret_agent_client.version import PROTOCOL
from secret_agent_client.wire import Decoder, encode

END_S = 10.0  # seconds that the thread may take to notice its end
Body = dict[str, Any]
_numbers = itertools.count(1)
Answer = Body | SecretAgentError | bytes | None
Handler = Callable[["Talk", Body], Answer]

GREETING: Body = {
    "version": PROTOCOL,
    "features": ["parts", "events", "descriptors"],
    "agent": "0.1.0",
    "pid": os.getpid(),
    "scope": None,
}


def got(**fields: bytes) -> Body:
    """The reply to a `get`: version 3 of a/b with these fields, the primary one `password`.

    Each has a lease of its own: what a process holds is counted by the lease's id.
    """
    lease = {
        "id": f"l-{next(_numbers)}",
        "expires_at": "2030-01-01T00:00:00Z",
        "ttl_s": 60,
        "renewable": True,
        "uses_left": None,
    }
    return {
        "reference": "secret://a/b",
        "version": 3,
        "stage": None,
        "type": "generic",
        "primary": "password",
        "fields": fields,
        "lease": lease,
    }


class Talk:
    """One connection, as a handler sees it."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock

    def send(self, message: Mapping[str, Any]) -> None:
        self.socket.sendall(encode(dict(message)))

    def event(self, name: str, body: Body) -> None:
        self.send({"event": name, "body": body})


class FakeAgent:
    """Answers each verb as `answers` says.

    A dict or an error is the reply; bytes are sent as they are; None closes the connection; a
    function is called and says one of these.  A verb that is not there is never answered.
    """

    def __init__(
        self,
        path: Path,
        answers: Mapping[str, Answer | Handler] | None = None,
        *,
        backlog: int = 16,
        accepts: bool = True,
    ) -> None:
        self.path = path
        self.answers: dict[str, Answer | Handler] = {"hello": GREETING, **(answers or {})}
        self.heard: list[tuple[str, Body]] = []
        self.descriptors: list[int] = []
        self.connected = threading.Event()
        self._talks: list[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        os.fchmod(self._listener.fileno(), 0o600)
        self._listener.bind(os.fspath(path))
        self._listener.listen(backlog)
        self._accepts = accepts
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        if self._accepts:
            self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        # shutdown and not close: it wakes the threads that wait in accept and recv.
        for sock in (self._listener, *self._talks):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(END_S)
            assert not thread.is_alive(), "a thread of the fake agent hangs"
        for sock in (self._listener, *self._talks):
            sock.close()
        for descriptor in self.descriptors:
            os.close(descriptor)

    def verbs(self) -> list[str]:
        return [verb for verb, _ in self.heard]

    def _start(self, work: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self._talks.append(sock)
            self.connected.set()
            self._start(self._serve, sock)

    def _serve(self, sock: socket.socket) -> None:
        decoder = Decoder()
        with contextlib.suppress(OSError):
            while True:
                data, descriptors, _, _ = socket.recv_fds(sock, 64 * 1024, 4)
                self.descriptors += descriptors
                if not data:
                    return
                decoder.feed(data)
                while (message := decoder.next()) is not None:
                    if not self._answer(sock, message):
                        sock.shutdown(socket.SHUT_RDWR)
                        return

    def _answer(self, sock: socket.socket, message: Body) -> bool:
        """Whether the connection goes on."""
        verb, body = message["verb"], message.get("body", {})
        self.heard.append((verb, body))
        if verb not in self.answers:
            return True
        answer = self.answers[verb]
        if callable(answer):
            answer = answer(Talk(sock), body)
        if answer is None:
            return False
        if isinstance(answer, bytes):
            sock.sendall(answer)
        elif isinstance(answer, SecretAgentError):
            sock.sendall(encode({"id": message["id"], "error": answer.to_wire()}))
        else:
            sock.sendall(encode({"id": message["id"], "ok": answer}))
        return True


@contextmanager
def short_folder() -> Iterator[Path]:
    """A new folder, 0700, whose path leaves room for a socket's name."""
    folder = Path(tempfile.mkdtemp(prefix="sf-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
