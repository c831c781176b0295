"""Cancel what a task does at each of its awaits in turn.

    async def scenario(at: Attempt) -> None:
        …prepare…
        await at(lambda: broker.fetch(caller, ask))
        …check what must hold, whether it was cancelled or not…

    assert await at_each_await(scenario) > 3

Rules that hold here: an await counts when the task, or a task below it, has given up its turn in
it; the cancellation comes at that very moment, so that whatever it waits for is given up; the
scenario is run anew for the first await, the second, and so on, until one run is not cancelled.
"""

from collections.abc import Awaitable, Callable

import trio

MOST_AWAITS = 500  # of one call; more is a loop that never ends


class Attempt(trio.abc.Instrument):
    """Runs one call and cancels it at its n-th await."""

    def __init__(self, at: int) -> None:
        self._at = at
        self._awaits = 0
        self._scope = trio.CancelScope()
        self._disturb: Callable[[], object] = self._scope.cancel
        self._root: trio.lowlevel.Task | None = None
        self.cancelled = False

    async def __call__(
        self,
        call: Callable[[], Awaitable[object]],
        *,
        instead: Callable[[], object] | None = None,
    ) -> None:
        """Await the call; `cancelled` tells afterwards whether it was cut short.

        `instead`: what is done at that moment instead of cancelling.
        """
        assert self._root is None, "one call a run"
        self._disturb = instead or self._scope.cancel
        self._root = trio.lowlevel.current_task()
        trio.lowlevel.add_instrument(self)
        try:
            with self._scope:
                await call()
        finally:
            trio.lowlevel.remove_instrument(self)
        self.cancelled = self._scope.cancelled_caught

    @property
    def reached(self) -> bool:
        """Whether the call has as many awaits as that."""
        return self._awaits >= self._at

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if self._concerns(task):
            self._awaits += 1
            if self._awaits == self._at:
                self._disturb()

    def _concerns(self, task: trio.lowlevel.Task) -> bool:
        """Whether it is the task, or one that it waits for."""
        nursery: trio.Nursery | None
        while task is not self._root:
            nursery = task.parent_nursery
            if nursery is None:
                return False
            task = nursery.parent_task
        return True


async def at_each_await(scenario: Callable[[Attempt], Awaitable[None]]) -> int:
    """Run a scenario until its call ends before it is cancelled; how often it was cancelled."""
    for number in range(1, MOST_AWAITS):
        attempt = Attempt(number)
        await scenario(attempt)
        if not attempt.reached:
            return number - 1
    raise AssertionError("the call never ends by itself")
