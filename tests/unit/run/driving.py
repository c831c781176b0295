"""Starts driver.py, with pipes or in a terminal, and plays the agent that it listens to."""

import json
import os
import select
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.agent import ROOT
from support.terminal import DEADLINE_S

DRIVER = Path(__file__).with_name("driver.py")
SECRET = "hunter2-hunter2"

# Coverage starts itself in a child that finds its variables.
INHERITED = ("PATH", "COVERAGE_PROCESS_CONFIG", "COVERAGE_PROCESS_START")


class AgentSide:
    """What the test says to a run as its agent, and hears from it."""

    def __init__(self, folder: Path) -> None:
        # Not under tmp_path: a socket's path has 107 bytes at most.
        self._folder = tempfile.TemporaryDirectory(prefix="sa-", dir="/tmp")
        self.path = str(Path(self._folder.name) / "s")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen()
        self._listener.settimeout(DEADLINE_S)
        self._peer: socket.socket | None = None
        self._buffer = b""

    @property
    def peer(self) -> socket.socket:
        if self._peer is None:
            self._peer, _ = self._listener.accept()
            self._peer.settimeout(DEADLINE_S)
        return self._peer

    def event(self, name: str, **body: Any) -> None:
        self.say({"event": name, "body": body})

    def end_lease(self, why: str, lease: str = "l-1") -> None:
        self.event("lease-ended", lease=lease, secret="test/token", why=why)

    def say(self, message: Mapping[str, Any]) -> None:
        self.peer.sendall(json.dumps(message).encode() + b"\n")

    def hear(self, verb: str) -> Any:
        """The body of the next request of that verb; those before it are passed over."""
        while True:
            line, newline, rest = self._buffer.partition(b"\n")
            if not newline:
                data = self.peer.recv(65536)
                assert data, f"the run is gone without {verb}"
                self._buffer += data
                continue
            self._buffer = rest
            said, body = json.loads(line)
            if said == verb:
                return body

    def hang_up(self) -> None:
        self.peer.close()

    def close(self) -> None:
        self._listener.close()
        if self._peer is not None:
            self._peer.close()
        self._folder.cleanup()


class Driver:
    """Runs commands as `run` does."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0

    def line(self, *command: str, **spec: Any) -> list[str]:
        """The command line that runs `command`; TOKEN holds SECRET unless told otherwise."""
        spec.setdefault("values", {"TOKEN": SECRET})
        self._count += 1
        path = self._folder / f"spec-{self._count}.json"
        path.write_text(json.dumps(spec))
        return [sys.executable, str(DRIVER), str(path), *command]

    def environment(self, **more: str) -> dict[str, str]:
        inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
        return {
            "HOME": str(self._folder),
            "LC_ALL": "C.UTF-8",
            "PYTHONPATH": str(ROOT / "client"),
            **inherited,
            **more,
        }

    def start(
        self, command: Sequence[str], *, env: Mapping[str, str] | None = None, **popen: Any
    ) -> "subprocess.Popen[bytes]":
        """Start a command line without any terminal."""
        for stream in ("stdin", "stdout", "stderr"):
            popen.setdefault(stream, subprocess.PIPE)
        environment = self.environment(**(env or {}))
        return subprocess.Popen(command, env=environment, start_new_session=True, **popen)

    def run(
        self, *command: str, stdin: bytes = b"", env: Mapping[str, str] | None = None, **spec: Any
    ) -> "subprocess.CompletedProcess[bytes]":
        """Run to the end without any terminal."""
        with self.start(self.line(*command, **spec), env=env) as process:
            out, err = process.communicate(stdin, timeout=DEADLINE_S)
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    def shell(self, script: str, **spec: Any) -> "subprocess.CompletedProcess[bytes]":
        return self.run("sh", "-c", script, **spec)


def read_until(stream: Any, sought: bytes) -> bytes:
    """Read a pipe until it has said something; what it said."""
    seen = b""
    while sought not in seen:
        ready, _, _ = select.select([stream], [], [], DEADLINE_S)
        assert ready, f"no {sought!r} in {seen!r}"
        data = os.read(stream.fileno(), 65536)
        assert data, f"it ended without {sought!r} in {seen!r}"
        seen += data
    return seen


@contextmanager
def agent_side(folder: Path) -> Iterator[AgentSide]:
    side = AgentSide(folder)
    try:
        yield side
    finally:
        side.close()
