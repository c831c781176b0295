"""The one way a value leaves: identify -> session -> scope -> policy -> resolve -> lease -> audit
-> reply.

Each step is one call in `fetch`, in this order, and nothing else in the agent hands out a value.
Rules:

* a decision is recorded, durably, before its value is returned; where it cannot be recorded
  nothing is served;
* a denial names the rule and the failing condition; it is made before anybody looks whether the
  secret exists, so that a
  denied name and an absent one cannot be told apart by it;
* after every await that can take long the session and the lease are looked at again: a lock that
  came in between wins.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from secret_agent.clock import Clock
from secret_agent.holder import open_pidfd
from secret_agent.leases.ending import LeaseBook, Opener
from secret_agent.leases.table import Binding, Lease
from secret_agent.model import DEFAULT_STAGE, Action, Decision, Holder, ProcessKey, Request
from secret_agent.policy.decide import decide, denial
from secret_agent.policy.rules import Policy
from secret_agent.scopes import ScopeTable
from secret_agent.secret_types.schema import get_type
from secret_agent.session import Session, locked_error
from secret_agent.store_access import Entry, StoreAccess
from secret_agent_client.errors import (
    DeniedError,
    ExpiredError,
    InvalidError,
    NotFoundError,
    SecretAgentError,
    UnavailableError,
)
from secret_agent_client.value import SecretValue

MAX_LEASES = 100_000  # alive at once; what a hostile client can make us hold is bounded by it
CHANNELS = ("stdout", "env", "file", "inject", "clipboard", "library")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, freshly identified for this very request."""

    holder: Holder
    open_pidfd: Opener = (
        open_pidfd  # of the processes that were looked at; the peer's own is surest
    )

    @property
    def scope(self) -> str | None:
        return self.holder.scope


@dataclass(frozen=True, slots=True)
class Ask:
    """A request for a value.  `stage` is this one and no other; `prefer_stage` falls back to the
    unnamed one.
    """

    name: str
    field: str | None = None
    version: int | None = None
    stage: str | None = None
    prefer_stage: str | None = None
    everything: bool = False
    ttl_s: int | None = None
    uses: int | None = None
    reason: str | None = None
    binding: Binding = "process"
    channel: str = "library"


@dataclass(frozen=True, slots=True)
class Grant:
    """What `fetch` returns: a value's fields and the lease they go out under."""

    entry: Entry
    primary: str
    fields: dict[str, SecretValue]
    lease: Lease


