"""The test's side of puppets: a listening socket, the processes started for it, and their strings.

Rules that hold here: every wait has a deadline; what was started is killed and reaped by `close`,
by its own id alone.
"""

import os
import resource
import select
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pytest

from support.real import need

DEADLINE_S = 20.0  # after which a test has failed; generous, machines are loaded
_PUPPET = Path(__file__).with_name("puppet.py")


class Puppet:
    """One accepted connection with a puppet at the other end."""

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(DEADLINE_S)
        self.socket = connection
        self._lines = connection.makefile("r")
        self.words = self._lines.readline().split()

    def do(self, code: str) -> str:
        """Have the puppet run one line of Python; what it answers."""
        self.send(code)
        return self.answer()

    def answer(self) -> str:
        """The next answer."""
        return self._lines.readline().rstrip("\n")

    def send(self, code: str) -> None:
        """Have it run a line, without waiting for an answer."""
        self.socket.sendall(code.encode() + b"\n")

    def do_exec(self, door: "Door", code: str) -> None:
        """Have it run a line that ends in an exec; return once the exec has happened.

        The kernel closes a second connection of the puppet's at the exec, and that is seen here.
        """
        self.do("connection.set_inheritable(True)")
        self.send(
            f"other = socket.socket(socket.AF_UNIX); other.connect({str(door.path)!r}); {code}"
        )
        with door.accept_raw() as other:
            assert other.recv(1) == b"", "the puppet did not call exec"

    def close(self) -> None:
        self._lines.close()
        self.socket.close()


class Door:
    """A listening Unix socket, and the processes that a test starts to knock at it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "door"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen(64)
        self._listener.settimeout(DEADLINE_S)
        self._started: list[subprocess.Popen[bytes]] = []
        self._puppets: list[Puppet] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def command(self, *words: str) -> list[str]:
        """The command that makes a puppet at this door."""
        return [sys.executable, "-I", "-S", str(_PUPPET), str(self.path), *words]

    def line(self, *words: str) -> str:
        """The same as a line for any shell; words are left to the shell to expand."""
        return " ".join([shlex.join(self.command()), *words])

    def start(self, command: Sequence[str], **more: Any) -> subprocess.Popen[bytes]:
        """Start a process; it is killed when the door closes."""
        options: dict[str, Any] = {"stdin": subprocess.PIPE, **more}
        process = subprocess.Popen(command, **options)
        self._started.append(process)
        return process

    def puppet(self, *words: str, **more: Any) -> tuple[Puppet, subprocess.Popen[bytes]]:
        """A puppet started by the test itself, and its process."""
        process = self.start(self.command(*words), **more)
        return self.accept(), process

    def accept(self) -> Puppet:
        """The next puppet that knocks."""
        puppet = Puppet(self._listener.accept()[0])
        self._puppets.append(puppet)
        return puppet

    def accept_raw(self) -> socket.socket:
        """The next connection, whoever is behind it."""
        connection = self._listener.accept()[0]
        connection.settimeout(DEADLINE_S)
        return connection

    def signal(self, pid: int, number: int) -> None:
        """Signal a process that was started here, by its pid."""
        next(one for one in self._started if one.pid == pid).send_signal(number)

    def kill(self, pid: int) -> None:
        """Kill and reap a process that was started here, by its pid."""
        kill(next(one for one in self._started if one.pid == pid))

    def fileno(self) -> int:
        """The listening socket."""
        return self._listener.fileno()

    def close(self) -> None:
        for puppet in self._puppets:
            puppet.close()
        self._listener.close()
        for process in self._started:
            process.kill()
            if process.stdin is not None:
                process.stdin.close()
            process.wait(DEADLINE_S)


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and reap it."""
    process.kill()
    process.wait(DEADLINE_S)


def await_gone(pid: int) -> None:
    """Wait for the end of a process that is not our child, or that nobody reaps."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        assert poll.poll(DEADLINE_S * 1000), f"process {pid} does not end"
    finally:
        os.close(pidfd)


def until(condition: Callable[[], bool]) -> None:
    """Wait for what nothing announces, such as another process's exec."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not come"
        os.sched_yield()


def next_tick() -> int:
    """Wait for the kernel's clock to tick (10 ms mostly); ticks since boot, as start times are."""
    per_s = os.sysconf("SC_CLK_TCK")

    def now() -> int:
        return int(time.clock_gettime(time.CLOCK_BOOTTIME) * per_s)

    before = now()
    until(lambda: now() > before)
    return now()


def open_files() -> int:
    """How many descriptors this process has open."""
    return len(os.listdir("/proc/self/fd")) - 1  # noqa: PTH208  # listing opens one itself


@contextmanager
def no_descriptors_left() -> Iterator[None]:
    """Let every open fail with EMFILE."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)  # the lowest number that is free
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def need_user_namespaces() -> str:
    """The path of unshare; skips the test where the kernel gives this user no user namespace."""
    unshare = need("unshare")
    if subprocess.run([unshare, "-Urm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("the kernel grants this user no user namespace")
    return unshare


def in_new_pid_namespace(
    *arguments: str, descriptor: int | None = None, mount_proc: bool = True
) -> str:
    """Run Python with these arguments as root of a pid namespace of its own; its output.

    The agent's and the tests' packages can be imported.  `descriptor` is inherited, and its number
    is the last argument.
    """
    # Unmeasured: a fork that coverage follows takes longer than the tick that some cases need.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    proc = ["--mount-proc"] if mount_proc else []
    passed = () if descriptor is None else (descriptor,)
    done = subprocess.run(
        [
            need_user_namespaces(), "--user", "--map-root-user", "--pid", "--fork",
            *proc, "--kill-child", sys.executable, *arguments, *map(str, passed),
        ],
        env={**kept, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)},
        pass_fds=passed, capture_output=True, text=True, timeout=DEADLINE_S, check=False,
    )  # fmt: skip  # a command line
    assert done.returncode == 0, done.stderr
    return done.stdout


def recycle(case: str, rung: str) -> str:
    """Play a case of support/recycle.py; what became of the impostor."""
    return in_new_pid_namespace("-m", "support.recycle", case, rung)


def kill_stranger(pid: int) -> None:
    """Kill a process that is not our child."""
    os.kill(pid, signal.SIGKILL)
    await_gone(pid)
