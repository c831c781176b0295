"""The library for blocking programs: `connect()`, values, leases that end with their block.

Rules that hold here: a value is a SecretValue from the moment it arrives; nothing is asked of a
person (a locked session is LockedError: whoever runs the program unlocks it); a lease that was
taken is given back by the last who holds it (held.py), also when a block is left by an exception.
"""

from secret_agent_client.connection import CALL_S, DIAL_S, Connection
from secret_agent_client.errors import SecretAgentError
from secret_agent_client.held import hold, let_go
from secret_agent_client.references import Reference, parse_reference
from secret_agent_client.value import SecretValue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any, Self

    Event = dict[str, Any]

CLIENT = "secret-agent library"


class Lease:
    """Values lent until `expires_at` (RFC 3339), or until revoked.

    fields: SecretValue by field name.  They are wiped when the block that holds the lease ends.
    """

    __slots__ = ("expires_at", "fields", "id", "primary", "renewable", "ttl_s", "version")

    def __init__(self, reply: "Mapping[str, Any]") -> None:
        lease = reply["lease"]
        self.id: str = lease["id"]
        self.expires_at: str = lease["expires_at"]
        self.ttl_s: int = lease["ttl_s"]
        self.renewable: bool = lease["renewable"]
        self.primary: str = reply["primary"]
        self.version: int = reply["version"]
        self.fields = {name: SecretValue(value) for name, value in reply["fields"].items()}

    @property
    def value(self) -> SecretValue:
        """The field that was asked for, or the type's primary one.  KeyError where neither is."""
        if len(self.fields) == 1:
            return next(iter(self.fields.values()))
        return self.fields[self.primary]

    def renewed(self, reply: "Mapping[str, Any]") -> None:
        """Take over what the reply to a `renew` says."""
        self.expires_at = reply["expires_at"]
        self.ttl_s = reply["ttl_s"]

    def wipe(self) -> None:
        """Overwrite our copies of the values."""
        for value in self.fields.values():
            value.wipe()
        self.fields.clear()

    def __repr__(self) -> str:
        return f"Lease(id={self.id!r}, expires_at={self.expires_at!r})"


class LeaseBlock:
    """What `Client.lease()` returns: take the lease on entry, give it back on exit."""

    __slots__ = ("_body", "_client", "_lease")

    def __init__(self, client: "Client", body: "dict[str, Any]") -> None:
        self._client = client
        self._body = body
        self._lease: Lease | None = None

    def __enter__(self) -> Lease:
        self._lease = Lease(self._client.connection.call("get", self._body))
        hold(self._lease.id)
        return self._lease

    def __exit__(self, kind: object, *_: object) -> None:
        lease, self._lease = self._lease, None
        if lease is None:
            return
        lease.wipe()
        if not let_go(lease.id):
            return
        try:
            self._client.connection.call("release", {"leases": [lease.id]})
        except SecretAgentError:
            # Over already (expired, revoked, agent gone) is what was wanted; and an error here must
            # not hide the one that ended the block.
            return


class Client:
    """An open connection.  Not for several threads at once: each connects for itself."""

    __slots__ = ("connection",)

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; leases that are bound to this process end with the process."""
        self.connection.close()

    def get(
        self, reference: str | Reference, *, ttl_s: int | None = None, reason: str | None = None
    ) -> SecretValue:
        """The field that the reference names, or the type's primary one."""
        body = get_body(reference, ttl_s=ttl_s, reason=reason)
        reply = self.connection.call("get", body, deadline_s=CALL_S)
        hold(reply["lease"]["id"])
        (value,) = reply["fields"].values()
        return SecretValue(value)

    def lease(
        self, reference: str | Reference, *, ttl_s: int | None = None, reason: str | None = None
    ) -> LeaseBlock:
        """`with client.lease("payments/db") as lease:` every field, given back with the block.

        With a `#field` in the reference, that field alone.
        """
        return LeaseBlock(self, lease_body(reference, ttl_s=ttl_s, reason=reason))

    def renew(self, lease: Lease, *, ttl_s: int | None = None) -> None:
        """Prolong a lease, never past its rule's most.  Raises ExpiredError where it is over."""
        body: dict[str, Any] = {"lease": lease.id}
        if ttl_s is not None:
            body["ttl_s"] = ttl_s
        lease.renewed(self.connection.call("renew", body))

    def events(self, *, timeout_s: float | None = None) -> "Iterator[Event]":
        """Events as they come: `{"event": name, "body": {…}}`; see client/PROTOCOL.md.

        Ends where none came for `timeout_s` (None: never).  Raises NoAgentError where the agent
        goes away.  Calls on the same client in between are fine: no event is lost by them.
        """
        self.connection.call("events")
        while (event := self.connection.next_event(timeout_s)) is not None:
            yield event


def connect(path: str | None = None, *, deadline_s: float = DIAL_S) -> Client:
    """A client of the agent that the environment names, or that listens at `path`.

    Raises NoAgentError where none answers, UnavailableError at the deadline, InvalidError for a
    socket or a folder that is unsafe.
    """
    return Client(Connection.connect(path, deadline_s=deadline_s, client=CLIENT))


def get_body(
    reference: str | Reference, *, ttl_s: int | None, reason: str | None
) -> "dict[str, Any]":
    """The body of a `get` for a program.  Raises InvalidError for what is no reference."""
    known = parse_reference(reference) if isinstance(reference, str) else reference
    body: dict[str, Any] = {
        "name": known.name,
        "field": known.field,
        "version": known.version,
        "stage": known.stage,
        "ttl_s": ttl_s,
        "reason": reason,
        "binding": "process",
        "channel": "library",
    }
    return {key: value for key, value in body.items() if value is not None}


def lease_body(
    reference: str | Reference, *, ttl_s: int | None, reason: str | None
) -> "dict[str, Any]":
    """The same for a lease: every field, where the reference names none."""
    body = get_body(reference, ttl_s=ttl_s, reason=reason)
    return body if "field" in body else {**body, "all": True}
