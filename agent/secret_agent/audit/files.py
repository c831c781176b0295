"""The audit log's files: opened safely, written whole or not at all, rotated, listed.  Blocking;
called from one thread.

`audit.jsonl` is written; full ones are `audit-000001.jsonl`, `audit-000002.jsonl`, …, oldest
first.  A line that a crash
left half written is moved to `audit.torn-N` before anything is written behind it.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from secret_agent.audit.record import MAX_LINE
from secret_agent_client.errors import InvalidError

CURRENT = "audit.jsonl"
_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


def files_of(folder: Path) -> list[Path]:
    """The log's files that exist, oldest first."""
    full = sorted(folder.glob("audit-[0-9][0-9][0-9][0-9][0-9][0-9].jsonl"))
    current = folder / CURRENT
    return [*full, current] if current.exists() else full


def lines_of(path: Path) -> Iterator[bytes]:
    """The lines of a file, each with its newline if it has one; never more than MAX_LINE bytes
    held.
    """
    with path.open("rb") as file:
        while line := file.readline(MAX_LINE + 1):
            yield line


class LogFile:
    """The file that is written."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / CURRENT
        self._fd = open_checked(self.path)
        self.size = os.fstat(self._fd).st_size

    def append(self, data: bytes, *, sync: bool) -> None:
        """Write and, if asked, sync; on failure nothing of it stays.  Raises OSError."""
        self._check_in_place()
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(self._fd, view) :]
            if sync:
                os.fdatasync(self._fd)
        except OSError:
            with suppress(OSError):  # the first failure is the one to tell
                os.ftruncate(self._fd, self.size)
            raise
        self.size += len(data)

    def last_line(self) -> bytes:
        """The last line as it stands, with its newline if it has one; b"" of an empty file."""
        at = max(0, self.size - MAX_LINE - 1)
        tail = os.pread(self._fd, MAX_LINE + 1, at)
        begin = tail.rfind(b"\n", 0, len(tail) - 1) + 1
        return tail[begin:]

    def cut_torn_line(self, torn: bytes) -> Path:
        """Move a half-written last line into a file of its own, and sync both."""
        number = 1
        while (aside := self.path.with_name(f"audit.torn-{number}")).exists():
            number += 1
        with open(os.open(aside, _FLAGS | os.O_EXCL, 0o600), "wb") as file:  # noqa: PTH123  # flags
            file.write(torn)
            file.flush()
            os.fsync(file.fileno())
        self.size -= len(torn)
        os.ftruncate(self._fd, self.size)
        os.fsync(self._fd)
        return aside

    def rotate(self) -> None:
        """Close this file under the next number and begin a new one."""
        numbers = [int(path.stem[6:]) for path in files_of(self.path.parent) if path != self.path]
        full = self.path.with_name(f"audit-{max(numbers, default=0) + 1:06d}.jsonl")
        self.path.rename(full)
        os.close(self._fd)
        self._fd = open_checked(self.path)
        self.size = 0
        sync_folder(self.path.parent)

    def close(self) -> None:
        os.close(self._fd)

    def _check_in_place(self) -> None:
        """The name still means the file that is written: nobody removed it or put another there."""
        ours, named = os.fstat(self._fd), self.path.lstat()
        if (ours.st_dev, ours.st_ino) != (named.st_dev, named.st_ino):
            raise FileNotFoundError(2, "the log's file was replaced")


def open_checked(path: Path) -> int:
    """A descriptor of a file of ours, 0600 and regular, made where it was missing.

    Raises InvalidError for anything else, OSError.
    """
    descriptor = os.open(path, _FLAGS, 0o600)
    found = os.fstat(descriptor)
    mend = None
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
        mend = f"ls -l {path}"
    elif found.st_mode & 0o077:
        mend = f"chmod 600 {path}"
    if mend is not None:
        os.close(descriptor)
        raise InvalidError("the audit log is not a file of ours alone", remedy=mend)
    return descriptor


def sync_folder(folder: Path) -> None:
    """Make names durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
