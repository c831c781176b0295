"""The file that is written: whole batches or nothing, rotated when full, mended after a failure.
Blocking; one thread at a time.

`size` is how much of the file is known to be on disk.  What stands behind it was never answered
for, and goes before anything else is written:

* a write that fails is cut off again at once, so that no half line stays behind a good one;
* after a sync that failed the kernel may have dropped the pages and will not say so again, so the
  known part is copied into a new file and synced there, which takes the place of the old one;
* the same is done where the file was removed, renamed or replaced: its descriptor still has it.
  What stands in its place is moved aside, never followed and never written to.
"""

import errno
import os
from contextlib import suppress
from pathlib import Path

from secret_agent.audit.files import (
    CURRENT,
    WRITE,
    last_line,
    next_full,
    open_checked,
    sync_folder,
    unused,
)

TAIL = 4 * 1024 * 1024  # bytes at the end in which a crash may have left a batch half written
_COPIED = 1024 * 1024  # bytes copied at a time


class LogFile:
    """`audit.jsonl` of one folder."""

    def __init__(self, folder: Path) -> None:
        """Open it, or make it.  Raises InvalidError for what is not ours alone, OSError."""
        self.path = folder / CURRENT
        self._fd = open_checked(self.path)
        self.size = os.fstat(self._fd).st_size
        self._is_doubtful = False  # it must be written anew before it is written again
        self._name_is_synced = False

    def append(self, data: bytes, *, sync: bool) -> None:
        """Write and, if asked, sync; on failure nothing of it stays.  Raises OSError."""
        self._check_in_place()
        if not self._name_is_synced:
            sync_folder(self.path.parent)
            self._name_is_synced = True
        try:
            self._write(data)
        except OSError:
            self._cut()
            raise
        if sync:
            self._sync()
        self.size += len(data)

    def last_line(self) -> bytes:
        """The last line as it stands, with its newline if it has one; b"" of an empty file."""
        return last_line(self._fd, self.size)

    def cut_torn_tail(self) -> Path | None:
        """Move what a crash left of a batch into a file of its own; that file, or None.

        Torn is a last line without its end, and everything from a line on that has a NUL in it: the
        log never writes one, but a file that had grown and was not synced when the power went has
        them.
        """
        at = max(0, self.size - TAIL)
        tail = os.pread(self._fd, self.size - at, at)
        hole = tail.find(b"\0")
        begin = tail.rfind(b"\n", 0, hole if hole >= 0 else len(tail)) + 1
        if begin == len(tail) or (begin == 0 and at > 0):
            return None
        aside = unused(self.path.parent, "torn")
        _write_synced(aside, tail[begin:])
        self.size = at + begin
        os.ftruncate(self._fd, self.size)
        os.fsync(self._fd)
        return aside

    def rotate(self) -> None:
        """Keep this file under the next number and begin a new one.  Raises OSError."""
        self._check_in_place()
        new, descriptor = self._new_file()
        full = next_full(self.path.parent)
        try:
            self.path.rename(full)
            new.rename(self.path)
        except OSError:
            os.close(descriptor)
            with suppress(OSError):  # the first failure is the one to tell
                full.rename(self.path)
            raise
        self._adopt(descriptor, size=0)

    def mend(self) -> str | None:
        """After a failure: put a file in place that ends with the last line that is known to be on
        disk.  What was done, in words, or None where the file is as it should be.  Raises OSError.
        """
        found, is_in_place = os.fstat(self._fd).st_size, self._is_in_place()
        if is_in_place and found == self.size and not self._is_doubtful:
            return None
        copy, descriptor = self._new_file()
        known = min(found, self.size)
        try:
            self._copy(descriptor, known)
            aside = None if is_in_place and found <= self.size else self._move_aside()
            copy.rename(self.path)
        except BaseException:
            os.close(descriptor)
            raise
        self._adopt(descriptor, size=known)
        self.cut_torn_tail()
        told = f"{known} bytes of {self.path.name} were written anew"
        return told if aside is None else f"{told}; what stood there was moved to {aside.name}"

    def close(self) -> None:
        os.close(self._fd)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]

    def _sync(self) -> None:
        try:
            os.fdatasync(self._fd)
        except OSError:
            self._cut()
            self._is_doubtful = True
            raise

    def _cut(self) -> None:
        try:
            os.ftruncate(self._fd, self.size)
        except OSError:
            self._is_doubtful = True

    def _is_in_place(self) -> bool:
        """Whether the name still means the file that is written."""
        try:
            named = self.path.lstat()
        except FileNotFoundError:
            return False
        ours = os.fstat(self._fd)
        return (ours.st_dev, ours.st_ino) == (named.st_dev, named.st_ino)

    def _check_in_place(self) -> None:
        """Nobody but us has touched the file.  Raises OSError."""
        if not self._is_in_place():
            raise FileNotFoundError(errno.ENOENT, "its file was removed or replaced")
        if os.fstat(self._fd).st_size != self.size:
            raise OSError(errno.EIO, "its file was changed by somebody else")

    def _new_file(self) -> tuple[Path, int]:
        new = self.path.with_suffix(".new")
        new.unlink(missing_ok=True)  # of an agent that was killed at this point
        return new, open_checked(new, flags=WRITE | os.O_EXCL)

    def _copy(self, descriptor: int, size: int) -> None:
        at = 0
        while at < size:
            part = os.pread(self._fd, min(_COPIED, size - at), at)
            if not part:
                raise OSError(errno.EIO, "its file was cut while it was copied")
            at += os.write(descriptor, part)
        os.fsync(descriptor)

    def _move_aside(self) -> Path | None:
        if not os.path.lexists(self.path):
            return None
        aside = unused(self.path.parent, "foreign")
        self.path.rename(aside)
        return aside

    def _adopt(self, descriptor: int, *, size: int) -> None:
        with suppress(OSError):  # a late report of a failure that has been mended
            os.close(self._fd)
        self._fd, self.size = descriptor, size
        self._is_doubtful = self._name_is_synced = False


def _write_synced(path: Path, data: bytes) -> None:
    descriptor = open_checked(path, flags=WRITE | os.O_EXCL)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)
