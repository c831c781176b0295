"""The agent as one object: its parts, and the few changes that touch several of them.

One place each: here the session locks and opens, a scope ends, and the agent stops.  State changes
at once, in one step
without an await; telling and recording follow.  The handlers of the server call this; nothing here
knows the wire.
"""

import math
import os
import socket
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import trio

from secret_agent.audit.log import AuditLog
from secret_agent.boot_timer import BootTimer
from secret_agent.broker import Broker
from secret_agent.clock import Clock
from secret_agent.config import Settings
from secret_agent.events import EventHub
from secret_agent.leases.ending import LeaseBook, Opener
from secret_agent.leases.table import Lease, LeaseTable, Why
from secret_agent.model import Holder, ProcessKey
from secret_agent.policy.load import PolicySource
from secret_agent.prompt_desk import PromptDesk
from secret_agent.scopes import Scope, ScopeTable
from secret_agent.session import Session
from secret_agent.shells import ShellRegistry
from secret_agent.store_access import StoreAccess
from secret_agent.triggers.process import ProcessWatcher
from secret_agent.workdirs import Workdirs
from secret_agent_client.errors import DeniedError, SecretAgentError, UnavailableError

PROMPT_FILE_S = 0.2  # the least time between two writes of the prompt file
CLOSE_S = 10.0  # for noting the audit head and closing the store


@dataclass(frozen=True, slots=True)
class Places:
    """Where this agent keeps what: all of it ours, 0700 and 0600."""

    socket: Path
    runtime: Path  # the socket's folder
    store: Path
    witness: Path  # the store's generation as last seen, outside the store
    audit: Path  # folder
    policy: Path
    config: Path


class Sockets(Protocol):
    """What is needed of server.listening."""

    of_scope: Counter[str]

    def serve_scope(self, scope: Scope, listener: socket.socket) -> None: ...
    def end_scope(self, scope: Scope) -> None: ...