@dataclass(slots=True)
class Broker:
    """The parts that a decision needs.  `record` writes to the audit log and returns when it is
    durable.
    """

    clock: Clock
    session: Session
    scopes: ScopeTable
    store: StoreAccess
    book: LeaseBook
    record: Callable[[dict[str, Any]], Awaitable[None]]
    policy: Callable[[], Policy]
    default_ttl_s: int
    is_registered: Callable[[ProcessKey], bool]  # whether a process is a registered shell
    last_used: dict[tuple[str, str], float]

    async def fetch(self, caller: Caller, ask: Ask) -> Grant:
        """The value that is asked for, under a lease.

        Raises LockedError, DeniedError, NotFoundError, ExpiredError, InvalidError,
        UnavailableError; each but the last
        has been recorded.
        """
        async with Recorded(self, caller, "read", ask.name, ask.stage or ask.prefer_stage) as note:
            self.session.check(self.clock.boot())
            generation = self.session.generation
            stage = await self._stage(caller, ask)
            decision = self.permit(caller, "read", ask.name, stage, reason=ask.reason)
            note.update(rule=decision.rule, policy=decision.policy_digest, stage=stage)
            entry = await self._resolve(ask, stage)
            primary, fields = self._fields(entry, ask)
            lease, is_new = self._lease(caller, ask, entry, decision, tuple(fields))
        await self._record_grant(caller, ask, decision, lease, is_new=is_new)
        if self.session.generation != generation or lease.ended is not None:
            raise locked_error("locked")
        self.last_used[(entry.name, entry.stage)] = self.clock.wall()
        return Grant(entry, primary, fields, lease)

    async def allow(
        self,
        caller: Caller,
        action: Action,
        name: str | None,
        stage: str = DEFAULT_STAGE,
        *,
        needs_session: bool = True,
    ) -> Decision:
        """A decision on something other than a value, recorded before it is acted on.  Raises as
        `fetch` does.
        """
        async with Recorded(self, caller, action, name, stage) as note:
            if needs_session:
                self.session.check(self.clock.boot())
            decision = self.permit(caller, action, name, stage)
            note.update(rule=decision.rule, policy=decision.policy_digest)
        await self.record(
            {
                "event": "decision",
                "action": action,
                "outcome": "allow",
                "secret": name,
                "stage": stage or None,
                "holder": caller.holder,
                "rule": decision.rule,
                "policy": decision.policy_digest,
            }
        )
        return decision

    def permit(
        self,
        caller: Caller,
        action: Action,
        name: str | None,
        stage: str,
        *,
        reason: str | None = None,
    ) -> Decision:
        """The allowing decision of scope and policy; pure but for the clock.  Raises DeniedError,
        NotFoundError.
        """
        policy, holder = self.policy(), caller.holder
        if caller.scope is not None:
            holder = self._through_scope(caller.scope, name, stage, action)
        decision = decide(policy, Request(holder, action, name, stage, reason=reason))
        if decision.allowed and caller.scope is not None:
            # The maker's standing allows; what the holder itself is denied stays denied.
            asked = Request(caller.holder, action, name, stage, reason=reason)
            decision = denial(policy, asked) or decision
        if not decision.allowed:
            raise DeniedError(
                decision.because or "no rule allows it", remedy=decision.remedy, rule=decision.rule
            )
        return decision

    def may(self, caller: Caller, action: Action, name: str, stage: str) -> Decision | None:
        """The allowing decision, or None; for listings, which leave out what is denied."""
        try:
            return self.permit(caller, action, name, stage)
        except SecretAgentError:
            return None

    @staticmethod
    def primary_of(kind: str, stored: tuple[str, ...]) -> str:
        """The field that is meant where none is named: the type's own, or the only one there is."""
        primary = get_type(kind).primary
        return stored[0] if primary not in stored and len(stored) == 1 else primary

    def _through_scope(self, scope: str, name: str | None, stage: str, action: Action) -> Holder:
        """The maker by whose standing a scope's request is judged.  Raises NotFoundError for what
        is outside.
        """
        self.scopes.remaining_s(scope, self.clock.boot())
        outside = name is not None and not self.scopes.permits(scope, name, stage)
        if outside or action not in ("read", "list", "delegate"):
            raise NotFoundError("no such secret", remedy="secret-agent ls")
        return self.scopes.lineage(scope)[-1].maker

    async def _stage(self, caller: Caller, ask: Ask) -> str:
        if ask.stage is not None:
            return ask.stage
        if ask.prefer_stage is None:
            return self._scope_stage(caller)
        # Deciding on the preferred stage comes first: what is denied there is not served from
        # elsewhere.
        self.permit(caller, "read", ask.name, ask.prefer_stage, reason=ask.reason)
        try:
            await self.store.entry(ask.name, ask.prefer_stage, ask.version)
        except NotFoundError:
            return DEFAULT_STAGE
        return ask.prefer_stage

    def _scope_stage(self, caller: Caller) -> str:
        """A scope made for one stage means that stage where the request names none."""
        if caller.scope is None:
            return DEFAULT_STAGE
        return self.scopes.get(caller.scope).stage or DEFAULT_STAGE

    async def _resolve(self, ask: Ask, stage: str) -> Entry:
        entry = await self.store.entry(ask.name, stage, ask.version)
        if entry.expires_at is not None and entry.expires_at <= self.clock.wall():
            raise ExpiredError(
                f"{ask.name} has expired", remedy=f"secret-agent set {ask.name} --stdin"
            )
        return entry

    def _fields(self, entry: Entry, ask: Ask) -> tuple[str, dict[str, SecretValue]]:
        """The primary field's name, and the values asked for, derived ones included."""
        stored = entry.field_names
        primary = self.primary_of(entry.type, stored)
        derivable = get_type(entry.type).derivable(stored)
        if ask.everything:
            wanted: tuple[str, ...] = (*stored, *derivable)
        else:
            wanted = (ask.field or primary,)
        for name in wanted:
            if name not in stored and name not in derivable:
                raise NotFoundError(
                    f"{entry.name} has no field {name}; it has {', '.join(stored)}",
                    remedy=f"secret-agent describe {entry.name}",
                )
        return primary, {name: self._open(entry, ask, name, derivable) for name in wanted}

    def _open(self, entry: Entry, ask: Ask, name: str, derivable: tuple[str, ...]) -> SecretValue:
        if name not in derivable:
            return self.store.open_field(entry, ask.version, name)
        opened = {
            part: self.store.open_field(entry, ask.version, part).reveal()
            for part in entry.field_names
        }
        return SecretValue(get_type(entry.type).derive(name, opened))

    def _lease(
        self, caller: Caller, ask: Ask, entry: Entry, decision: Decision, fields: tuple[str, ...]
    ) -> tuple[Lease, bool]:
        """The lease of this grant, new or the holder's own of before, and whether it is new."""
        now = self.clock.boot()
        most_s = float(decision.limits.ttl_s)
        if caller.scope is not None:
            most_s = min(most_s, self.scopes.remaining_s(caller.scope, now))
            self.scopes.spend(caller.scope)
        ttl_s = min(ask.ttl_s or self.default_ttl_s, most_s)
        bound = _bound_process(caller.holder, ask.binding, self.is_registered)
        key = (bound, caller.scope, entry.name, entry.stage, entry.version, fields)
        before = self.book.table.find(key)
        if before is not None and now < before.expires:
            self.book.table.use(before, now, ttl_s=ttl_s, most_s=most_s)
            before.holder, before.channel = caller.holder, ask.channel
            return before, False
        if before is not None:
            self.book.end([before], "expired")
        if len(self.book.table) >= MAX_LEASES:
            raise UnavailableError(
                f"{MAX_LEASES} leases are alive", remedy="secret-agent revoke --all"
            )
        lease = Lease(
            secret=entry.name,
            stage=entry.stage,
            version=entry.version,
            fields=fields,
            holder=caller.holder,
            binding=ask.binding,
            bound=bound,
            scope=caller.scope,
            channel=ask.channel,
            rule=decision.rule,
            issued=now,
            expires=now + ttl_s,
            most_until=now + most_s,
            uses_left=_uses_left(ask, decision),
        )
        self.book.begin(lease, opener=caller.open_pidfd)
        return lease, True

    async def _record_grant(
        self, caller: Caller, ask: Ask, decision: Decision, lease: Lease, *, is_new: bool
    ) -> None:
        try:
            await self.record(
                {
                    "event": "decision",
                    "action": "read",
                    "outcome": "allow",
                    "secret": lease.secret,
                    "stage": lease.stage or None,
                    "version": lease.version,
                    "fields": lease.fields,
                    "holder": caller.holder,
                    "rule": decision.rule,
                    "policy": decision.policy_digest,
                    "reason": ask.reason,
                    "lease": lease.id,
                    "channel": ask.channel,
                }
            )
        except BaseException:
            if is_new:
                self.book.end([lease], "revoked")
            raise


