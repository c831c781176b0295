"""A real agent in a folder of its own, driven by the command line or by bare bytes.

Rules that hold here: a process is ended by its pid and its end is checked; the environment is built
from nothing; all that a command says is kept, so that the canary sweep can read it; `sweep()` names
every place where a planted value is.
"""

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from support import canary
from support.peer import Peer

ROOT = Path(__file__).resolve().parents[2]
SOURCES = os.pathsep.join((str(ROOT / "agent"), str(ROOT / "client")))
PASSPHRASE = b"correct horse battery staple"
READY_S = 20.0  # seconds a start may take on a loaded machine
END_S = 10.0  # seconds an orderly end may take
COMMAND_S = 60.0  # seconds a command may take before it counts as hung

# Coverage starts itself in a child that finds this (and a .pth file); everything else of ours stays
# outside.
_INHERITED = ("PATH", "COVERAGE_PROCESS_CONFIG", "COVERAGE_PROCESS_START", "TERM", "TZ")

# Commands whose standard output is the value: it is what was asked for.
_REVEALING = frozenset({"get"})

LIVE: "set[Home]" = set()
"""Every home that exists now; the sweep after each test visits them all."""


class Home:
    """One SECRET_AGENT_HOME and the command line in it; no agent runs until one is started."""

    def __init__(self, *, base: Path | None = None) -> None:
        # Not pytest's tmp_path: a socket's path has 107 bytes at most.
        self.path = Path(tempfile.mkdtemp(prefix="sa-", dir=base))
        self.socket = self.path / "agent.sock"
        self.planted: list[bytes] = [PASSPHRASE]
        self.said: list[tuple[str, bytes]] = []
        LIVE.add(self)

    def plant(self, value: bytes | None = None) -> bytes:
        """Register a value (a new one by default) that nothing may show; return it."""
        value = canary.fresh() if value is None else value
        assert len(value) >= canary.SHORTEST, "a canary this short is found by chance"
        self.planted.append(value)
        return value

    def environment(self, **more: str) -> dict[str, str]:
        """What a command gets: no CI, nothing of the person who runs the tests."""
        kept = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        return {
            **kept,
            "HOME": str(self.path),
            "LANG": "C.UTF-8",
            "PYTHONPATH": SOURCES,
            "SECRET_AGENT_HOME": str(self.path),
            **more,
        }

    def cli(
        self,
        *args: str,
        input: bytes | str | None = None,  # noqa: A002  # subprocess.run's name
        env: Mapping[str, str] | None = None,
        cwd: Path | str | None = None,
        pass_fds: Sequence[int] = (),
        reveals: bool = False,
        check: bool = False,
    ) -> "subprocess.CompletedProcess[bytes]":
        """Run `secret-agent ARGS` to its end; output as bytes.

        `reveals` says that this command's stdout is meant to show values (known of `get`); `check`
        asserts exit 0.
        """
        done = subprocess.run(
            [sys.executable, "-m", "secret_agent_client", *args],
            input=input.encode() if isinstance(input, str) else (input or b""),
            capture_output=True,
            env=self.environment(**(env or {})),
            cwd=cwd or self.path,
            pass_fds=pass_fds,
            timeout=COMMAND_S,
            check=False,
        )
        self._keep(args, done, reveals=reveals)
        if check:
            assert done.returncode == 0, f"{args} exits {done.returncode}: {done.stderr.decode()}"
        return done

    def _keep(
        self, args: Sequence[str], done: "subprocess.CompletedProcess[bytes]", *, reveals: bool
    ) -> None:
        what = " ".join(args[:2])
        self.said.append((f"stderr of {what}", done.stderr))
        if not reveals and args and args[0] not in _REVEALING:
            self.said.append((f"stdout of {what}", done.stdout))

    def cli_with_passphrase(
        self, *args: str, passphrase: bytes = PASSPHRASE, **rest: Any
    ) -> "subprocess.CompletedProcess[bytes]":
        """The same, with `--passphrase-fd N` added and the passphrase waiting there."""
        reader, writer = os.pipe()
        try:
            os.write(writer, passphrase)
            os.close(writer)
            return self.cli(*args, "--passphrase-fd", str(reader), pass_fds=[reader], **rest)
        finally:
            os.close(reader)

    def connect(self) -> Peer:
        """A bare connection to the socket, before any hello."""
        return Peer(self.socket)

    def pid_at_socket(self) -> int | None:
        """The pid of the agent that answers at the socket, or None."""
        try:
            with self.connect() as peer:
                return peer.server_pid
        except OSError:
            return None

    def sweep(self) -> list[str]:
        """Every place where a planted value is and none may be."""
        sought = canary.pattern(self.planted)
        hits = [what for what, output in self.said if sought.search(output)]
        hits += canary.files_holding(sought, self.path)
        pid = self.pid_at_socket()
        for name in ("environ", "cmdline") if pid else ():
            # A process that is not dumpable shows its environ to root alone, which is what we want.
            with contextlib.suppress(PermissionError, FileNotFoundError):
                if sought.search(Path(f"/proc/{pid}/{name}").read_bytes()):
                    hits.append(f"/proc/PID/{name} of the agent")
        return hits

    def close(self) -> None:
        """End what runs here, check that it ended, sweep once more and remove the folder."""
        left = self._end()
        hits = self.sweep()
        LIVE.discard(self)
        shutil.rmtree(self.path, ignore_errors=True)
        assert not hits, f"a planted value is in: {hits}"
        assert not left, left

    def _end(self) -> str:
        pid = self.pid_at_socket()
        return end_process(pid) if pid else ""


