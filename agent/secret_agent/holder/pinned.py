"""Hold one process, so that it cannot be mistaken for a later one with the same pid.

A pid names whatever process has it now.  A pidfd (pidfd_open(2), Linux 5.3) and an open /proc/PID
directory name one process for good: after its death the first turns readable and reads through the
second fail; neither is ever handed on to the next process of that pid.  All that the agent knows of
a process it reads through such a pin, and the rule for every caller is: **read first, ask `alive()`
after**, and only then believe what was read.

Never does this module signal, trace or wait for the processes it pins.
"""

import errno
import os
import select
from typing import Final

from secret_agent.holder.proc import (
    PidfdInfo,
    Stat,
    parse_pidfd_info,
    parse_stat,
    parse_status,
    text_of,
)
from secret_agent.model import ProcessKey

GONE: Final = (ProcessLookupError, FileNotFoundError)  # what reads of an ended process raise
_PID_MAX: Final = 1 << 22  # PID_MAX_LIMIT, <linux/threads.h>
_READ_AT_ONCE: Final = 64 * 1024  # bytes; all but a long mountinfo fits
_FILE: Final = os.O_RDONLY | os.O_CLOEXEC
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Pinned:
    """One process, held by its pidfd and its /proc directory until `close`.

    Everything that reads raises one of GONE when the process is gone, and PermissionError for what
    the kernel keeps from us (a process that is not dumpable, or another user's).
    """

    __slots__ = ("_stat_file", "directory", "key", "pid", "pidfd")

    def __init__(self, pid: int, pidfd: int) -> None:
        """Pin the process that `pidfd` names, believed to be `pid`; on an error close the pidfd.

        The directory is opened by pid, so for a moment it may be that of a later process with the
        same pid.  A pid is free for others only after its process was reaped, and the pidfd is
        readable before that: so when the pidfd is not readable *after* the directory was opened,
        the directory is that of the same process.
        """
        self.pid, self.pidfd, self.directory, self._stat_file = pid, pidfd, -1, -1
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    @classmethod
    def open(cls, pid: int) -> "Pinned":
        """Pin whatever process has this pid now."""
        if not 0 < pid <= _PID_MAX:
            raise ProcessLookupError(errno.ESRCH, "no process has such a pid")
        return cls(pid, os.pidfd_open(pid))

    def alive(self) -> bool:
        """Whether the process lives.  A zombie does not: once reaped, its pid is anybody's."""
        return self.pidfd >= 0 and not is_gone(self.pidfd)

    def read(self, name: str) -> bytes:
        """The content of /proc/PID/name."""
        return _read_at(self.directory, name)

    def stat(self) -> Stat:
        """A fresh /proc/PID/stat."""
        return parse_stat(os.pread(self._stat_file, 4096, 0))

    def executable(self) -> tuple[str, tuple[int, int]]:
        """The executable as (path, (st_dev, st_ino)), both of one opened file.

        An exec between two looks cannot mix them.
        The path is what the kernel shows, which a mount namespace of the process's own can make
        anything; the pair of numbers is what can be compared with a file of ours.
        """
        file = os.open("exe", os.O_PATH | os.O_CLOEXEC, dir_fd=self.directory)
        try:
            status = os.fstat(file)
            path = os.readlink(f"/proc/self/fd/{file}".encode())  # noqa: PTH115  # as bytes
        finally:
            os.close(file)
        return text_of(path), (status.st_dev, status.st_ino)

    def runs(self, path: str, file: tuple[int, int]) -> bool:
        """Whether the executable is still the one that `executable` told; cheaper than asking."""
        status = os.stat("exe", dir_fd=self.directory)
        return (status.st_dev, status.st_ino) == file and path == text_of(
            os.readlink(b"exe", dir_fd=self.directory)
        )

    def working_directory(self) -> str:
        """The working directory as the kernel shows it."""
        return text_of(os.readlink(b"cwd", dir_fd=self.directory))

    def uid(self) -> int:
        """The uid that the process runs as now.  For ancestors: a peer's is that of its connect."""
        # The owner of /proc/PID is that uid, or 0 where the process is not dumpable (proc(5)).
        return os.fstat(self.directory).st_uid or parse_status(self.read("status")).uids[0]

    def release(self) -> int:
        """Hand the pidfd over to the caller and let go of the rest."""
        pidfd, self.pidfd = self.pidfd, -1
        self.close()
        return pidfd

    def close(self) -> None:
        """Let go of the process.  Calling it again does nothing."""
        for descriptor in (self.pidfd, self.directory, self._stat_file):
            if descriptor >= 0:
                os.close(descriptor)
        self.pidfd = self.directory = self._stat_file = -1

    def _open(self) -> None:
        self.directory = os.open(f"/proc/{self.pid}", _DIRECTORY)
        # It stays open: reading it again costs half of opening it again.
        self._stat_file = os.open("stat", _FILE, dir_fd=self.directory)
        self.key = ProcessKey(self.pid, self.stat().start_time)
        if is_gone(self.pidfd):
            raise ProcessLookupError(errno.ESRCH, "the process is gone")


def is_gone(pidfd: int) -> bool:
    """Whether the process of a pidfd has ended, reaped or not."""
    poll = select.poll()  # select() cannot take descriptors above 1023
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def pidfd_info(pidfd: int) -> PidfdInfo:
    """What the kernel says of a pidfd now."""
    with open(f"/proc/self/fdinfo/{pidfd}", "rb", buffering=0) as file:  # noqa: PTH123  # no Path, once a connection
        return parse_pidfd_info(file.read(4096))


def _read_at(directory: int, name: str) -> bytes:
    file = os.open(name, _FILE, dir_fd=directory)
    try:
        parts = []
        while part := os.read(file, _READ_AT_ONCE):
            parts.append(part)
    finally:
        os.close(file)
    return b"".join(parts)
