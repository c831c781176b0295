"""The verbs of the agent and its session: status, unlock, lock, stop, passwd, prompts, shells,
events, folders of runs.
"""

import os
from typing import Any

import trio

from secret_agent.broker import Caller
from secret_agent.clock import rfc3339
from secret_agent.core import Agent
from secret_agent.events import Listener
from secret_agent.server.connection import Connection
from secret_agent.shells import claimed_shell
from secret_agent.unlock import change_passphrase, unlock_store
from secret_agent.workdirs import is_tmpfs
from secret_agent_client.errors import InvalidError, SecretAgentError
from secret_agent_client.version import PROTOCOL, __version__

Body = dict[str, Any]


async def status(agent: Agent, _connection: Connection, caller: Caller, _body: Body) -> Body:
    """What `status --json` shows; through a scope, only what concerns the scope."""
    session = agent.session
    state = session.state if session.overdue(agent.clock.boot()) is None else "locked"
    shown: Body = {
        "version": __version__,
        "protocol": PROTOCOL,
        "pid": os.getpid(),
        "state": state,
        "scope": caller.scope,
    }
    if caller.scope is not None:
        return shown
    unlocked = state == "unlocked"
    table, wall_of = agent.book.table, agent.clock.wall_of
    policy, problem = agent.policy.current(), agent.policy.problem
    seq, head = agent.audit.head
    secrets = await agent.store.call(lambda store: store.count()) if unlocked else None
    shown |= {
        "socket": str(agent.places.socket),
        "unlocked_at": _time(session.unlocked_at, wall_of),
        "locks_at": _time(session.locks_at, wall_of) if unlocked else None,
        "idle_locks_at": _time(session.idle_locks_at(), wall_of),
        "uptime_s": int(agent.clock.boot() - agent.started),
        "store": {"path": str(agent.places.store), "secrets": secrets},
        "providers": [
            {
                "name": "store",
                "kind": "store",
                "mounts": ["**"],
                "state": "ready" if unlocked else state,
                "detail": agent.store.trouble,
            }
        ],
        "leases": {"active": len(table), "pending_revocation": 0},
        "shells": len(agent.shells),
        "scopes": len(agent.scopes),
        "audit": {
            "path": str(agent.audit.path),
            "records": seq,
            "head": head,
            "state": agent.audit.trouble or "ok",
        },
        "policy": {
            "source": policy.source,
            "rules": len(policy.rules),
            "digest": policy.digest,
            "problem": problem,
        },
    }
    return shown


def _time(boot_s: float | None, wall_of: Any) -> str | None:
    return None if boot_s is None else rfc3339(wall_of(boot_s))


async def unlock(agent: Agent, _connection: Connection, caller: Caller, body: Body) -> Body:
    """Open the session; make the store where there is none and the client asks for that."""
    created, how = await unlock_store(
        agent,
        caller.holder,
        passphrase=body.get("passphrase"),
        keyring=body.get("keyring", False),
        create=body.get("create", False),
        lifetime_s=body.get("lifetime_s"),
    )
    locks_at = agent.session.next_deadline()
    return {
        "created": created,
        "state": agent.session.state,
        "how": how,
        "locks_at": _time(locks_at, agent.clock.wall_of),
        "warning": agent.store.trouble,
    }


async def prompt_claim(agent: Agent, connection: Connection, _caller: Caller, _body: Body) -> Body:
    """Whether this client is to ask the person, or somebody else's prompt has opened the
    session.
    """
    if agent.session.state == "unlocked":
        return {"prompt": False, "state": "unlocked"}
    asks = await agent.desk.claim(connection)
    return {"prompt": asks, "state": agent.session.state}


async def prompt_dismiss(
    agent: Agent, connection: Connection, _caller: Caller, _body: Body
) -> Body:
    """The person at this client's prompt said no: all who wait are told so."""
    agent.desk.dismissed(connection)
    return {}


async def lock(agent: Agent, _connection: Connection, caller: Caller, _body: Body) -> Body:
    """End the session."""
    await agent.broker.allow(caller, "admin", None, needs_session=False)
    return {"ended": await agent.lock("asked to")}


async def stop(agent: Agent, _connection: Connection, caller: Caller, _body: Body) -> Body:
    """End the agent, after this reply."""
    try:
        await agent.broker.allow(caller, "admin", None, needs_session=False)
    except SecretAgentError as error:
        # A log that cannot be written must not keep an agent alive: stopping serves nothing.
        if error.code != "unavailable":
            raise
    ended = agent.end_leases(agent.book.table, "stopped")
    agent.stop()
    return {"ended": ended, "pending": 0}


async def passwd(agent: Agent, _connection: Connection, caller: Caller, body: Body) -> Body:
    """Change the passphrase: the key is wrapped anew, nothing is encrypted anew."""
    await agent.broker.allow(caller, "admin", None)
    await change_passphrase(agent, body.get("old", b""), body.get("new", b""))
    return {}


async def register(agent: Agent, _connection: Connection, caller: Caller, body: Body) -> Body:
    """Register the calling shell."""
    shell = claimed_shell(caller.holder, body.get("pid"))
    if shell is None:
        return {"shell": None, "shells": len(agent.shells)}
    agent.shells.register(*shell, opener=caller.open_pidfd)
    return {"shell": {"pid": shell[0].pid, "name": shell[1]}, "shells": len(agent.shells)}


async def unregister(agent: Agent, _connection: Connection, caller: Caller, body: Body) -> Body:
    """The courtesy of an exit hook: end the shell's leases now rather than when the kernel
    tells.
    """
    shell = claimed_shell(caller.holder, body.get("pid"))
    if shell is not None and agent.shells.unregister(shell[0]):
        agent.end_leases(agent.book.table.of_process(shell[0]), "shell-gone")
    return {"shells": len(agent.shells)}


async def events(agent: Agent, connection: Connection, caller: Caller, body: Body) -> Body:
    """Send events on this connection from now on."""
    if body.get("audit") and caller.scope is not None:
        raise InvalidError("a scope's socket does not tell of the audit log")
    if connection.listener is None:
        connection.listener = Listener(caller.holder.process, caller.scope, connection.push)
        agent.hub.add(connection.listener)
    connection.listener.audit = connection.listener.audit or body.get("audit", False)
    return {"subscribed": True}


async def workdir(agent: Agent, _connection: Connection, caller: Caller, _body: Body) -> Body:
    """A folder for the secret files of a run, removed with the asking process."""
    agent.session.check(agent.clock.boot())
    path = agent.workdirs.make(caller.holder.process)
    return {"path": str(path), "tmpfs": is_tmpfs(path)}


async def doctor(agent: Agent, _connection: Connection, caller: Caller, _body: Body) -> Body:
    """What protects here, as the agent itself can try it."""
    from secret_agent.doctor import checks

    return {"checks": await trio.to_thread.run_sync(checks, agent.places, caller.holder)}


HANDLERS = {
    "status": status,
    "unlock": unlock,
    "prompt-claim": prompt_claim,
    "prompt-dismiss": prompt_dismiss,
    "lock": lock,
    "stop": stop,
    "passwd": passwd,
    "register": register,
    "unregister": unregister,
    "events": events,
    "workdir": workdir,
    "doctor": doctor,
}
