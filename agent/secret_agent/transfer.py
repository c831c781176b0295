"""Backup and restore: every live secret through one decision each, to or from a descriptor that
the client holds.

Rules: no path is told to us; what goes out is encrypted before it leaves; each secret is decided
on and recorded like any
other read or write, and what the caller may not read is left out and counted.
"""

import os
from functools import partial
from typing import Any

import trio

from secret_agent.broker import Caller
from secret_agent.core import Agent
from secret_agent.threads import run_blocking
from secret_agent_client.errors import SecretAgentError, UsageError
from secret_agent_client.references import check_name

DEADLINE_S = 600.0  # a large store to a slow disk
BATCH = 256  # secrets decided on before the audit log is waited for


async def export_backup(
    agent: Agent, caller: Caller, descriptor: int, recipients: list[str], passphrase: bytes | None
) -> dict[str, Any]:
    """Write an encrypted backup of what the caller may read.  Raises as a `get` would, and
    UnavailableError.
    """
    from secret_agent.backup.archive import write_backup

    agent.session.check(agent.clock.boot())
    infos = await agent.store.infos()
    allowed = set()
    for info in infos:
        decision = agent.broker.may(caller, "read", info.name, info.stage)
        if decision is not None:
            allowed.add((info.name, info.stage))
    await agent.record(
        {
            "event": "decision",
            "action": "read",
            "outcome": "allow",
            "holder": caller.holder,
            "channel": "export",
            "because": f"backup of {len(allowed)} of {len(infos)} secrets",
        }
    )

    def write(store: Any) -> int:
        with open(os.dup(descriptor), "wb") as out:  # noqa: PTH123  # a descriptor, not a path
            return write_backup(
                store, out, recipients=recipients, passphrase=passphrase, only=allowed
            )

    written = await agent.store.call(write, deadline_s=DEADLINE_S)
    return {"secrets": written, "left_out": len(infos) - len(allowed)}


async def import_backup(
    agent: Agent, caller: Caller, descriptor: int, body: dict[str, Any]
) -> dict[str, Any]:
    """Read a backup, all of it first, then write what differs.  Raises InvalidError where it is
    damaged.
    """
    identity, passphrase = body.get("identity"), body.get("passphrase")
    if (identity is None) == (passphrase is None):
        raise UsageError("import of a backup needs an identity or a passphrase")
    prefix = body.get("prefix", "")
    agent.session.check(agent.clock.boot())
    records = await run_blocking(
        partial(_read_all, descriptor, identity, passphrase),
        deadline_s=DEADLINE_S,
        what="the backup",
    )
    counts = {"added": 0, "updated": 0, "same": 0}
    names = []
    for record in records:
        name = check_name(prefix.rstrip("/") + "/" + record.name if prefix else record.name)
        await agent.broker.allow(caller, "write", name, record.stage)
        counts[await _write_back(agent, name, record)] += 1
        names.append(name)
        await trio.lowlevel.checkpoint()
    return {**counts, "names": names}


def _read_all(descriptor: int, identity: bytes | None, passphrase: bytes | None) -> list[Any]:
    from secret_agent.backup.archive import read_backup

    with open(os.dup(descriptor), "rb") as source:  # noqa: PTH123  # a descriptor, not a path
        return list(read_backup(source, identity=identity, passphrase=passphrase))


async def _write_back(agent: Agent, name: str, record: Any) -> str:
    try:
        before = await agent.store.call(lambda store: store.get(name, record.stage))
    except SecretAgentError as error:
        if error.code != "not-found":
            raise
        before = None
    if before is not None and before.fields == record.fields and before.type == record.type:
        return "same"
    await agent.store.write(
        name,
        record.stage,
        lambda store: store.put(
            name,
            record.stage,
            {field: value.reveal() for field, value in record.fields.items()},
            type=record.type,
            note=record.note,
            by=record.by,
            expires_at=record.expires_at,
            rotate_due=record.rotate_due,
            merge=False,
        ),
    )
    return "added" if before is None else "updated"