class Agent:
    """All parts, wired.  `nursery` outlives every connection; `background` tasks belong to it."""

    def __init__(
        self,
        places: Places,
        settings: Settings,
        *,
        audit: AuditLog,
        watcher: ProcessWatcher,
        nursery: trio.Nursery,
        clock: Clock,
    ) -> None:
        self.places, self.settings, self.clock = places, settings, clock
        self.audit, self.watcher, self._nursery = audit, watcher, nursery
        self.started = clock.boot()
        self.session = Session(default_lifetime_s=settings.lifetime_s, idle_s=settings.idle_s)
        self.hub = EventHub()
        audit.told = self.hub.audited
        self.desk = PromptDesk()
        self.scopes = ScopeTable()
        self.book = LeaseBook(LeaseTable(), watcher, announce=self._lease_ended)
        self.shells = ShellRegistry(watcher, last_gone=self._last_shell_gone)
        self.workdirs = Workdirs(places.runtime / "run", watcher)
        self.store = StoreAccess(places.store, places.witness, clock)
        self.policy = PolicySource(places.policy)
        self.broker = Broker(
            clock=clock,
            session=self.session,
            scopes=self.scopes,
            store=self.store,
            book=self.book,
            record=self.record,
            policy=self.policy.current,
            default_ttl_s=settings.lease_ttl_s,
            is_registered=self.shells.__contains__,
            last_used={},
        )
        self.unlocking = trio.Lock()
        self.stopping = trio.Event()
        self._sockets: Sockets | None = None
        self._prompt_dirty = trio.Event()
        self._armed = math.inf
        self._nap = trio.CancelScope()
        if not self.store.exists:
            self.session.state = "new"

    # -- recording ---------------------------------------------------------------------------

    async def record(self, fields: Mapping[str, Any]) -> None:
        """Write a record; it is durable when this returns.  Raises UnavailableError."""
        await self.audit.append(fields)

    def record_later(self, fields: Mapping[str, Any]) -> None:
        """Write a record of something that has happened and cannot be refused any more."""

        async def write() -> None:
            try:
                await self.record(fields)
            except UnavailableError:
                return  # shown as failing in `status`; nothing is served until it works again

        self._nursery.start_soon(write)

    # -- session -----------------------------------------------------------------------------

    async def lock(self, why: str) -> int:
        """End the session: leases, scopes, folders, cached values and keys; how many leases
        ended.
        """
        was_open = self.session.lock()
        ended = self.end_leases(self.book.table, "locked")
        for scope in self.scopes:
            self.end_scope(scope.id, "locked")
        self.workdirs.remove_all()
        self.store.forget()
        self.changed()
        if not was_open:
            return ended
        self._write_prompt_file()
        self.record_later({"event": "session", "action": "lock", "outcome": "done", "because": why})
        self.hub.everybody("session-locked", {"why": why})
        with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_S):
            try:
                await self.store.close(self.audit.head)
            except SecretAgentError as error:
                self.record_later(_trouble("lock", error))
        return ended

    def opened(self, *, lifetime_s: float | None, how: str, holder: Holder) -> None:
        """The store is open: so is the session."""
        self.session.unlock(self.clock.boot(), lifetime_s=lifetime_s)
        self._write_prompt_file()
        self.desk.opened()
        self.hub.everybody("session-unlocked", {})
        self.record_later(
            {
                "event": "session",
                "action": "unlock",
                "outcome": "done",
                "because": how,
                "holder": holder,
            }
        )
        self.changed()

    def end_leases(self, leases: "LeaseTable | list[Lease]", why: Why) -> int:
        """End these leases; how many."""
        return len(self.book.end(list(leases), why))

    def _lease_ended(self, lease: Lease, why: Why) -> None:
        self.hub.lease_ended(lease, why)
        self.record_later(
            {
                "event": "lease",
                "action": "end",
                "outcome": "done",
                "secret": lease.secret,
                "stage": lease.stage or None,
                "version": lease.version,
                "lease": lease.id,
                "because": why,
                "holder": lease.holder,
            }
        )
        self.changed()

    # -- scopes ------------------------------------------------------------------------------

    def begin_scope(self, scope: Scope, *, opener: Opener) -> None:
        """Enter a scope and watch the process that it is bound to.  Raises DeniedError."""
        self.scopes.add(scope)
        if scope.bound is not None:
            try:
                self.watcher.watch(scope.bound, self._scope_process_gone, opener=opener)
            except DeniedError:
                self.scopes.remove(scope.id)
                raise
        self.changed()

    def end_scope(self, scope_id: str, why: str) -> list[str]:
        """End a scope and those made through it: leases, connections, sockets; their ids."""
        ended = self.scopes.remove(scope_id)
        for scope in ended:
            self.end_leases(self.book.table.of_scope(scope.id), "scope-ended")
            if scope.bound is not None:
                self.watcher.unwatch(scope.bound, self._scope_process_gone)
            self._sockets_of_scopes.end_scope(scope)
            self.hub.scope_ended(scope.id, scope.maker.process, why)
            self.record_later(
                {
                    "event": "scope",
                    "action": "end",
                    "outcome": "done",
                    "because": why,
                    "scope": scope.id,
                    "holder": scope.maker,
                }
            )
        return [scope.id for scope in ended]

    def attach(self, sockets: "Sockets") -> None:
        """Take the one that serves scopes' sockets; once, before the first request."""
        self._sockets = sockets

    def serve_scope(self, scope: Scope, listener: socket.socket) -> None:
        """Serve a scope that has begun, on its socket."""
        self._sockets_of_scopes.serve_scope(scope, listener)

    def scope_connections(self, scope_id: str) -> int:
        """How many are connected to a scope's socket."""
        return self._sockets_of_scopes.of_scope[scope_id]

    @property
    def _sockets_of_scopes(self) -> "Sockets":
        assert self._sockets is not None, "attach comes first"  # noqa: S101  # composition's order
        return self._sockets

    def _scope_process_gone(self, process: ProcessKey) -> None:
        for scope in self.scopes:
            if scope.bound == process:
                self.end_scope(scope.id, "process-gone")

    # -- the last shell, and the end -----------------------------------------------------------

    def _last_shell_gone(self) -> None:
        does = self.settings.on_last_shell
        if does == "lock" and self.session.state == "unlocked":
            self._nursery.start_soon(self.lock, "the last shell is gone")
        elif does == "stop":
            self.stop()

    def stop(self) -> None:
        """Begin the orderly end; the daemon does the rest."""
        self.stopping.set()

    async def shut_down(self) -> None:
        """End everything that was granted, and say so.  The daemon calls this last."""
        self.end_leases(self.book.table, "stopped")
        self.hub.everybody("agent-stopping", {})
        await self.lock("the agent stops")
        (self.places.runtime / "prompt").unlink(missing_ok=True)

    # -- time and the prompt file --------------------------------------------------------------

    def changed(self) -> None:
        """Something that a timer or the shells' prompt depends on may have changed."""
        self._prompt_dirty.set()
        if self._next_deadline() < self._armed:
            self._nap.cancel()

    def _next_deadline(self) -> float:
        times = (
            self.session.next_deadline(),
            self.book.table.next_expiry(),
            self.scopes.next_expiry(),
        )
        return min((at for at in times if at is not None), default=math.inf)

    async def run_timers(self) -> None:
        """End what is over, when it is over."""
        timer = BootTimer()
        try:
            while True:
                self._armed = self._next_deadline()
                with trio.CancelScope() as self._nap:
                    if self._armed == math.inf:
                        await trio.sleep_forever()
                    await timer.wait_until(self._armed)
                await self.sweep()
        finally:
            timer.close()

    async def sweep(self) -> None:
        """End what is over by now: the session, scopes, leases."""
        now = self.clock.boot()
        why = self.session.overdue(now)
        if why is not None:
            await self.lock(why)
        for scope in self.scopes.expired(now):
            self.end_scope(scope.id, "expired")
        self.book.expire(now)

    async def run_prompt_file(self) -> None:
        """Keep the one line that shell prompts read without starting a process."""
        while True:
            self._prompt_dirty = trio.Event()
            self._write_prompt_file()
            await self._prompt_dirty.wait()
            await trio.sleep(PROMPT_FILE_S)

    def _write_prompt_file(self) -> None:
        """Now: the prompt after `unlock` or `lock` must not tell of what was before."""
        _write_line(self.places.runtime / "prompt", self._prompt_line())

    def _prompt_line(self) -> str:
        """State, when the session ends, when the next lease does (Unix seconds or 0), our pid."""
        if self.session.state != "unlocked":
            return f"locked 0 0 {os.getpid()}"
        lock, lease = self.session.next_deadline(), self.book.table.next_expiry()
        times = [0 if at is None else int(self.clock.wall_of(at)) for at in (lock, lease)]
        return f"unlocked {times[0]} {times[1]} {os.getpid()}"


def _trouble(action: str, error: SecretAgentError) -> dict[str, Any]:
    return {
        "event": "agent",
        "action": action,
        "outcome": "error",
        "because": f"{error.code}: {error.message}",
    }


def _write_line(path: Path, line: str) -> None:
    """Replace a small file at once; it is no loss when it cannot be written."""
    new = path.with_name(path.name + ".new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with open(os.open(new, flags, 0o600), "w", encoding="ascii") as file:  # noqa: PTH123  # flags
            file.write(line + "\n")
        new.replace(path)
    except OSError:
        return
