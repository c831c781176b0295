"""The verbs on secrets: get, set, ls, describe, history, rm, restore, export, import.

What a caller may not list reads as absent: the same error, by the same path, as for a name that
never was.
"""

import os
from typing import Any

from secret_agent.broker import CHANNELS, Ask, Caller
from secret_agent.clock import rfc3339
from secret_agent.core import Agent
from secret_agent.model import DEFAULT_STAGE
from secret_agent.server.connection import Connection
from secret_agent.view import granted_view, secret_view, version_view
from secret_agent.writes import author, write_secret
from secret_agent_client.errors import InvalidError, NotFoundError, UsageError
from secret_agent_client.references import (
    Reference,
    check_field,
    check_glob,
    check_name,
    check_stage,
    glob_matches,
)

Body = dict[str, Any]
TRANSFER_S = 600.0  # for a backup of a large store on a slow disk


async def get(agent: Agent, _connection: Connection, caller: Caller, body: Body) -> Body:
    """A value, under a lease."""
    ask = _ask(body)
    grant = await agent.broker.fetch(caller, ask)
    agent.session.touch(agent.clock.boot())
    agent.changed()
    entry = grant.entry
    reference = Reference(
        entry.name, field=ask.field, version=ask.version, stage=entry.stage or None
    )
    return {
        "reference": str(reference),
        "version": entry.version,
        "stage": entry.stage or None,
        "type": entry.type,
        "primary": grant.primary,
        "fields": {name: value.reveal() for name, value in grant.fields.items()},
        "lease": granted_view(grant.lease, agent.clock),
    }


def _ask(body: Body) -> Ask:
    """A checked request.  Raises InvalidError naming the field."""
    binding, channel = body.get("binding", "process"), body.get("channel", "library")
    if binding not in ("process", "shell", "session"):
        raise InvalidError("get: binding is one of process, shell, session")
    if channel not in CHANNELS:
        raise InvalidError(f"get: channel is one of {', '.join(CHANNELS)}")
    if body.get("ttl_s") == 0 or body.get("version") == 0:
        raise InvalidError("get: ttl_s and version are at least 1")
    return Ask(
        name=check_name(body["name"]),
        field=None if "field" not in body else check_field(body["field"]),
        version=body.get("version"),
        stage=_stage(body, "stage"),
        prefer_stage=_stage(body, "prefer_stage"),
        everything=body.get("all", False),
        ttl_s=body.get("ttl_s"),
        uses=body.get("uses"),
        reason=body.get("reason"),
        binding=binding,
        channel=channel,
    )


def _stage(body: Body, key: str) -> str | None:
    return check_stage(body[key]) if key in body else None


async def set_(agent: Agent, _connection: Connection, caller: Caller, body: Body) -> Body:
    """A new version of a secret; on disk when this returns."""
    check_name(body["name"])
    for field in body.get("fields", {}):
        check_field(field)
    stage = _stage(body, "stage") or DEFAULT_STAGE
    await agent.broker.allow(caller, "write", body["name"], stage)
    written = await write_secret(agent, caller.holder, body, stage)
    agent.session.touch(agent.clock.boot())
    return written


async def ls(agent: Agent, _connection: Connection, caller: Caller, body: Body) -> Body:
    """Metadata of what the caller may know of."""
    glob = check_glob(body["glob"]) if "glob" in body else "**"
    stage = _stage(body, "stage")
    agent.session.check(agent.clock.boot())
    shown = []
    for info in await agent.store.infos():
        if not glob_matches(glob, info.name) or stage not in (None, info.stage):
            continue
        if agent.broker.may(caller, "list", info.name, info.stage) is not None:
            shown.append(secret_view(info, agent.broker.last_used.get((info.name, info.stage))))
    await agent.record(
        {
            "event": "decision",
            "action": "list",
            "outcome": "allow",
            "holder": caller.holder,
            "because": f"{len(shown)} shown",
        }
    )
    return {"secrets": shown}


