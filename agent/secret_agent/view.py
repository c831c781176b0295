"""How the agent's frozen values look in JSON: leases, holders, secrets, scopes, status.  Names and
keys are CLI.md's.
"""

from typing import TYPE_CHECKING, Any

from secret_agent.clock import Clock, rfc3339
from secret_agent.leases.table import Lease
from secret_agent.model import Holder
from secret_agent.scopes import Scope

if TYPE_CHECKING:
    from secret_agent.store.records import SecretInfo, VersionInfo

LAST_TIME = 253_402_300_799  # Unix seconds: the end of the year 9999, the last of RFC 3339


def holder_view(holder: Holder) -> dict[str, Any]:
    """Who holds."""
    shell = None
    if holder.shell is not None:
        shell = {"pid": holder.shell.pid, "name": holder.shell_name}
    return {
        "uid": holder.uid,
        "pid": holder.pid,
        "exe": holder.exe,
        "cwd": holder.cwd,
        "tty": holder.tty,
        "shell": shell,
        "container": holder.container,
        "ci": None,
    }


def lease_view(lease: Lease, clock: Clock) -> dict[str, Any]:
    """One entry of `leases --json`."""
    return {
        "id": lease.id,
        "secret": lease.secret,
        "stage": lease.stage or None,
        "version": lease.version,
        "fields": list(lease.fields),
        "holder": holder_view(lease.holder),
        "binding": "scope" if lease.scope is not None else lease.binding,
        "bound_pid": None if lease.bound is None else lease.bound.pid,
        "scope": lease.scope,
        "channel": lease.channel,
        "issued_at": rfc3339(clock.wall_of(lease.issued)),
        "expires_at": rfc3339(clock.wall_of(lease.expires)),
        "uses_left": lease.uses_left,
        "provider_lease": None,
        "state": "active",
    }


def granted_view(lease: Lease, clock: Clock) -> dict[str, Any]:
    """The `lease` of a `get`."""
    return {
        "id": lease.id,
        "expires_at": rfc3339(clock.wall_of(lease.expires)),
        "ttl_s": max(0, round(lease.expires - clock.boot())),
        "renewable": lease.renewable,
        "uses_left": lease.uses_left,
    }


def holding_view(lease: Lease, clock: Clock) -> dict[str, Any]:
    """One entry of `who --json`: the living process that a lease is bound to, or that asked for
    it.
    """
    process = lease.bound or lease.holder.process
    holder = holder_view(lease.holder)
    return {
        "secret": lease.secret,
        "stage": lease.stage or None,
        "fields": list(lease.fields),
        "pid": process.pid,
        "start_time": process.start_time,
        "exe": _exe_of(lease, process.pid),
        "shell": holder["shell"],
        "container": lease.holder.container,
        "scope": lease.scope,
        "channel": lease.channel,
        "since": rfc3339(clock.wall_of(lease.issued)),
        "until": rfc3339(clock.wall_of(lease.expires)),
        "lease": lease.id,
        "alive": True,
    }


def secret_view(info: "SecretInfo", last_used: float | None) -> dict[str, Any]:
    """One entry of `ls --json`."""
    return {
        "name": info.name,
        "stage": info.stage or None,
        "type": info.type,
        "version": info.version,
        "versions": info.versions,
        "created_at": _stored(info.created_at),
        "updated_at": _stored(info.updated_at),
        "fields": list(info.field_names),
        "note": info.note,
        "expires_at": _stored(info.expires_at),
        "rotate_due": _stored(info.rotate_due),
        "last_used": _stored(last_used),
    }


def version_view(version: "VersionInfo") -> dict[str, Any]:
    """One entry of `history --json`."""
    return {
        "version": version.version,
        "created_at": _stored(version.created_at),
        "by": version.by,
        "note": version.note,
        "deleted": version.deleted,
        "fields": list(version.field_names),
    }


def scope_view(scope: Scope, clock: Clock, *, connections: int, leases: int) -> dict[str, Any]:
    """One entry of `scopes --json`."""
    return {
        "id": scope.id,
        "socket": scope.socket_path,
        "allow": list(scope.allow),
        "deny": list(scope.deny),
        "stage": scope.stage,
        "uids": sorted(scope.uids),
        "expires_at": rfc3339(clock.wall_of(scope.expires)),
        "uses_left": scope.uses_left,
        "bound": None if scope.bound is None else {"pid": scope.bound.pid},
        "parent": scope.parent,
        "depth": scope.depth,
        "connections": connections,
        "leases": leases,
    }


def _stored(wall_s: float | None) -> str | None:
    """A time that was stored.  One that no calendar can show (a restored backup may hold any) is
    shown as the last that it can, rather than failing the whole list.
    """
    return None if wall_s is None else rfc3339(min(wall_s, LAST_TIME))


def _exe_of(lease: Lease, pid: int) -> str:
    if pid == lease.holder.pid:
        return lease.holder.exe
    for ancestor in lease.holder.ancestry:
        if ancestor.key.pid == pid:
            return ancestor.exe
    return ""
