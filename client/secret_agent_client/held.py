"""How often this process holds each lease.

The agent lends one process one lease of a secret, however often it asks: two blocks, two tasks or
two connections that want the same secret hold the same lease.  Given back by the first that is
done, it would be over for the others; so it is given back by the last.

Rules that hold here: counted by the process, as the agent counts; a lease whose value was handed
out for good (`get`) is never given back by a block: the program still has the value, and `who` must
go on saying so.

A hole that remains: a block that takes a lease in the moment in which the last other block gives it
back may find it ended; it has its values, and hears of the end as an event.
"""

from _thread import allocate_lock

_lock = allocate_lock()
_counts: dict[str, int] = {}


def hold(lease_id: str) -> None:
    """One more holds it."""
    with _lock:
        _counts[lease_id] = _counts.get(lease_id, 0) + 1


def let_go(lease_id: str) -> bool:
    """One less holds it; whether it was the last, so that the lease is to be given back."""
    with _lock:
        left = _counts.pop(lease_id) - 1
        if left:
            _counts[lease_id] = left
        return not left
