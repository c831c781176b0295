"""The lease table: every grant that is alive, found by id, by bound process and by scope.

Pure: boot times are passed in, nothing is awaited, and what ended is returned for the caller to
announce.  Rules:

* a lease ends at the earliest of its expiry, its binding's end, its scope's end, the session's end
  and a revocation;
* renewal never passes `most_until`, whatever is asked; a lease at or past its expiry cannot be
  renewed;
* an id is a name, not a capability: the table checks nothing, the broker asks who may;
* a holder that asks again for what it already holds keeps its lease; a prompt hook that asks a
  thousand times has one.
"""

import heapq
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from secret_agent.model import Holder, ProcessKey
from secret_agent_client.errors import ExpiredError, InvalidError, NotFoundError
from secret_agent_client.references import glob_matches

K = TypeVar("K")

Binding = Literal["process", "shell", "session"]
Why = Literal[
    "expired",
    "revoked",
    "locked",
    "process-gone",
    "shell-gone",
    "scope-ended",
    "stopped",
    "released",
    "used-up",
]

GrantKey = tuple[ProcessKey | None, str | None, str, str, int, tuple[str, ...]]
"""(bound process, scope, secret, stage, version, fields): what makes two grants the same one."""


@dataclass(slots=True, eq=False)
class Lease:
    """One grant of one secret to one holder.  Times are boot times in seconds."""

    secret: str
    stage: str
    version: int
    fields: tuple[str, ...]
    holder: Holder
    binding: Binding
    bound: ProcessKey | None  # the process whose end ends the lease
    scope: str | None
    channel: str
    rule: str | None
    issued: float
    expires: float
    most_until: float
    uses_left: int | None = None
    id: str = field(default_factory=lambda: "l-" + secrets.token_hex(8))
    queued_at: float = 0.0  # the time under which it stands in the queue of expiries
    ended: Why | None = None

    @property
    def key(self) -> GrantKey:
        """What a second request for the same grant would have in common with this one."""
        return (self.bound, self.scope, self.secret, self.stage, self.version, self.fields)

    @property
    def renewable(self) -> bool:
        return self.expires < self.most_until


