"""The verbs on leases: leases, who, renew, release, revoke.

A lease's id is no capability: through a scope only that scope's leases exist, and of another
scope's or the user's own the
answer is the one for an id that never was.  On the control socket the user is the user.
"""

from typing import Any

from secret_agent.broker import Caller, Recorded
from secret_agent.clock import rfc3339
from secret_agent.core import Agent
from secret_agent.leases.table import Lease
from secret_agent.server.connection import Connection
from secret_agent.view import holding_view, lease_view
from secret_agent_client.errors import NotFoundError, UsageError
from secret_agent_client.references import check_glob, check_name

Body = dict[str, Any]


async def leases(agent: Agent, _connection: Connection, caller: Caller, _body: Body) -> Body:
    """All leases that are alive, or those of the scope."""
    agent.book.expire(agent.clock.boot())
    shown = [lease for lease in agent.book.table if _visible(caller, lease)]
    return {"leases": [lease_view(lease, agent.clock) for lease in shown]}


async def who(agent: Agent, _connection: Connection, _caller: Caller, body: Body) -> Body:
    """Which living processes hold what."""
    name = check_name(body["name"]) if "name" in body else None
    agent.book.expire(agent.clock.boot())
    held = [lease for lease in agent.book.table if name in (None, lease.secret)]
    return {"holders": [holding_view(lease, agent.clock) for lease in held]}


async def renew(agent: Agent, _connection: Connection, caller: Caller, body: Body) -> Body:
    """Prolong a lease, never past what its rule allows; recorded before it is prolonged."""
    now = agent.clock.boot()
    async with Recorded(agent.broker, caller, "read", None, None) as note:
        agent.session.check(now)
        lease = agent.book.table.get(body["lease"])
        theirs = caller.scope and lease.holder.process != caller.holder.process
        if not _visible(caller, lease) or theirs:
            raise NotFoundError("no such lease", remedy="secret-agent leases")
        note.update(secret=lease.secret, stage=lease.stage or None, lease=lease.id)
        # A policy that has changed since the grant decides about its prolonging.
        agent.broker.permit(caller, "read", lease.secret, lease.stage, reason="renewal")
        agent.book.table.check_renewal(lease, now, ttl_s=body.get("ttl_s"))
    await agent.record(
        {
            "event": "lease",
            "action": "renew",
            "outcome": "allow",
            "secret": lease.secret,
            "stage": lease.stage or None,
            "version": lease.version,
            "lease": lease.id,
            "holder": caller.holder,
        }
    )
    # What ended the lease while its record was written has ended it.
    agent.book.table.renew(lease.id, agent.clock.boot(), ttl_s=body.get("ttl_s"))
    agent.session.touch(now)
    agent.changed()
    return {
        "id": lease.id,
        "expires_at": rfc3339(agent.clock.wall_of(lease.expires)),
        "ttl_s": max(0, round(lease.expires - now)),
    }


async def release(agent: Agent, _connection: Connection, caller: Caller, body: Body) -> Body:
    """A holder gives back its own leases; others' ids are passed over."""
    own = [
        lease
        for lease in agent.book.table.select(ids=body["leases"])
        if caller.holder.process in (lease.holder.process, lease.bound)
        and lease.scope == caller.scope
    ]
    return {"ended": agent.book.end(own, "released")}


async def revoke(agent: Agent, _connection: Connection, caller: Caller, body: Body) -> Body:
    """End leases by id, glob, holder or all; and scopes by id."""
    if not body:
        raise UsageError("revoke needs to be told what", remedy="secret-agent revoke --all")
    secret = check_glob(body["secret"]) if "secret" in body else None
    await agent.broker.allow(caller, "revoke", None, needs_session=False)
    ids = body.get("leases", [])
    chosen = agent.book.table.select(
        ids=ids, secret=secret, pid=body.get("holder"), everything=body.get("all", False)
    )
    known = {lease.id for lease in chosen} | {scope.id for scope in agent.scopes}
    for wanted in ids:
        if wanted not in known:
            raise NotFoundError("no such lease or scope", remedy="secret-agent leases")
    scopes = [
        each
        for wanted in ids
        if wanted.startswith("s-")
        for each in agent.end_scope(wanted, "revoked")
    ]
    if body.get("all"):
        scopes += [each for scope in agent.scopes for each in agent.end_scope(scope.id, "revoked")]
    return {
        "ended": agent.book.end(chosen, "revoked"),
        "scopes": scopes,
        "upstream": [],
        "queued": [],
    }


def _visible(caller: Caller, lease: Lease) -> bool:
    return caller.scope is None or lease.scope == caller.scope


HANDLERS = {
    "leases": leases,
    "who": who,
    "renew": renew,
    "release": release,
    "revoke": revoke,
}
