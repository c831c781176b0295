"""Children that wait to be killed, and a callback that collects the ends of processes."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import trio

from secret_agent.holder import open_pidfd
from secret_agent.holder.pinned import Pinned
from secret_agent.model import ProcessKey
from support.puppets import DEADLINE_S, kill
from support.real import need


class Sleeper:
    """A child that waits for the end of its input, or to be killed; and its key."""

    def __init__(self) -> None:
        self.process = subprocess.Popen([need("cat")], stdin=subprocess.PIPE)
        pinned = Pinned.open(self.process.pid)
        pinned.close()
        self.key = pinned.key

    def let_go(self) -> None:
        """Have it exit by itself."""
        assert self.process.stdin is not None
        self.process.stdin.close()


@contextmanager
def sleepers(count: int) -> Iterator[list[Sleeper]]:
    started: list[Sleeper] = []
    try:
        for _ in range(count):
            started.append(Sleeper())  # noqa: PERF401  # those that did start are to be killed
        yield started
    finally:
        for sleeper in started:
            sleeper.let_go()
            kill(sleeper.process)


class Ends:
    """A callback that collects keys and can be waited for."""

    def __init__(self) -> None:
        self.keys: list[ProcessKey] = []
        self._came = trio.Event()

    def __call__(self, key: ProcessKey) -> None:
        self.keys.append(key)
        self._came.set()

    async def until(self, count: int) -> None:
        with trio.fail_after(DEADLINE_S):
            while len(self.keys) < count:
                self._came = trio.Event()
                await self._came.wait()


def kill_together(started: list[Sleeper]) -> None:
    """Kill processes, and return when all of them are zombies: one batch tells their ends."""
    for sleeper in started:
        sleeper.process.kill()
    for sleeper in started:
        os.waitid(os.P_PID, sleeper.process.pid, os.WEXITED | os.WNOWAIT)


def is_zombie(sleeper: Sleeper) -> bool:
    """Whether it has ended and nobody has reaped it."""
    return b") Z " in Path(f"/proc/{sleeper.key.pid}/stat").read_bytes()


def pidfd_at(number: int, key: ProcessKey) -> int:
    """A pidfd that has a certain number."""
    pidfd = open_pidfd(key)
    if pidfd != number:
        os.dup2(pidfd, number, inheritable=False)
        os.close(pidfd)
    return number


def ignore(_: ProcessKey) -> None:
    """A callback of no consequence."""
