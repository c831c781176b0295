"""The verbs on scopes: delegate, scopes.  The socket comes as a descriptor; no path is told, and
none is opened.
"""

from typing import Any

from secret_agent.broker import Caller
from secret_agent.clock import rfc3339
from secret_agent.core import Agent
from secret_agent.scopes import Scope
from secret_agent.server import socket as sockets
from secret_agent.server.connection import Connection
from secret_agent.session import locked_error
from secret_agent.view import scope_view
from secret_agent_client.errors import InvalidError
from secret_agent_client.references import check_glob, check_stage

Body = dict[str, Any]
MAX_NESTED_GLOBS = 32  # each costs time at every request; who holds a scope must not stall others
DEFAULT_TTL_S = 3600  # of a scope that is not told how long


async def delegate(agent: Agent, connection: Connection, caller: Caller, body: Body) -> Body:
    """Serve a scope on the listening socket that came along."""
    listener, path = sockets.adopt(connection.take_descriptor())
    try:
        scope = await _new_scope(agent, caller, body, path)
        agent.begin_scope(scope, opener=caller.open_pidfd)
    except BaseException:
        listener.close()
        raise
    agent.serve_scope(scope, listener)
    return {
        "id": scope.id,
        "expires_at": rfc3339(agent.clock.wall_of(scope.expires)),
        "allow": list(scope.allow),
        "deny": list(scope.deny),
        "uses_left": scope.uses_left,
        "depth": scope.depth,
    }


async def _new_scope(agent: Agent, caller: Caller, body: Body, path: str) -> Scope:
    """The scope that is asked for, cut to what its maker has.  Recorded.  Raises DeniedError,
    InvalidError, LockedError where a lock came in between.
    """
    allow = tuple(check_glob(glob) for glob in body["allow"])
    deny = tuple(check_glob(glob) for glob in body.get("deny", []))
    if not allow:
        raise InvalidError("delegate: allow needs at least one glob")
    if caller.scope is not None and len(allow) + len(deny) > MAX_NESTED_GLOBS:
        raise InvalidError(f"delegate: through a scope {MAX_NESTED_GLOBS} globs are the most")
    if body.get("ttl_s") == 0 or body.get("max_uses") == 0:
        raise InvalidError("delegate: ttl_s and max_uses are at least 1")
    generation = agent.session.generation
    await agent.broker.allow(caller, "delegate", None)
    if agent.session.generation != generation:
        raise locked_error("locked")  # while the decision was being recorded: a scope would survive
    now = agent.clock.boot()
    ttl_s: float = body.get("ttl_s", DEFAULT_TTL_S)
    stage = check_stage(body["stage"]) if "stage" in body else None
    uids = frozenset(body.get("uids", [caller.holder.uid]))
    if caller.scope is not None:
        ttl_s = min(ttl_s, agent.scopes.remaining_s(caller.scope, now))
        parent = agent.scopes.get(caller.scope)
        if not uids <= parent.uids | {caller.holder.uid}:
            raise InvalidError("delegate: a scope made through a scope is for its users only")
    return Scope(
        allow=allow,
        deny=deny,
        stage=stage,
        uids=uids,
        maker=caller.holder,
        expires=now + ttl_s,
        uses_left=body.get("max_uses"),
        bound=caller.holder.process if body.get("bound") else None,
        parent=caller.scope,
        socket_path=path,
    )


async def scopes(agent: Agent, _connection: Connection, caller: Caller, _body: Body) -> Body:
    """All scopes that are alive; through a scope, those made through it."""
    shown = [scope for scope in agent.scopes if caller.scope in (None, scope.parent)]
    return {
        "scopes": [
            scope_view(
                scope,
                agent.clock,
                connections=agent.scope_connections(scope.id),
                leases=len(agent.book.table.of_scope(scope.id)),
            )
            for scope in shown
        ]
    }


HANDLERS = {"delegate": delegate, "scopes": scopes}
