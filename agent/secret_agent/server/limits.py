"""What one peer may take of the agent: counted, timed, bounded.  Every number has its reason
beside it.
"""

from collections import Counter

from secret_agent.model import ProcessKey

HELLO_S = 5.0  # a peer that connects has something to say
FRAME_S = 10.0  # from the first byte of a message to its last; the slow loris is closed
WRITE_S = 10.0  # a peer that does not read its replies is closed
LOCK_CLOSE_S = 10.0  # for noting the audit head in the store at lock, over a full or slow disk
PER_PROCESS = 128  # connections; twice what a busy library client opens
PER_UID = 1024  # connections; leaves descriptors for watching processes
SLOW_AT_ONCE = 4  # requests of one connection that wait for a person or a long computation
EVENTS_QUEUED = 1024  # events that a listener may be behind before its connection is closed
RECEIVE = 64 * 1024  # bytes taken from a socket at once


class ConnectionCount:
    """The connections that are open, by process and by uid."""

    def __init__(self) -> None:
        self._by_process: Counter[ProcessKey] = Counter()
        self._by_uid: Counter[int] = Counter()

    def __len__(self) -> int:
        return self._by_uid.total()

    def full(self, process: ProcessKey, uid: int) -> str | None:
        """Why another connection is refused, or None."""
        if self._by_process[process] >= PER_PROCESS:
            return f"the process has {PER_PROCESS} connections already"
        if self._by_uid[uid] >= PER_UID:
            return f"the user has {PER_UID} connections already"
        return None

    def opened(self, process: ProcessKey, uid: int) -> None:
        self._by_process[process] += 1
        self._by_uid[uid] += 1

    def closed(self, process: ProcessKey, uid: int) -> None:
        self._by_process[process] -= 1
        self._by_uid[uid] -= 1
        self._by_process += Counter()  # drops what fell to zero
        self._by_uid += Counter()