class LeaseTable:
    """All leases that are alive."""

    def __init__(self) -> None:
        self._by_id: dict[str, Lease] = {}
        self._by_key: dict[GrantKey, Lease] = {}
        self._by_process: dict[ProcessKey, dict[str, Lease]] = {}
        self._by_scope: dict[str, dict[str, Lease]] = {}
        self._queue: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Lease]:
        return iter(list(self._by_id.values()))

    def get(self, lease_id: str) -> Lease:
        """The lease of that id.  Raises NotFoundError."""
        lease = self._by_id.get(lease_id)
        if lease is None:
            raise NotFoundError("no such lease", remedy="secret-agent leases")
        return lease

    def find(self, key: GrantKey) -> Lease | None:
        """The lease that this grant already has, or None."""
        return self._by_key.get(key)

    def add(self, lease: Lease) -> bool:
        """Enter a lease; whether its process has to be watched from now on."""
        assert lease.id not in self._by_id, "a lease is entered once"  # noqa: S101  # a bug of ours
        self._by_id[lease.id] = lease
        self._by_key[lease.key] = lease
        self._queue_expiry(lease)
        if lease.scope is not None:
            self._by_scope.setdefault(lease.scope, {})[lease.id] = lease
        if lease.bound is None:
            return False
        leases = self._by_process.setdefault(lease.bound, {})
        leases[lease.id] = lease
        return len(leases) == 1

    def use(self, lease: Lease, now: float, *, ttl_s: float, most_s: float) -> None:
        """The holder of a lease asks for the same again: one use, and a new term unless uses are
        counted.

        Raises ExpiredError where its uses are spent: they come back only when its term is over.
        """
        if lease.uses_left is not None:
            if lease.uses_left == 0:
                raise ExpiredError(
                    "the uses that the rule grants are spent until this lease expires",
                    remedy="secret-agent leases",
                    rule=lease.rule,
                )
            lease.uses_left -= 1
            return
        lease.expires = max(lease.expires, now + min(ttl_s, most_s))
        lease.most_until = max(lease.most_until, now + most_s)

    def renew(self, lease_id: str, now: float, *, ttl_s: float | None) -> Lease:
        """Prolong a lease to now + ttl_s (its own first term by default), never past its maximum.

        Raises NotFoundError, ExpiredError for one that is over, InvalidError for a term below one
        second.
        """
        lease = self.get(lease_id)
        self.check_renewal(lease, now, ttl_s=ttl_s)
        term = ttl_s if ttl_s is not None else lease.expires - lease.issued
        lease.expires = max(lease.expires, min(now + term, lease.most_until))
        return lease

    @staticmethod
    def check_renewal(lease: Lease, now: float, *, ttl_s: float | None) -> None:
        """Raise ExpiredError for a lease that is over, InvalidError for a term below one second."""
        if now >= lease.expires:
            raise ExpiredError("that lease is over", remedy=f"secret-agent get {lease.secret}")
        if ttl_s is not None and ttl_s < 1:
            raise InvalidError("a renewal's ttl is at least one second")

    def select(
        self,
        *,
        ids: Iterable[str] = (),
        secret: str | None = None,
        pid: int | None = None,
        scope: str | None = None,
        everything: bool = False,
    ) -> list[Lease]:
        """The leases that any of the criteria names: ids, a glob of secrets, a holder's or bound
        pid, a scope.
        """
        wanted = set(ids)
        if everything:
            return list(self._by_id.values())
        return [
            lease
            for lease in self._by_id.values()
            if lease.id in wanted
            or (secret is not None and glob_matches(secret, lease.secret))
            or (pid is not None and pid in (lease.holder.pid, lease.bound and lease.bound.pid))
            or (scope is not None and lease.scope == scope)
        ]

    def of_process(self, process: ProcessKey) -> list[Lease]:
        """The leases that end with that process."""
        return list(self._by_process.get(process, {}).values())

    def of_scope(self, scope: str) -> list[Lease]:
        """The leases that were granted through that scope."""
        return list(self._by_scope.get(scope, {}).values())

    def remove(self, lease: Lease, why: Why) -> bool:
        """Take a lease out; whether its process has no lease left and need not be watched for
        leases.
        """
        lease.ended = why
        del self._by_id[lease.id]
        if self._by_key.get(lease.key) is lease:
            del self._by_key[lease.key]
        if lease.scope is not None:
            _forget(self._by_scope, lease.scope, lease.id)
        return lease.bound is not None and _forget(self._by_process, lease.bound, lease.id)

    def expired(self, now: float) -> list[Lease]:
        """The leases whose term is over; they are still in the table until `remove`."""
        over: list[Lease] = []
        while self._queue and self._queue[0][0] <= now:
            queued_at, lease_id = heapq.heappop(self._queue)
            lease = self._by_id.get(lease_id)
            if lease is None or lease.queued_at != queued_at:
                continue
            if lease.expires <= now:
                over.append(lease)
            else:
                self._queue_expiry(lease)
        return over

    def next_expiry(self) -> float | None:
        """The earliest boot time at which `expired` may have something; never later than the true
        one.
        """
        while self._queue and self._queue[0][1] not in self._by_id:
            heapq.heappop(self._queue)
        return self._queue[0][0] if self._queue else None

    def _queue_expiry(self, lease: Lease) -> None:
        lease.queued_at = lease.expires
        heapq.heappush(self._queue, (lease.expires, lease.id))


def _forget(index: "dict[K, dict[str, Lease]]", key: "K", lease_id: str) -> bool:
    """Take a lease out of an index; whether nothing is left under its key."""
    leases = index[key]
    del leases[lease_id]
    if not leases:
        del index[key]
    return not leases
