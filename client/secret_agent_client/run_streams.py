"""What flows between the child and us: its output, masked, out; our keys in.

    Output    a descriptor the child writes to -> a masker -> a descriptor of ours
    Keys      our terminal -> the master of the child's pty

Rules that hold here: nothing is lost, reordered or changed but what is masked; a reader that is
slow slows the child down, and nothing else (at most HIGH_WATER bytes wait); nothing blocks: our
descriptors are shared with others, so they stay in blocking mode, and each write is one that poll
has said would not block.
"""

import os
import stat
from contextlib import suppress
from typing import Protocol

from secret_agent_client.masking import LET_GO_S

READ_BYTES = 64 * 1024  # bytes a read; a pipe holds no more
HIGH_WATER = 256 * 1024  # bytes that wait to be written before the child has to
# Bytes a write to what may block: PIPE_BUF, for which poll vouches (pipe(7)).
PIPE_WRITE = 4096


class Masking(Protocol):
    """What an output asks of a masker."""

    @property
    def can_let_go(self) -> bool: ...
    def feed(self, data: bytes, /) -> bytes: ...
    def let_go(self) -> bytes: ...
    def flush(self) -> bytes: ...


class Output:
    """One stream of the child's output.

    source: what is read, non-blocking.  sink: what is written.  drops_unread: go on reading when
    nobody reads the sink any more (a pty cannot be closed under the child); otherwise the source is
    to be closed, so that the child gets its SIGPIPE.  now: times are of one clock, given.
    """

    def __init__(
        self, source: int, sink: int, masker: Masking | None, *, drops_unread: bool = False
    ) -> None:
        self.source = source
        self.sink = sink
        self.is_open = True  # more may come
        self._masker = masker
        self._drops_unread = drops_unread
        self._is_unread = False
        self._waiting = bytearray()
        self._quiet_since: float | None = None
        self._write_bytes = HIGH_WATER * 2 if _never_blocks(sink) else PIPE_WRITE

    @property
    def wants_read(self) -> bool:
        return self.is_open and len(self._waiting) < HIGH_WATER

    @property
    def wants_write(self) -> bool:
        return bool(self._waiting)

    @property
    def deadline(self) -> float | None:
        """When `on_time` has something to do."""
        if self._quiet_since is None or not self.wants_read:
            return None  # while our reader is slow, the child is not known to be quiet
        return self._quiet_since + LET_GO_S

    def on_readable(self, now: float) -> bool:
        """Take what is there; whether there was anything."""
        try:
            data = os.read(self.source, READ_BYTES)
        except BlockingIOError:
            return False
        except OSError:  # EIO: the last descriptor of the pty's other side was closed
            data = b""
        if not data:
            self.finish()
        elif not self._is_unread:
            self._take(data, now)
        return bool(data)

    def on_time(self, now: float) -> None:
        """The child has been quiet for long enough to show a short beginning."""
        if self.deadline is not None and now >= self.deadline and self._masker is not None:
            self._waiting += self._masker.let_go()
            self._quiet_since = None

    def on_writable(self) -> None:
        """Write what poll allows."""
        try:
            written = os.write(self.sink, self._waiting[: self._write_bytes])
        except BlockingIOError:
            pass  # somebody who shares the sink made it non-blocking; poll will say when
        except OSError:  # nobody reads it any more, or its disk is full
            self._waiting.clear()
            self._is_unread = True
            self.is_open = self.is_open and self._drops_unread
        else:
            del self._waiting[:written]

    def finish(self) -> None:
        """Nothing more comes: show what was held."""
        self.is_open = False
        self._quiet_since = None
        if self._masker is not None and not self._is_unread:
            self._waiting += self._masker.flush()

    def close(self) -> None:
        """Close the source: a child that still writes gets SIGPIPE."""
        self.is_open = False
        if self.source >= 0:
            os.close(self.source)
            self.source = -1

    def _take(self, data: bytes, now: float) -> None:
        if self._masker is None:
            self._waiting += data
        else:
            self._waiting += self._masker.feed(data)
            self._quiet_since = now if self._masker.can_let_go else None


class Keys:
    """What is typed, on its way to the child's pty."""

    def __init__(self, terminal: int, master: int) -> None:
        self.terminal = terminal
        self.master = master
        self.is_open = True
        self._waiting = b""

    @property
    def wants_read(self) -> bool:
        return self.is_open and not self._waiting

    @property
    def wants_write(self) -> bool:
        return bool(self._waiting)

    def on_readable(self, _now: float) -> None:
        """Take what was typed.  A terminal that is gone sends SIGHUP besides."""
        try:
            self._waiting = os.read(self.terminal, PIPE_WRITE)
        except OSError:
            self._waiting = b""
        self.is_open = bool(self._waiting)

    def on_writable(self) -> None:
        with suppress(BlockingIOError):
            written = os.write(self.master, self._waiting)
            self._waiting = self._waiting[written:]


def _never_blocks(descriptor: int) -> bool:
    """A file, or a device that takes everything: poll says nothing about those."""
    mode = os.fstat(descriptor).st_mode
    return stat.S_ISREG(mode) or (stat.S_ISCHR(mode) and not os.isatty(descriptor))
