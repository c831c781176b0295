"""The leases that a run holds: renewed while its child lives, given back at its end.

    renewed    at two thirds of their term; at the rule's maximum the very same version is asked for
               again, which is a new decision and, where it is yes, a new term
    lost       when the agent says that one ended, that it stops, or when it is gone: each is a Loss
    given back at the end, so that they do not outlive the command

Rules that hold here: an event about a lease that is not ours is no loss; `used-up` and `released`
are none either (the value was given, and stays given); a lease whose end the agent never tells of
(it hangs) is lost OVERDUE_S after its term.  Times are of CLOCK_BOOTTIME, which counts suspend.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from secret_agent_client.errors import SecretAgentError, UnavailableError

OVERDUE_S = 5.0  # seconds after its term at which a lease counts as ended without being told
RENEW_AT = 2 / 3  # of the term; what Vault's agent does
RETRY_S = 1.0  # seconds between two tries to renew while the agent does not answer
ANSWER_S = 10.0  # seconds that the agent may take; the child's output waits meanwhile
# Seconds for an event that has arrived to be read: a connection takes 0 for "only what was read".
ARRIVED_S = 0.001

_NO_LOSS = frozenset({"used-up", "released"})
_GONE = "the agent is gone"


class Agent(Protocol):
    """What is asked of a connection to the agent."""

    def fileno(self) -> int: ...
    def call(
        self, verb: str, body: dict[str, Any] | None = None, *, deadline_s: float = 30.0
    ) -> dict[str, Any]: ...
    def next_event(self, timeout_s: float) -> dict[str, Any] | None: ...


@dataclass(frozen=True, slots=True)
class Loss:
    """A secret that the child may not hold any more.  secret: None where it is all of them."""

    secret: str | None
    why: str


@dataclass(slots=True)
class _Held:
    secret: str
    term_s: float
    expires: float
    renew_at: float | None
    again: dict[str, Any] | None  # the `get` that asks for the same version once more


def boot_time() -> float:
    """Seconds on the clock that goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Leases:
    """The leases of one run."""

    def __init__(self, agent: Agent | None) -> None:
        self._agent = agent
        self._held: dict[str, _Held] = {}

    @property
    def ids(self) -> list[str]:
        return list(self._held)

    def fileno(self) -> int | None:
        """What becomes readable when the agent says something; None once it is gone."""
        return None if self._agent is None or self._is_cut_off else self._agent.fileno()

    @property
    def _is_cut_off(self) -> bool:
        """A connection on which a deadline passed is closed, which no poll would tell."""
        return self._agent is not None and self._agent.fileno() < 0

    def hold(
        self,
        secret: str,
        lease: Mapping[str, Any],
        now: float,
        *,
        again: dict[str, Any] | None = None,
    ) -> None:
        """Keep the lease that a `get` came with; `again` would ask for it once more."""
        term_s = float(lease["ttl_s"])
        if lease.get("uses_left") is not None:
            again = None  # asking again would take a use, and not prolong
        renewable = lease["renewable"] or again is not None
        renew_at = now + term_s * RENEW_AT if renewable else None
        self._held[lease["id"]] = _Held(secret, term_s, now + term_s, renew_at, again)

    @property
    def deadline(self) -> float | None:
        """When `take` has something to do although the agent is silent."""
        if self._agent is None:
            return None
        if self._is_cut_off:
            return 0.0
        return min(
            (
                held.expires + OVERDUE_S if held.renew_at is None else held.renew_at
                for held in self._held.values()
            ),
            default=None,
        )

    def take(self, now: float) -> list[Loss]:
        """Hear what the agent says and renew what is due; what was lost by that."""
        losses: list[Loss] = []
        try:
            losses += self._hear()
            self._renew_due(now)
            losses += self._hear()  # what was read together with the reply to a renewal
        except SecretAgentError:
            losses += self._lose_all(_GONE)
        return losses + self._overdue(now)

    def forget(self) -> list[str]:
        """The ids held until now, which are held no more; for a restart, which gets new ones."""
        ids = self.ids
        self._held.clear()
        return ids

    def release(self, ids: Iterable[str] | None = None) -> None:
        """Give leases back, all by default.  An agent that does not hear it ends them with us."""
        wanted = self.forget() if ids is None else list(ids)
        try:
            for at in range(0, len(wanted), 256):  # entries of a list on the wire
                if self._agent is not None:
                    part = wanted[at : at + 256]
                    self._agent.call("release", {"leases": part}, deadline_s=ANSWER_S)
        except SecretAgentError:
            self._agent = None

    def _hear(self) -> list[Loss]:
        losses: list[Loss] = []
        while self._agent is not None:
            event = self._agent.next_event(ARRIVED_S)
            if event is None:
                break
            losses += self._heard(event["event"], event.get("body", {}))
        return losses

    def _heard(self, event: str, body: Mapping[str, Any]) -> list[Loss]:
        if event == "agent-stopping":
            return self._lose_all("the agent stops")
        if event != "lease-ended":
            return []
        held = self._held.pop(str(body.get("lease")), None)
        why = str(body.get("why"))
        if held is None or why in _NO_LOSS:
            return []
        return [Loss(held.secret, why)]

    def _lose_all(self, why: str) -> list[Loss]:
        had = bool(self._held)
        self._held.clear()
        self._agent = None
        return [Loss(None, why)] if had else []

    def _renew_due(self, now: float) -> None:
        for lease_id, held in list(self._held.items()):
            if self._agent is not None and held.renew_at is not None and now >= held.renew_at:
                self._renew(self._agent, lease_id, held, now)

    def _renew(self, agent: Agent, lease_id: str, held: _Held, now: float) -> None:
        body = {"lease": lease_id, "ttl_s": max(1, int(held.term_s))}
        try:
            reply = agent.call("renew", body, deadline_s=ANSWER_S)
        except UnavailableError:
            held.renew_at = now + RETRY_S if now < held.expires else None
        except SecretAgentError:
            held.renew_at = None  # the end of its term is told like any other
        else:
            left_s = float(reply["ttl_s"])
            before, held.expires = held.expires, max(held.expires, now + left_s)
            # The agent tells whole seconds: less is no prolongation, unless the term is short.
            is_longer = held.expires > before + min(1.0, held.term_s / 10)
            held.renew_at = now + left_s * RENEW_AT if is_longer else None
            if not is_longer and held.again is not None:
                self._ask_again(agent, lease_id, held, held.again, now)

    def _ask_again(
        self, agent: Agent, lease_id: str, held: _Held, again: dict[str, Any], now: float
    ) -> None:
        """Have it decided anew; a no is heard of when the term ends, like any other end."""
        try:
            lease = agent.call("get", again, deadline_s=ANSWER_S)["lease"]
        except SecretAgentError:
            return
        if lease["id"] != lease_id:
            del self._held[lease_id]
        before = held.expires
        self.hold(held.secret, lease, now, again=again)
        if now + float(lease["ttl_s"]) <= before + 1.0:
            self._held[lease["id"]].renew_at = None  # it is no longer than it was: do not insist

    def _overdue(self, now: float) -> list[Loss]:
        late = [key for key, held in self._held.items() if now > held.expires + OVERDUE_S]
        return [Loss(self._held.pop(key).secret, "expired") for key in late]
