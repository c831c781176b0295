"""Run a blocking call in a worker thread, with a deadline: the only way that the agent blocks.

At the deadline the caller goes on and the thread is left behind: a thread cannot be stopped.  Its
number is bounded, so a
dependency that hangs for ever (a keyring that shows a dialog) costs threads up to the limiter's
count and then answers
"unavailable" at once, while everything else goes on.
"""

from collections.abc import Callable
from typing import TypeVar

import trio

from secret_agent_client.errors import UnavailableError

T = TypeVar("T")

MAX_WORKERS = 16  # threads of one limiter; more would only queue up behind the same disk or bus


def new_limiter(workers: int = MAX_WORKERS) -> trio.CapacityLimiter:
    """A bound of its own for one dependency, so that its hanging leaves the others their
    threads.
    """
    return trio.CapacityLimiter(workers)


async def run_blocking(
    call: Callable[[], T],
    *,
    deadline_s: float,
    what: str,
    limiter: trio.CapacityLimiter | None = None,
) -> T:
    """Return call(), run in a thread.

    Raises UnavailableError naming `what` when it has not ended after `deadline_s` seconds.
    """
    with trio.move_on_after(deadline_s):
        return await trio.to_thread.run_sync(call, abandon_on_cancel=True, limiter=limiter)
    raise UnavailableError(f"{what} did not answer within {deadline_s:g} s")
