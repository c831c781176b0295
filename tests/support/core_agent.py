"""The agent's own parts wired together inside the test, without sockets: real store, real audit
log, real watcher; the clock can be set, and the store's stretching costs next to nothing.
"""

import json
import os
import socket
import threading
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import trio
import trio.testing

from secret_agent.audit.log import AuditLog
from secret_agent.broker import Ask, Caller, Grant
from secret_agent.clock import Clock
from secret_agent.config import Settings
from secret_agent.core import Agent, Places
from secret_agent.model import Holder, ProcessKey
from secret_agent.scopes import Scope
from secret_agent.store import keys
from secret_agent.triggers.process import ProcessWatcher
from secret_agent.unlock import unlock_store
from secret_agent_client.errors import SecretAgentError
from support.holders import holder

PASSPHRASE = b"correct horse"

# The key pair of backup/FORMAT.md: it costs nothing, and a passphrase a second.
IDENTITY = b"AGE-SECRET-KEY-1QQQSYQCYQ5RQWZQFPG9SCRGWPUGPZYSNZS23V9CCRYDPK8QARC0SWRYDWG"
RECIPIENT = "age13aqvttdk3ujkyjh9kg2w5an6dmy5mq5a84a4uxk3hfhnugfc9p0sy5p2wh"


class SetClock(Clock):
    """Clocks that stand still until they are moved; both by the same."""

    def __init__(self) -> None:
        self.moved = 0.0

    def wall(self) -> float:
        return 1_800_000_000.0 + self.moved

    def boot(self) -> float:
        return 1000.0 + self.moved


class NoSockets:
    """Stands where server.listening does; it remembers what it was asked."""

    def __init__(self) -> None:
        self.of_scope: Counter[str] = Counter()
        self.served: list[str] = []

    def serve_scope(self, scope: Scope, listener: socket.socket) -> None:
        self.served.append(scope.id)

    def end_scope(self, scope: Scope) -> None:
        self.served.remove(scope.id)


def places_in(folder: Path) -> Places:
    return Places(
        socket=folder / "agent.sock",
        runtime=folder,
        store=folder / "data" / "store.db",
        witness=folder / "store.witness",
        audit=folder / "audit",
        policy=folder / "policy.toml",
        config=folder / "config.toml",
    )


@asynccontextmanager
async def running(
    folder: Path, *, clock: Clock | None = None, settings: Settings | None = None
) -> AsyncIterator[Agent]:
    """A core without an open session; everything of it is gone afterwards."""
    places, clock = places_in(folder), clock or SetClock()
    for made in (places.store.parent, places.audit):
        made.mkdir(mode=0o700, exist_ok=True)
    audit = AuditLog.open(places.audit, clock=clock, sync="none", max_file=1 << 24)
    watcher = ProcessWatcher()
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(audit.run)
            await nursery.start(watcher.run)
            agent = Agent(
                places,
                settings or Settings(),
                audit=audit,
                watcher=watcher,
                nursery=nursery,
                clock=clock,
            )
            agent.attach(NoSockets())
            with keys._for_tests_cheap():
                yield agent
                await agent.lock("the test is over")
            nursery.cancel_scope.cancel()
    finally:
        audit.close()


async def unlock(agent: Agent, passphrase: bytes = PASSPHRASE, **more: Any) -> tuple[bool, str]:
    """Open the session; the store is made on first use."""
    asked = {"keyring": False, "create": True, "lifetime_s": None}
    return await unlock_store(agent, caller().holder, passphrase=passphrase, **(asked | more))


def caller(pid: int = 100, **more: Any) -> Caller:
    """A holder whose process is this one, for whoever watches it."""
    who: Holder = holder(pid, **({"uid": os.geteuid()} | more))
    return Caller(who, own_pidfd)


def own_pidfd(_process: ProcessKey) -> int:
    return os.pidfd_open(os.getpid())


async def put(agent: Agent, name: str, value: bytes = b"value", stage: str = "") -> None:
    """Write a secret of one field."""
    fields = {"value": value}
    await agent.store.write(
        name,
        stage,
        lambda store: store.put(name, stage, fields, type="generic", by="a test"),
    )


async def get(agent: Agent, name: str, **more: Any) -> Grant:
    return await agent.broker.fetch(caller(), Ask(name, **more))


async def refused(agent: Agent, name: str, **more: Any) -> str:
    """The code with which a request is refused."""
    try:
        await get(agent, name, **more)
    except SecretAgentError as error:
        return error.code
    raise AssertionError(f"{name} was served")


async def records(agent: Agent) -> list[dict[str, Any]]:
    """All records, those under way included."""
    await trio.testing.wait_all_tasks_blocked()  # until what is to be recorded later has been begun
    await agent.record({"event": "agent", "action": "start", "outcome": "done"})
    return [json.loads(line) for line in agent.audit.path.read_text().splitlines()]


async def settled(agent: Agent) -> None:
    """Return when every thread at the store has ended, those left behind too."""
    await agent.store._call(lambda: None, deadline_s=10)


class Hang:
    """A call that hangs as a dead disk would, until it is let go."""

    def __init__(self) -> None:
        self.let_go = threading.Event()
        self.begun = threading.Event()

    def __call__(self, _store: object) -> None:
        self.begun.set()
        self.let_go.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.let_go.set()
