"""Tell when a process has ended, by SIGKILL too.

A pidfd turns readable when its process ends, however it ends; no exit hook has to run and nothing
polls.  All pidfds stand in one epoll set, and the set itself is the one descriptor that trio waits
for: ten thousand watched processes are ten thousand descriptors and one sleeping task.

Rules that hold here:

* a process that is gone when the watch begins is refused (DeniedError), and one that cannot be
  watched for want of descriptors is an UnavailableError: there is no silent miss, so a caller binds
  a lease only after `watch` returned;
* a callback is called once, with the key, when the process ends, and never after its `unwatch`;
* callbacks are plain functions that do not block; one that raises is a bug, and ends `run` and with
  it the agent;
* everything is called from the trio thread.

Descriptors are numbers that are used again.  So a pidfd leaves the epoll set before it is closed
(closing alone removes it only when nobody else has a copy), and a batch of events is turned into
watched processes before the first callback runs, for a callback may unwatch one of them and watch
another that gets its number.
"""

import errno
import os
import select
from collections.abc import Callable
from typing import Final

import trio

from secret_agent.holder import open_pidfd
from secret_agent.model import ProcessKey
from secret_agent_client.errors import UnavailableError

MAX_EVENTS: Final = 256  # ends delivered before other tasks get their turn

Callback = Callable[[ProcessKey], None]
Opener = Callable[[ProcessKey], int]


async def wait_gone(pidfd: int) -> None:
    """Return when the process of a pidfd has ended.  One task at a time may wait for one."""
    await trio.lowlevel.wait_readable(pidfd)


class _Watched:
    """One process that is watched; its pidfd is -1 once it is not."""

    __slots__ = ("callbacks", "key", "pidfd")

    def __init__(self, key: ProcessKey, pidfd: int) -> None:
        self.key = key
        self.pidfd = pidfd
        self.callbacks: tuple[Callback, ...] = ()  # the same one as often as it was registered


class ProcessWatcher:
    """Calls back when processes end.  `run` delivers, and closes the watcher when cancelled."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._by_key: dict[ProcessKey, _Watched] = {}
        self._by_pidfd: dict[int, _Watched] = {}

    def __len__(self) -> int:
        """How many processes are watched."""
        return len(self._by_key)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Deliver until cancelled.  What ended before it runs is delivered once it does."""
        task_status.started()
        try:
            while True:
                await trio.lowlevel.wait_readable(self._epoll.fileno())
                self._deliver()
        finally:
            self.close()

    def watch(self, key: ProcessKey, callback: Callback, *, opener: Opener = open_pidfd) -> None:
        """Call `callback(key)` when that process ends.

        `opener` gives the pidfd where the process is not watched yet.  Where there is a peer, its
        `open_pidfd` is the better one: it copies what is held already, and nothing is looked up by
        pid again.
        Each registration counts, also of the same callback; it is called once all the same.
        Raises DeniedError when the process is gone already, UnavailableError when it cannot be
        watched.
        """
        watched = self._by_key.get(key)
        if watched is None:
            watched = self._begin(key, opener)
        watched.callbacks += (callback,)

    def unwatch(self, key: ProcessKey, callback: Callback | None = None) -> None:
        """Take one registration of `callback` back, or the latest one of any.

        What is not watched, or no longer, is left alone: the end may have been delivered a moment
        before.
        """
        watched = self._by_key.get(key)
        if watched is None:
            return
        left = list(reversed(watched.callbacks))
        if callback is None:
            del left[0]
        elif callback in left:
            left.remove(callback)
        watched.callbacks = tuple(reversed(left))
        if not left:
            self._forget(watched)

    def is_alive(self, key: ProcessKey) -> bool:
        """Whether that process is watched and has not ended, delivered or not.

        The pidfd that is asked was opened when the watch began: a later process that got the same
        pid and, within one clock tick, the same start time is not taken for it.
        """
        watched = self._by_key.get(key)
        if watched is None:
            return False
        poll = select.poll()
        poll.register(watched.pidfd, select.POLLIN)
        return not poll.poll(0)

    def close(self) -> None:
        """Watch nothing any more.  Calling it again does nothing."""
        for watched in list(self._by_key.values()):
            self._forget(watched)
        self._epoll.close()

    def _begin(self, key: ProcessKey, opener: Opener) -> _Watched:
        """Open and enter the pidfd of a process."""
        if self._epoll.closed:
            raise UnavailableError("no process can be watched: the agent is stopping")
        pidfd = opener(key)
        try:
            self._epoll.register(pidfd, select.EPOLLIN)
        except OSError as error:
            os.close(pidfd)
            if error.errno not in (errno.ENOSPC, errno.ENOMEM):
                raise  # a bug of ours
            raise UnavailableError(
                "the kernel lets the agent watch no more processes (fs.epoll.max_user_watches)",
                remedy="secret-agent leases",
            ) from None
        watched = _Watched(key, pidfd)
        self._by_key[key] = self._by_pidfd[pidfd] = watched
        return watched

    def _deliver(self) -> None:
        """Call back for up to MAX_EVENTS processes that have ended."""
        ended = [self._by_pidfd[pidfd] for pidfd, _ in self._epoll.poll(0, MAX_EVENTS)]
        for watched in ended:
            if watched.pidfd < 0:  # unwatched by a callback just before
                continue
            callbacks = dict.fromkeys(watched.callbacks)
            self._forget(watched)
            for callback in callbacks:
                callback(watched.key)

    def _forget(self, watched: _Watched) -> None:
        del self._by_key[watched.key]
        del self._by_pidfd[watched.pidfd]
        self._epoll.unregister(watched.pidfd)
        os.close(watched.pidfd)
        watched.pidfd = -1
