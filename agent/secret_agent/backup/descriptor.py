"""A descriptor that a client holds the other end of, read and written without trust in that end.

Rules that hold here: the descriptor is copied at once, in the task that was given it, so that no
thread ever touches a number that has since become another file; nobody waits longer than STALL_S
for a pipe in which nothing moves; flags are left alone, for the client shares them.  What a disk
does cannot be bounded from here: callers run in a thread that may be left behind.
"""

import io
import os
import select
import stat
from typing import TYPE_CHECKING, Final

from secret_agent_client.errors import UnavailableError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

STALL_S: Final = 30.0  # seconds without a byte moving
PIECE: Final = select.PIPE_BUF  # bytes that a pipe takes without blocking once it is writable


class Descriptor(io.RawIOBase):
    """A copy of a descriptor, unbuffered; closed with the `with` block, or when nobody has it any
    more.  Reads and writes raise OSError, and UnavailableError for a stall.
    """

    def __init__(self, descriptor: int) -> None:
        self._fd = -1
        try:
            self._fd = os.dup(descriptor)
            self._is_file = stat.S_ISREG(os.fstat(self._fd).st_mode)
        except OSError as error:
            raise UnavailableError(f"the descriptor cannot be used: {error.strerror}") from None

    def close(self) -> None:
        """Close our copy.  Calling it again does nothing."""
        super().close()
        descriptor, self._fd = self._fd, -1
        if descriptor >= 0:
            os.close(descriptor)

    def readable(self) -> bool:
        return True  # what the kernel thinks of it, a read will tell

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """How many bytes came, 0 at the end."""
        while True:
            self._await(select.POLLIN, "comes")
            try:
                return os.readv(self._fd, [buffer])
            except BlockingIOError:
                continue  # another reader of the same pipe was quicker

    def write(self, data: "ReadableBuffer") -> int:
        """How many bytes were taken; none where another writer of the same pipe was quicker."""
        self._await(select.POLLOUT, "is taken")
        try:
            return os.write(self._fd, data if self._is_file else memoryview(data)[:PIECE])
        except BlockingIOError:
            return 0

    def _await(self, event: int, what: str) -> None:
        if self._is_file:
            return
        poll = select.poll()
        poll.register(self._fd, event)
        if not poll.poll(STALL_S * 1000):
            raise UnavailableError(f"nothing {what} at the other end for {STALL_S:g} s")
