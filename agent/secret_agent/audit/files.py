"""The names of the audit log's files, and how each is opened, listed and read.  Blocking.

    audit.jsonl          the one that is written
    audit-000001.jsonl   full ones, oldest first
    audit.torn-1         what a crash left half written, moved out of the chain
    audit.foreign-1      what somebody put where the log belongs

A file of the log is regular, ours, 0600, and never reached through a link.
"""

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from secret_agent.audit.record import MAX_LINE, decode
from secret_agent_client.errors import InvalidError
from secret_agent_client.private_file import quoted

CURRENT = "audit.jsonl"
_FULL = "audit-[0-9][0-9][0-9][0-9][0-9][0-9].jsonl"
WRITE = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


def full_files(folder: Path) -> list[Path]:
    """The full files, oldest first."""
    return sorted(folder.glob(_FULL))


def files_of(folder: Path) -> list[Path]:
    """The log's files that exist, oldest first."""
    current = folder / CURRENT
    return [*full_files(folder), current] if current.exists() else full_files(folder)


def next_full(folder: Path) -> Path:
    """The name under which the next full file is kept."""
    numbers = (int(path.stem.removeprefix("audit-")) for path in full_files(folder))
    return folder / f"audit-{max(numbers, default=0) + 1:06d}.jsonl"


def unused(folder: Path, what: str) -> Path:
    """A name for what is moved out of the way: `audit.torn-1`, then `audit.torn-2`."""
    number = 1
    while os.path.lexists(path := folder / f"audit.{what}-{number}"):
        number += 1
    return path


def open_checked(path: Path, *, flags: int = WRITE) -> int:
    """A descriptor of a file of ours, 0600 and regular, made where it was missing.

    Raises InvalidError for anything else, OSError.
    """
    descriptor = os.open(path, flags, 0o600)
    try:
        _check(os.fstat(descriptor), path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _check(found: os.stat_result, path: Path) -> None:
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
        mend = f"ls -l {quoted(str(path))}"
    elif found.st_mode & 0o077:
        mend = f"chmod 600 {quoted(str(path))}"
    else:
        return
    raise InvalidError("the audit log is not a file of ours alone", remedy=mend)


def open_folder(folder: Path) -> int:
    """A descriptor of the log's folder, which must be ours and 0700.

    Raises InvalidError with the mend, OSError.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    found = os.fstat(descriptor)
    if found.st_uid == os.geteuid() and not found.st_mode & 0o077:
        return descriptor
    os.close(descriptor)
    mend = "chmod 700" if found.st_uid == os.geteuid() else "ls -ld"
    raise InvalidError(
        "the folder of the audit log is not ours alone", remedy=f"{mend} {quoted(str(folder))}"
    )


def sync_folder(folder: Path) -> None:
    """Make names durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def lines_of(descriptor: int) -> Iterator[bytes]:
    """The lines from where the descriptor stands, each with its newline if it has one; never more
    than MAX_LINE bytes held.
    """
    with os.fdopen(os.dup(descriptor), "rb") as file:
        while line := file.readline(MAX_LINE + 1):
            yield line


def open_all(folder: Path) -> list[tuple[Path, int]]:
    """The log's files opened for reading, oldest first, while they may be rotated and pruned.

    The current one is opened first: if it is rotated meanwhile it is met again under its new name,
    and left out there by its inode.  What is no regular file, or a link, is left out too: its
    records are missing.  The caller closes them.  Raises OSError.
    """
    opened: list[tuple[Path, int]] = []
    seen: set[int] = set()
    try:
        for path in (folder / CURRENT, *reversed(full_files(folder))):
            descriptor = _open_to_read(path)
            if descriptor is None:
                continue
            opened.append((path, descriptor))
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode) or found.st_ino in seen:
                os.close(opened.pop()[1])
            seen.add(found.st_ino)
    except BaseException:
        close_all(opened)
        raise
    return opened[::-1]


def _open_to_read(path: Path) -> int | None:
    try:
        return os.open(path, _READ)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP):  # rotated or pruned since; a link
            return None
        raise


def close_all(opened: list[tuple[Path, int]]) -> None:
    """Close what `open_all` opened."""
    for _, descriptor in opened:
        os.close(descriptor)


def first_seq(path: Path) -> int | None:
    """The number of a file's first record, or None where it has none that can be read."""
    descriptor = os.open(path, _READ)
    try:
        record = decode(next(lines_of(descriptor), b""))
    finally:
        os.close(descriptor)
    return None if record is None else record["seq"]


def last_line(descriptor: int, size: int) -> bytes:
    """The last line of a file, with its newline if it has one; b"" of an empty file."""
    tail = os.pread(descriptor, MAX_LINE + 1, max(0, size - MAX_LINE - 1))
    return tail[tail.rfind(b"\n", 0, len(tail) - 1) + 1 :]
