"""The files of the store as the operating system sees them: private, ours, and used by one agent at
a time.

Rules that hold here: nothing is opened through a symlink; what others could read or write is
refused with the command that mends it, never mended silently; a file of ours is made with O_EXCL
and 0600 from its first moment.

A known remaining hole: SQLite opens the store by its path, after our check.  Only who may write to
its folder could swap the file in between, and such a folder is refused.
"""

import fcntl
import os
import shlex
import stat
from contextlib import suppress
from pathlib import Path

from secret_agent_client.errors import InvalidError, NotFoundError, UnavailableError

PRIVATE = 0o600
_OPEN = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC


def check_private(path: Path) -> os.stat_result:
    """Check a file of ours: it is there, regular, no symlink, owned by us, closed to others.

    Raises NotFoundError, or InvalidError with the command that mends it.
    """
    try:
        found = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        raise NotFoundError(f"there is no file {path}") from None
    except OSError as error:
        raise _refused(path, error) from None
    if not stat.S_ISREG(found.st_mode):
        kind = "a symlink" if stat.S_ISLNK(found.st_mode) else "no regular file"
        raise InvalidError(f"{path} is {kind}", remedy=f"ls -l {_quoted(path)}")
    _check_owner(path, found)
    if found.st_mode & 0o077:
        raise InvalidError(
            f"{path} is open to others (mode {stat.S_IMODE(found.st_mode):04o})",
            remedy=f"chmod 600 {_quoted(path)}",
        )
    return found


def check_folder(path: Path) -> None:
    """Check the folder of a file of ours: nobody else may put files into it."""
    try:
        found = path.stat()
    except OSError as error:
        raise _refused(path, error) from None
    _check_owner(path, found)
    if found.st_mode & 0o022:
        raise InvalidError(
            f"{path} can be written by others (mode {stat.S_IMODE(found.st_mode):04o})",
            remedy=f"chmod 700 {_quoted(path)}",
        )


def make_folder(path: Path) -> None:
    """Make the folder of a file of ours, 0700, where it is missing, and check it."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise _refused(path, error) from None
    check_folder(path)


def make_private(path: Path) -> None:
    """Make an empty file that was not there before, 0600."""
    try:
        os.close(os.open(path, _OPEN | os.O_CREAT | os.O_EXCL, PRIVATE))
    except OSError as error:
        raise _refused(path, error) from None


def open_private(path: Path) -> int:
    """A descriptor of a small file of ours, made 0600 where it was missing."""
    try:
        descriptor = os.open(path, _OPEN | os.O_CREAT, PRIVATE)
    except OSError as error:
        raise _refused(path, error) from None
    try:
        check_private(path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def read_private(path: Path, most: int) -> bytes:
    """The first bytes of a small file of ours.  Raises as `check_private` does."""
    check_private(path)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            return os.read(descriptor, most)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise _refused(path, error) from None


def draft_of(path: Path) -> Path:
    """Where a store is written before it is put into its place."""
    return path.with_name(path.name + ".new")


def remove_draft(path: Path) -> None:
    """Clear away what an agent left that died while it made a store.  For who holds the lock."""
    draft = draft_of(path)
    for suffix in ("", "-wal", "-shm", "-journal"):
        with suppress(FileNotFoundError):
            draft.with_name(draft.name + suffix).unlink()


def is_writable(path: Path) -> bool:
    """Whether neither permissions nor a read-only disk forbid to write file and folder."""
    return all(os.access(one, os.W_OK, effective_ids=True) for one in (path, path.parent))


def lock(path: Path, *, writable: bool) -> int | None:
    """Take the lock file beside the store; the lock lasts as long as the descriptor.

    None where the disk is read-only and has no lock file: then nobody can write the store. Raises
    UnavailableError where another agent has it.  The file stays: unlinking it would let two agents
    hold two different files of the same name.
    """
    beside = path.with_name(path.name + ".lock")
    if not writable:
        return _lock_unwritable(beside)
    descriptor = open_private(beside)
    _flock(descriptor)
    return descriptor


def unlock(descriptor: int | None) -> None:
    """Give the lock back."""
    if descriptor is not None:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Make the entries of a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _lock_unwritable(beside: Path) -> int | None:
    try:
        descriptor = os.open(beside, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    _flock(descriptor)
    return descriptor


def _flock(descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            raise UnavailableError(
                "the store is in use by another agent", remedy="secret-agent status"
            ) from None
        raise UnavailableError(
            f"the store's disk cannot lock files: {(error.strerror or 'unknown error').lower()}"
        ) from None


def _check_owner(path: Path, found: os.stat_result) -> None:
    if found.st_uid != os.geteuid():
        raise InvalidError(
            f"{path} belongs to uid {found.st_uid}, not to {os.geteuid()}",
            remedy=f"sudo chown {os.geteuid()} {_quoted(path)}",
        )


def _refused(path: Path, error: OSError) -> UnavailableError:
    return UnavailableError(
        f"{path} cannot be used: {(error.strerror or 'unknown error').lower()}",
        remedy=f"ls -ld {_quoted(path.parent)}",
    )


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
