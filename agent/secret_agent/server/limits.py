"""What one peer may take of the agent: counted, timed, bounded.  Every number has its reason
beside it.
"""

import resource
from collections import Counter
from typing import TypeVar

from secret_agent.hardening import MAX_FILES
from secret_agent.model import ProcessKey

K = TypeVar("K")

HELLO_S = 5.0  # a peer that connects has something to say
FRAME_S = 10.0  # from the first byte of a message to its last; the slow loris is closed
WRITE_S = 10.0  # a peer that does not read its replies is closed
LOCK_CLOSE_S = 10.0  # for noting the audit head in the store at lock, over a full or slow disk
PER_PROCESS = 128  # connections; twice what a busy library client opens
PER_UID = 1024  # connections to the control socket; leaves descriptors for watching processes
PER_SCOPE = 128  # connections to a scope and those made through it; none of the user's own
OF_SCOPES = 1024  # connections to all scopes
DESCRIPTORS_KEPT = 64  # for store, log and replies, however many are connected
PER_CONNECTION = 4  # descriptors
SLOW_AT_ONCE = 4  # requests of one connection that wait for a person or a long computation
EVENTS_QUEUED = 1024  # events that a listener may be behind before its connection is closed
RECEIVE = 64 * 1024  # bytes taken from a socket at once


class ConnectionCount:
    """The connections that are open: the control socket's by process and uid, the scopes' by
    process and by scope.  What comes through scopes takes nothing from the user's own count.

    `descriptors` is how many may be open in the process: the counts leave room below it.
    """

    def __init__(self, descriptors: int) -> None:
        if descriptors == resource.RLIM_INFINITY:
            descriptors = MAX_FILES
        half = max(1, (descriptors - DESCRIPTORS_KEPT) // PER_CONNECTION // 2)
        self._per_uid, self._of_scopes = min(PER_UID, half), min(OF_SCOPES, half)
        self._by_process: Counter[ProcessKey] = Counter()
        self._by_uid: Counter[int] = Counter()
        self._by_scope: Counter[str] = Counter()

    def __len__(self) -> int:
        return self._by_uid.total() + self._by_scope.total()

    def of(self, process: ProcessKey) -> int:
        """How many a process has."""
        return self._by_process[process]

    def crowded(self, uid: int) -> bool:
        """Whether a user has as many as may be: another one takes the place of one of them."""
        return self._by_uid[uid] >= self._per_uid

    def full(self, process: ProcessKey, scope: str | None) -> str | None:
        """Why another connection is refused, or None.  `scope` is the outermost one."""
        if self._by_process[process] >= PER_PROCESS:
            return f"the process has {PER_PROCESS} connections already"
        if scope is not None and self._by_scope[scope] >= PER_SCOPE:
            return f"the scope has {PER_SCOPE} connections already"
        if scope is not None and self._by_scope.total() >= self._of_scopes:
            return f"all scopes have {self._of_scopes} connections already"
        return None

    def opened(self, process: ProcessKey, uid: int, scope: str | None) -> None:
        self._by_process[process] += 1
        if scope is None:
            self._by_uid[uid] += 1
        else:
            self._by_scope[scope] += 1

    def closed(self, process: ProcessKey, uid: int, scope: str | None) -> None:
        _less(self._by_process, process)
        if scope is None:
            _less(self._by_uid, uid)
        else:
            _less(self._by_scope, scope)


def _less(counts: "Counter[K]", key: "K") -> None:
    counts[key] -= 1
    if not counts[key]:
        del counts[key]
