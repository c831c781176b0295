"""Who listens, and what each of them may hear.

A listener hears of leases that are its own (held by its process, or bound to it), of the session
and of the agent; never of
anybody else's secret.  One that listens to the audit log is the user's own control connection.
Pushing never blocks: a
listener that does not keep up is dropped by its connection.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from secret_agent.leases.table import Lease, Why
from secret_agent.model import ProcessKey

Push = Callable[[str, dict[str, Any]], None]


@dataclass(slots=True, eq=False)
class Listener:
    """One connection that asked for events."""

    process: ProcessKey
    scope: str | None
    push: Push
    audit: bool = False


class EventHub:
    """All listeners."""

    def __init__(self) -> None:
        self._listeners: set[Listener] = set()

    def add(self, listener: Listener) -> None:
        self._listeners.add(listener)

    def remove(self, listener: Listener) -> None:
        self._listeners.discard(listener)

    def lease_ended(self, lease: Lease, why: Why) -> None:
        """Tell those who hold the lease, or whose end would have ended it."""
        body = {"lease": lease.id, "secret": lease.secret, "why": why}
        for listener in list(self._listeners):
            concerned = listener.process in (lease.holder.process, lease.bound)
            if concerned and listener.scope == lease.scope:
                listener.push("lease-ended", body)

    def scope_ended(self, scope_id: str, process: ProcessKey, why: str) -> None:
        """Tell the maker of a scope."""
        for listener in list(self._listeners):
            if listener.process == process:
                listener.push("scope-ended", {"scope": scope_id, "why": why})

    def everybody(self, event: str, body: dict[str, Any]) -> None:
        """Tell all: the session locked or opened, the agent stops."""
        for listener in list(self._listeners):
            listener.push(event, body)

    def audited(self, line: bytes) -> None:
        """Tell those who follow the audit log, in the log's own words."""
        following = [listener for listener in self._listeners if listener.audit]
        if following:
            record = json.loads(line)
            for listener in following:
                listener.push("audit", record)