class Recorded:
    """Records the refusal of what fails inside it, and lets the refusal go on."""

    def __init__(
        self, broker: Broker, caller: Caller, action: Action, name: str | None, stage: str | None
    ) -> None:
        self._broker = broker
        self._note: dict[str, Any] = {
            "event": "decision",
            "action": action,
            "outcome": "deny",
            "secret": name,
            "stage": stage or None,
            "holder": caller.holder,
        }

    async def __aenter__(self) -> dict[str, Any]:
        return self._note

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, SecretAgentError) or isinstance(error, UnavailableError):
            return
        self._note["because"] = f"{error.code}: {error.message}"
        if error.rule is not None:
            self._note["rule"] = error.rule
        await self._broker.record(self._note)


def _uses_left(ask: Ask, decision: Decision) -> int | None:
    """How often the lease may be asked for again, this being the first time."""
    uses = [n for n in (ask.uses, decision.limits.uses) if n is not None]
    if uses and min(uses) < 1:
        raise InvalidError("a lease needs at least one use")
    return min(uses) - 1 if uses else None


def _bound_process(
    holder: Holder, binding: Binding, is_registered: Callable[[ProcessKey], bool]
) -> ProcessKey | None:
    """The process whose end ends the lease.

    For "shell": the nearest registered shell above the holder, because what started it may have
    used a shell of its own
    for a moment (direnv does); else the nearest shell; else the process that started the holder;
    else, where that is
    not of our own uid, the holder itself.  Inside a scope it is the holder itself: what is above
    it may be another's.
    """
    if binding == "session":
        return None
    if binding == "process" or holder.scope is not None:
        return holder.process
    for ancestor in holder.ancestry:
        if is_registered(ancestor.key):
            return ancestor.key
    if holder.shell is not None and holder.shell != holder.process:
        return holder.shell
    parent = holder.ancestry[0] if holder.ancestry else None
    if parent is not None and parent.uid == holder.uid and parent.key.pid > 1:
        return parent.key
    return holder.process
