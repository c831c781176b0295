"""Files that hold a value, or decide over one: written whole or not at all, never through a link.

Rules that hold here (abuse 49, T42, T48):

* the new content is written beside the target under a name that nobody had (O_EXCL, O_NOFOLLOW,
  0600), synced, and renamed over it: a reader sees the old content or the new, and a link that
  somebody swaps in is replaced, never followed;
* a target that exists is replaced only if it is a regular file of ours, with one name, and no
  wider than the mode that was asked for: what is already wider would hand the value on;
* everything is done relative to one opened directory, so that it cannot be exchanged meanwhile.

A hole that remains: SIGKILL between writing and renaming leaves the temporary file, 0600, in the
directory of the target.
"""

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from secret_agent_client.errors import InvalidError, UnavailableError

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


def write_private(path: str, data: bytes | bytearray, *, mode: int = 0o600) -> None:
    """Write the file whole.  Raises InvalidError for what stands in the way, with its mend."""
    with replacing(path, mode=mode) as descriptor, os.fdopen(os.dup(descriptor), "wb") as file:
        file.write(data)


@contextmanager
def replacing(path: str, *, mode: int = 0o600) -> Iterator[int]:
    """A descriptor of a new file that takes the place of `path` if the block ends well.

    Raises InvalidError for what stands in the way, UnavailableError where the disk refuses.
    """
    folder, name = os.path.split(path)
    if name in ("", ".", ".."):
        raise InvalidError("the file to be written has no name of its own")
    try:
        directory = os.open(folder or ".", _DIRECTORY)
    except OSError as error:
        raise _refused(folder or ".", error) from None
    try:
        _check_directory(directory, folder or ".")
        _check_target(directory, name, path, mode)
        with _temporary(directory, name, path) as (descriptor, temporary):
            yield descriptor
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
            os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
            os.fsync(directory)
    finally:
        os.close(directory)


def read_regular(path: str, *, most: int) -> tuple[bytes, os.stat_result]:
    """The bytes of a regular file, not through a link, and what was known of it as they were read.

    Raises InvalidError where it is something else or larger than `most` bytes; OSError where it
    cannot be opened.
    """
    descriptor = os.open(path, _READ)  # O_NONBLOCK: a FIFO put there must not make us wait
    with os.fdopen(descriptor, "rb") as file:
        known = os.fstat(descriptor)
        if not stat.S_ISREG(known.st_mode):
            raise InvalidError("what was to be read is not a regular file")
        data = file.read(most + 1)
    if len(data) > most:
        raise InvalidError(f"the file to be read has more than {most} bytes")
    return data, known


def _check_directory(directory: int, folder: str) -> None:
    known = os.fstat(directory)
    if known.st_mode & stat.S_IWOTH and not known.st_mode & stat.S_ISVTX:
        raise InvalidError(
            "the directory of the file to be written is writable by everybody",
            remedy=f"chmod o-w {quoted(folder)}",
        )


def _check_target(directory: int, name: str, path: str, mode: int) -> None:
    """Refuse to replace anything but a regular file of ours with one name, no wider than asked."""
    try:
        known = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return
    if stat.S_ISLNK(known.st_mode):
        problem, remedy = "is a symbolic link", f"rm {quoted(path)}"
    elif not stat.S_ISREG(known.st_mode):
        problem, remedy = "is not a regular file", None
    elif known.st_uid != os.geteuid():
        problem, remedy = "belongs to another user", None
    elif known.st_nlink != 1:
        problem, remedy = "has other names (hard links)", f"rm {quoted(path)}"
    elif stat.S_IMODE(known.st_mode) & ~mode & 0o7077:
        problem, remedy = f"is open wider than {mode:04o}", f"chmod {mode:04o} {quoted(path)}"
    else:
        return
    raise InvalidError(f"the file to be written {problem}", remedy=remedy)


@contextmanager
def _temporary(directory: int, name: str, path: str) -> Iterator[tuple[int, str]]:
    """A new file, gone again unless the block has renamed it."""
    temporary = f".{name[:200]}.{secrets.token_hex(8)}.tmp"
    try:
        descriptor = os.open(temporary, _NEW, 0o600, dir_fd=directory)
    except OSError as error:
        raise _refused(path, error) from None
    try:
        os.fchmod(descriptor, 0o600)  # a umask of 0777 must not lock ourselves out of it
        yield descriptor, temporary
    except OSError as error:
        raise _refused(path, error) from None
    finally:
        os.close(descriptor)
        with suppress(FileNotFoundError):  # renamed: all went well
            os.unlink(temporary, dir_fd=directory)


def _refused(path: str, error: OSError) -> UnavailableError:
    why = os.strerror(error.errno or 0).lower()
    return UnavailableError(f"the file to be written: {why}", remedy=f"ls -ld {quoted(path)}")


def quoted(path: str) -> str:
    """A path as a shell takes it, for a remedy that can be pasted."""
    plain = all(char.isalnum() or char in "/._-+~@%" for char in path) and path.isascii()
    return path if plain and path else "'" + path.replace("'", "'\\''") + "'"