class Agent(Home):
    """A home whose agent is our own child, in the foreground."""

    def __init__(
        self, *args: str, env: Mapping[str, str] | None = None, base: Path | None = None
    ) -> None:
        super().__init__(base=base)
        self.args = args
        self.env = dict(env or {})
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The running agent's pid."""
        assert self.process is not None, "the agent is not running"
        return self.process.pid

    @property
    def log(self) -> str:
        """What the agent said on its standard error so far."""
        return (self.path / "agent.stderr").read_text()

    def start(self) -> None:
        """Start the agent and return once its socket answers."""
        reader, writer = os.pipe()
        command = [sys.executable, "-m", "secret_agent", "--home", str(self.path)]
        command += ["--ready-fd", str(writer), *self.args]
        try:
            with (self.path / "agent.stderr").open("ab") as log:
                self.process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=self.environment(**self.env),
                    cwd=self.path,
                    pass_fds=[writer],
                )
            os.close(writer)
            self._await_ready(reader)
        finally:
            os.close(reader)

    def _await_ready(self, reader: int) -> None:
        assert self.process is not None
        ready, _, _ = select.select([reader], [], [], READY_S)
        if ready and os.read(reader, 64):
            return
        self.process.kill()
        self.process.wait()
        raise AssertionError(f"the agent did not start: {self.log}")

    def unlock(self, passphrase: bytes = PASSPHRASE, **more: Any) -> dict[str, Any]:
        """Open the session over the socket, making the store on first use; the reply's `ok`.

        It costs the real Argon2id, about 0.2 s: share an unlocked agent where a test allows it.
        """
        with self.connect() as peer:
            peer.hello()
            return peer.call("unlock", {"passphrase": passphrase, "create": True, **more})

    def call(self, verb: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """One request on a connection of its own; its `ok`, or an AssertionError with the error."""
        with self.connect() as peer:
            peer.hello()
            return peer.call(verb, body)

    def put(self, name: str, value: bytes | None = None) -> bytes:
        """Write a secret (a planted canary by default) by the command line; return the value."""
        value = self.plant(value)
        self.cli("set", name, "--stdin", input=value, check=True)
        return value

    def stop(self) -> int:
        """SIGTERM, as a service manager would; the exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self._wait()

    def kill(self) -> None:
        """SIGKILL: nothing of the agent's own clean-up happens."""
        assert self.process is not None
        self.process.kill()
        self._wait()

    def _wait(self) -> int:
        assert self.process is not None
        status = self.process.wait(END_S)
        self.process = None
        return status

    def _end(self) -> str:
        if self.process is None:
            return super()._end()
        try:
            if self.process.poll() is None:
                self.process.send_signal(signal.SIGTERM)
            self.process.wait(END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return f"the agent did not end on SIGTERM: {self.log}"
        finally:
            self.process = None
        return super()._end()


def end_process(pid: int) -> str:
    """End a process that is not our child: SIGTERM, wait for its pidfd; "" or what went wrong."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return ""
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        if select.select([pidfd], [], [], END_S)[0]:
            return ""
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        return f"the process {pid} did not end on SIGTERM"
    finally:
        os.close(pidfd)
