"""Backup and restore: every live secret through one decision each, to or from a descriptor that
the client holds.

Rules: no path is told to us; what goes out is encrypted before it leaves; each secret is decided on
and recorded like any other read or write.  What the caller may not read is left out of a backup and
counted; of what is restored, all is read, checked and decided on before anything is written, and
all of it is written or nothing.  The store is held for a page at a time only: whoever is slow at
the other end of the descriptor holds up nobody.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator
from functools import partial
from io import BufferedReader
from itertools import islice
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar, cast

import trio

from secret_agent.backup.descriptor import Descriptor
from secret_agent.broker import Caller
from secret_agent.core import Agent
from secret_agent.secret_types.schema import get_type
from secret_agent.store_access import Place
from secret_agent.threads import new_limiter, run_blocking
from secret_agent_client.errors import InvalidError, SecretAgentError, UsageError
from secret_agent_client.references import check_name

if TYPE_CHECKING:  # importing the store costs its cryptography, which `start` need not wait for
    from secret_agent.store.database import Store
    from secret_agent.store.records import Record

T = TypeVar("T")

DEADLINE_S = 600.0  # a large store to a slow disk
PAGE = 16  # versions taken from the store at a time; one has at most 1 MiB
CHUNK = 64 * 1024  # bytes read at once
BATCH = 256  # secrets whose records share one sync of the audit log
MAX_RESTORED = 1024 * 1024 * 1024  # bytes of fields; they are all in memory before one is written

_threads = new_limiter(2)  # backups at a time: a descriptor that hangs costs these and no more


async def export_backup(
    agent: Agent, caller: Caller, descriptor: int, recipients: list[str], passphrase: bytes | None
) -> dict[str, Any]:
    """Write an encrypted backup of what the caller may read.  Raises as a `get` would, and
    UnavailableError.
    """
    agent.session.check(agent.clock.boot())
    out = Descriptor(descriptor)
    infos = await agent.store.infos()
    allowed = await _decide_on_reading(agent, caller, [(info.name, info.stage) for info in infos])
    source = _Source(agent, await agent.store.call(lambda store: store.store_id), allowed)
    written = await _in_thread(partial(_write, source, out, recipients, passphrase))
    return {"secrets": written, "left_out": len(infos) - len(allowed)}


async def _decide_on_reading(agent: Agent, caller: Caller, places: list[Place]) -> set[Place]:
    """Those that may be read; each recorded before any leaves, and then that they leave."""
    decided: dict[str, Any] = {
        "event": "decision",
        "action": "read",
        "outcome": "allow",
        "holder": caller.holder,
        "channel": "export",
    }
    records = {}
    for at, (name, stage) in enumerate(places):
        if at % BATCH == 0:
            await trio.lowlevel.checkpoint()  # a large store must not keep the others out
        decision = agent.broker.may(caller, "read", name, stage)
        if decision is not None:
            about = {"secret": name, "stage": stage or None}
            why = {"rule": decision.rule, "policy": decision.policy_digest}
            records[name, stage] = decided | about | why
    await _together(partial(agent.record, record) for record in records.values())
    await agent.record(decided | {"because": f"backup of {len(records)} of {len(places)} secrets"})
    return set(records)


class _Source:
    """The open store as a thread sees it that writes a backup: a page at a time, each in its turn;
    it ends with LockedError when the session does.
    """

    def __init__(self, agent: Agent, store_id: str, allowed: set[Place]) -> None:
        self.store_id = store_id
        self._agent = agent
        self._allowed = allowed
        self._records: Iterator[Record] | None = None

    def records(self, _only: object = None) -> "Iterator[Record]":
        """Every version of what is allowed."""
        while page := trio.from_thread.run(self._agent.store.call, self._next_page):
            yield from page

    def _next_page(self, store: "Store") -> "list[Record]":
        if self._records is None:
            self._records = store.records(self._allowed)
        return list(islice(self._records, PAGE))


def _write(
    source: _Source, descriptor: Descriptor, recipients: list[str], passphrase: bytes | None
) -> int:
    from secret_agent.backup.archive import write_backup

    with descriptor as out:
        return write_backup(
            cast("Store", source),  # likewise
            cast("BinaryIO", out),  # it has what a backup uses of one
            recipients=recipients,
            passphrase=passphrase,
        )


async def import_backup(
    agent: Agent, caller: Caller, descriptor: int, body: dict[str, Any]
) -> dict[str, Any]:
    """Read a backup, all of it first, then write what differs.

    Raises DeniedError for another key or where one of the secrets may not be written, InvalidError
    where the backup is damaged or holds what fits no type, UnavailableError.
    """
    identity, passphrase = body.get("identity"), body.get("passphrase")
    if (identity is None) == (passphrase is None):
        raise UsageError("import of a backup needs an identity or a passphrase")
    agent.session.check(agent.clock.boot())
    source, prefix = Descriptor(descriptor), body.get("prefix", "")
    secrets = await _in_thread(partial(_read, source, identity, passphrase, prefix))
    await _decide_on_writing(agent, caller, secrets)
    outcomes = await agent.store.change(secrets, partial(_restore, secrets), deadline_s=DEADLINE_S)
    counts = {each: list(outcomes.values()).count(each) for each in ("added", "updated", "same")}
    return {
        **counts,
        "names": sorted({name for (name, _), how in outcomes.items() if how != "same"}),
    }


async def _decide_on_writing(agent: Agent, caller: Caller, places: Collection[Place]) -> None:
    """Raise DeniedError, the refusal recorded, where one of them may not be written; else record
    that each may.
    """
    for at, (name, stage) in enumerate(places):
        if at % BATCH == 0:
            await trio.lowlevel.checkpoint()
        if agent.broker.may(caller, "write", name, stage) is None:
            await agent.broker.allow(caller, "write", name, stage)
    await _together(
        partial(agent.broker.allow, caller, "write", name, stage) for name, stage in places
    )


def _read(
    descriptor: Descriptor, identity: bytes | None, passphrase: bytes | None, prefix: str
) -> "dict[Place, list[Record]]":
    """Everything in a backup: the versions of each secret, oldest first."""
    from secret_agent.backup.archive import read_backup

    secrets: dict[Place, list[Record]] = {}
    size = 0
    with BufferedReader(descriptor, CHUNK) as source:
        backup = read_backup(source, identity=identity, passphrase=passphrase)
        for record in backup:
            size += sum(map(len, record.fields.values()))
            if size > MAX_RESTORED:
                raise InvalidError(f"the backup holds more than {MAX_RESTORED} bytes of values")
            name = f"{prefix.rstrip('/')}/{record.name}" if prefix else record.name
            _check_type(record)
            secrets.setdefault((check_name(name), record.stage), []).append(record)
    return secrets


def _check_type(record: "Record") -> None:
    """Raise InvalidError for a secret that could not be read again."""
    try:
        get_type(record.type)
    except InvalidError as error:
        raise InvalidError(f"{record.name} in the backup: {error.message}") from None


def _restore(secrets: "dict[Place, list[Record]]", store: "Store") -> dict[Place, str]:
    """What became of each: "added" with all its versions, "updated" by its last one, or "same"."""
    outcomes = {}
    with store.batch():
        for (name, stage), versions in secrets.items():
            before = _newest(store, name, stage)
            if before is None:
                outcomes[name, stage] = "added"
            elif _content(before) == _content(versions[-1]):
                outcomes[name, stage] = "same"
                continue
            else:
                outcomes[name, stage] = "updated"
                del versions[:-1]
            for version in versions:
                _put_back(store, name, stage, version)
    return outcomes


def _newest(store: "Store", name: str, stage: str) -> "Record | None":
    try:
        return store.get(name, stage)
    except SecretAgentError as error:
        if error.code != "not-found":
            raise
    return None


def _content(record: "Record") -> tuple[Any, ...]:
    """What makes two versions the same: their values, and every limit that they are under."""
    return (record.type, record.fields, record.note, record.expires_at, record.rotate_due)


def _put_back(store: "Store", name: str, stage: str, version: "Record") -> None:
    store.put(
        name,
        stage,
        {field: value.reveal() for field, value in version.fields.items()},
        type=version.type,
        note=version.note,
        by=version.by,
        expires_at=version.expires_at,
        rotate_due=version.rotate_due,
        merge=False,
    )


async def _in_thread(call: Callable[[], T]) -> T:
    return await run_blocking(call, deadline_s=DEADLINE_S, what="the backup", limiter=_threads)


async def _together(calls: Iterable[Callable[[], Awaitable[object]]]) -> None:
    """Make calls side by side, so that what they record shares a sync; the first error of one."""
    waiting = iter(calls)
    while batch := list(islice(waiting, BATCH)):
        errors: list[SecretAgentError] = []
        async with trio.open_nursery() as nursery:
            for call in batch:
                nursery.start_soon(_noting, call, errors)
        if errors:
            raise errors[0]


async def _noting(call: Callable[[], Awaitable[object]], errors: list[SecretAgentError]) -> None:
    try:
        await call()
    except SecretAgentError as error:
        errors.append(error)
