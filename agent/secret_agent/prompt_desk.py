"""One prompt for all who wait on a locked session.

The first who finds the session locked and has a terminal is to ask; the others wait here.  When
the session opens, all go
on; when the person dismisses the prompt, or the one who asks goes away, all are answered that it
is locked.  So thirty
programs that start at once make one prompt, and a "no" is said once.
"""

from collections.abc import Hashable
from typing import Literal

import trio

from secret_agent_client.errors import LockedError, UnavailableError

MAX_WAITERS = 1024
Outcome = Literal["opened", "dismissed"]


class PromptDesk:
    """Who asks at present, and who waits for the answer."""

    def __init__(self) -> None:
        self._asker: Hashable | None = None
        self._waiters: set[trio.Event] = set()
        self._outcome: Outcome = "dismissed"

    async def claim(self, asker: Hashable) -> bool:
        """Whether this asker is to prompt; False: the session was opened meanwhile.

        Raises LockedError when the prompt that it waited for was dismissed.
        """
        if self._asker is None or self._asker == asker:
            self._asker = asker
            return True
        if len(self._waiters) >= MAX_WAITERS:
            raise UnavailableError(f"{MAX_WAITERS} requests wait for the session to be unlocked")
        answered = trio.Event()
        self._waiters.add(answered)
        try:
            await answered.wait()
        finally:
            self._waiters.discard(answered)
        if self._outcome == "dismissed":
            raise LockedError("the prompt was dismissed", remedy="secret-agent unlock")
        return False

    def opened(self) -> None:
        """The session is open, whoever opened it."""
        self._finish("opened")

    def dismissed(self, asker: Hashable) -> None:
        """The asker's person said no, or the asker is gone; of anybody else it means nothing."""
        if self._asker == asker:
            self._finish("dismissed")

    def _finish(self, outcome: Outcome) -> None:
        self._asker = None
        self._outcome = outcome
        for waiter in self._waiters:
            waiter.set()
        self._waiters.clear()
