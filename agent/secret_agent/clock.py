"""Wall time and boot time in one place, so that a test can replace both.

Wall time is for what people read and what is stored.  Boot time (CLOCK_BOOTTIME, clock_gettime(2))
is for every deadline: it
counts suspend and nobody can set it, so neither a closed lid nor a turned-back clock keeps a lease
alive.
"""

import time
from datetime import UTC, datetime
from functools import lru_cache


class Clock:
    """The machine's clocks."""

    def wall(self) -> float:
        """Seconds since the Unix epoch."""
        return time.time()

    def boot(self) -> float:
        """Seconds since boot, suspend included."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def wall_of(self, boot_s: float) -> float:
        """The wall time that a boot time will have, as far as can be told now."""
        return self.wall() + boot_s - self.boot()


def rfc3339(wall_s: float) -> str:
    """Seconds since the epoch as RFC 3339 in UTC, whole seconds."""
    return _rfc3339(int(wall_s))


@lru_cache(maxsize=64)  # a busy second asks for the same few again and again
def _rfc3339(wall_s: int) -> str:
    return datetime.fromtimestamp(wall_s, tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
