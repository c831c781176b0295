"""The session: new, locked or unlocked, until when, and how long a wrong passphrase makes wait.

Pure: no I/O, no tasks; boot times are passed in and what is to be done is returned.  Being past a
deadline counts as locked
from that moment on, whether or not a timer has fired: `check()` is asked at every request.
"""

from dataclasses import dataclass
from typing import Literal

from secret_agent_client.errors import LockedError

State = Literal["new", "locked", "unlocked"]

FIRST_DELAY_S = 0.5  # after the first wrong passphrase; doubles with each
MAX_DELAY_S = (
    16.0  # below the client's deadline for a reply, so that the person sees the true reason
)


@dataclass(slots=True)
class Session:
    """One an agent.  Lifetimes in seconds; None: no limit of that kind."""

    state: State = "locked"
    default_lifetime_s: float | None = None
    idle_s: float | None = None
    unlocked_at: float | None = None  # boot time
    locks_at: float | None = None  # boot time
    last_active: float = 0.0  # boot time
    failures: int = 0
    next_try_at: float = 0.0  # boot time
    generation: int = (
        0  # grows with every lock and unlock: tells a caller that it slept through one
    )

    def unlock(self, now: float, *, lifetime_s: float | None) -> None:
        """Open the session from now on; the shorter of the asked and the configured lifetime
        holds.
        """
        limits = [limit for limit in (lifetime_s, self.default_lifetime_s) if limit is not None]
        self.state = "unlocked"
        self.unlocked_at = self.last_active = now
        self.locks_at = now + min(limits) if limits else None
        self.failures = 0
        self.next_try_at = 0.0
        self.generation += 1

    def lock(self) -> bool:
        """Close the session; whether it was open."""
        was_open = self.state == "unlocked"
        if was_open:
            self.state = "locked"
            self.generation += 1
        self.unlocked_at = self.locks_at = None
        return was_open

    def touch(self, now: float) -> None:
        """A request that counts as activity was made."""
        self.last_active = now

    def idle_locks_at(self) -> float | None:
        """The boot time at which idleness will lock, as things stand."""
        if self.idle_s is None or self.state != "unlocked":
            return None
        return self.last_active + self.idle_s

    def next_deadline(self) -> float | None:
        """The boot time of the next automatic lock, or None."""
        times = [at for at in (self.locks_at, self.idle_locks_at()) if at is not None]
        return min(times) if times else None

    def overdue(self, now: float) -> str | None:
        """Why the session should have been locked by now, or None."""
        if self.state != "unlocked":
            return None
        if self.locks_at is not None and now >= self.locks_at:
            return "lifetime over"
        idle_at = self.idle_locks_at()
        if idle_at is not None and now >= idle_at:
            return "idle"
        return None

    def check(self, now: float) -> None:
        """Raise LockedError unless the session is open at this moment."""
        if self.state == "unlocked" and self.overdue(now) is None:
            return
        raise locked_error(self.state)

    def failed(self, now: float) -> None:
        """A wrong passphrase was given: the next try waits longer."""
        self.failures += 1
        delay = min(FIRST_DELAY_S * 2 ** (self.failures - 1), MAX_DELAY_S)
        self.next_try_at = now + delay


def locked_error(state: State) -> LockedError:
    """The error for a request that needs an open session."""
    if state == "new":
        return LockedError("there is no store yet", remedy="secret-agent unlock")
    return LockedError("the session is locked", remedy="secret-agent unlock")
