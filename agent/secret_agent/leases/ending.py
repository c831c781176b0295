"""The one place where a lease ends, whatever ends it: expiry, revocation, its process, its scope,
the session, the agent.

Each ended lease is taken out of the table at once (nothing awaits between), told to whoever holds
it, and recorded in the
audit log; a process is watched for exactly as long as it has a lease bound to it.
"""

from collections.abc import Callable, Iterable
from typing import Protocol

from secret_agent.leases.table import Lease, LeaseTable, Why
from secret_agent.model import ProcessKey

Opener = Callable[[ProcessKey], int]
"""Gives a pidfd of a process.  That of a peer copies the one it was identified by, so that no
later process
with the same pid and start time can take its place (polkit's CVE-2019-6133)."""


class Watcher(Protocol):
    """What is needed of triggers.process.ProcessWatcher."""

    def watch(
        self, key: ProcessKey, callback: Callable[[ProcessKey], None], *, opener: Opener = ...
    ) -> None: ...
    def unwatch(self, key: ProcessKey, callback: Callable[[ProcessKey], None]) -> None: ...


class LeaseBook:
    """The table together with what has to happen when a lease begins and when it ends."""

    def __init__(
        self,
        table: LeaseTable,
        watcher: Watcher,
        *,
        announce: Callable[[Lease, Why], None],
    ) -> None:
        self.table = table
        self._watcher = watcher
        self._announce = announce

    def begin(self, lease: Lease, *, opener: Opener) -> None:
        """Enter a lease and watch its process.  Raises DeniedError when that process is gone:
        nothing is entered.
        """
        if lease.bound is not None and not self.table.of_process(lease.bound):
            self._watcher.watch(lease.bound, self._process_gone, opener=opener)
        self.table.add(lease)

    def end(self, leases: Iterable[Lease], why: Why) -> list[str]:
        """End these leases; the ids of those that had not ended already."""
        ended = []
        for lease in leases:
            if lease.ended is not None:
                continue
            if self.table.remove(lease, why) and lease.bound is not None:
                self._watcher.unwatch(lease.bound, self._process_gone)
            ended.append(lease.id)
            self._announce(lease, why)
        return ended

    def expire(self, now: float) -> list[str]:
        """End what is over at this boot time."""
        return self.end(self.table.expired(now), "expired")

    def _process_gone(self, process: ProcessKey) -> None:
        for lease in self.table.of_process(process):
            why: Why = "shell-gone" if lease.binding == "shell" else "process-gone"
            self.end([lease], why)