async def describe(agent: Agent, _connection: Connection, caller: Caller, body: Body) -> Body:
    """Metadata of one secret, its stages and versions."""
    name, stage = check_name(body["name"]), _stage(body, "stage")
    infos = await _visible(agent, caller, name)
    if stage is not None:
        infos = [info for info in infos if info.stage == stage]
    if not infos:
        raise _absent(name)
    info = next((info for info in infos if info.stage == DEFAULT_STAGE), infos[0])
    read = agent.broker.may(caller, "read", name, info.stage)
    versions = await agent.store.history(name, info.stage)
    shown = secret_view(info, agent.broker.last_used.get((name, info.stage)))
    return shown | {
        "stages": [each.stage or None for each in infos],
        "readable": read is not None,
        "rule": None if read is None else read.rule,
        "primary": agent.broker.primary_of(info.type, info.field_names),
        "history": [version_view(version) for version in versions],
    }


async def history(agent: Agent, _connection: Connection, caller: Caller, body: Body) -> Body:
    """The versions of one secret."""
    name, stage = check_name(body["name"]), _stage(body, "stage") or DEFAULT_STAGE
    agent.session.check(agent.clock.boot())
    if agent.broker.may(caller, "list", name, stage) is None:
        raise _absent(name)
    versions = await agent.store.history(name, stage)
    return {"versions": [version_view(version) for version in versions]}


async def _visible(agent: Agent, caller: Caller, name: str) -> list[Any]:
    agent.session.check(agent.clock.boot())
    stages = await agent.store.call(lambda store: store.stages(name))
    return [
        info for info in stages if agent.broker.may(caller, "list", name, info.stage) is not None
    ]


async def rm(agent: Agent, _connection: Connection, caller: Caller, body: Body) -> Body:
    """Hide versions, or with `purge` destroy them."""
    name, stage = check_name(body["name"]), _stage(body, "stage") or DEFAULT_STAGE
    version, purge = body.get("version"), body.get("purge", False)
    await agent.broker.allow(caller, "write", name, stage)
    versions = [each.version for each in await agent.store.history(name, stage)]
    removed = await agent.store.write(
        name,
        stage,
        lambda store: store.remove(name, stage, version, purge=purge),
        versions=tuple(versions),
    )
    ended = [
        lease
        for lease in agent.book.table
        if (lease.secret, lease.stage) == (name, stage) and version in (None, lease.version)
    ]
    agent.end_leases(ended, "revoked")
    return {"removed": removed, "purged": purge}


async def restore(agent: Agent, _connection: Connection, caller: Caller, body: Body) -> Body:
    """A new version with an old one's content."""
    name, stage = check_name(body["name"]), _stage(body, "stage") or DEFAULT_STAGE
    await agent.broker.allow(caller, "write", name, stage)
    info = await agent.store.write(
        name,
        stage,
        lambda store: store.restore(name, stage, body["version"], by=author(caller.holder)),
    )
    return {"version": info.version, "created_at": rfc3339(info.created_at)}


async def export(agent: Agent, connection: Connection, caller: Caller, body: Body) -> Body:
    """An encrypted backup, written to the client's descriptor."""
    from secret_agent.transfer import export_backup

    descriptor = connection.take_descriptor()
    try:
        recipients, passphrase = body.get("recipients", []), body.get("passphrase")
        if bool(recipients) == (passphrase is not None):
            raise UsageError("export needs recipients or a passphrase, and not both")
        return await export_backup(agent, caller, descriptor, recipients, passphrase)
    finally:
        os.close(descriptor)


async def import_(agent: Agent, connection: Connection, caller: Caller, body: Body) -> Body:
    """Take a backup back in, from the client's descriptor."""
    from secret_agent.transfer import import_backup

    descriptor = connection.take_descriptor()
    try:
        return await import_backup(agent, caller, descriptor, body)
    finally:
        os.close(descriptor)


def _absent(name: str) -> NotFoundError:
    return NotFoundError(f"no secret {name}", remedy="secret-agent ls")


HANDLERS = {
    "get": get,
    "set": set_,
    "ls": ls,
    "describe": describe,
    "history": history,
    "rm": rm,
    "restore": restore,
    "export": export,
    "import": import_,
}
