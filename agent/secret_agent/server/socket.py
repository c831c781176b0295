"""Bind the agent's socket, safely, or find that another agent has it.

Rules: the folder is a real directory of ours with mode 0700; the socket is 0600 from its first
moment, by fchmod before bind
(so no umask is changed under other threads); never an abstract name, never /tmp; whoever holds the
lock file owns the path,
so that two starts cannot race and a socket is unlinked only when its owner is dead.

The lock is flock(2) on `<socket>.lock`, held as long as the agent lives; the file stays, since
unlinking it would let two
agents hold locks on two files of one name.
"""

import fcntl
import os
import socket
import stat
from pathlib import Path

from secret_agent_client.errors import InvalidError, UnavailableError

BACKLOG = 128
MAX_PATH = 107  # bytes, of sockaddr_un (unix(7)), its NUL left out


class AgentRunsError(UnavailableError):
    """Another agent holds this socket's lock."""


def bind(path: Path) -> tuple[socket.socket, int]:
    """A listening socket at the path, and the descriptor of the lock that goes with it.

    Raises AgentRunsError, InvalidError (what is there is not ours or not safe), UnavailableError.
    """
    if len(os.fsencode(path)) > MAX_PATH:
        raise InvalidError(
            f"the socket's path has more than {MAX_PATH} bytes",
            remedy="SECRET_AGENT_HOME=~/.sa secret-agent start",
        )
    check_folder(path.parent)
    lock = _take_lock(path)
    try:
        _remove_dead_socket(path)
        return _listen(path), lock
    except BaseException:
        os.close(lock)
        raise


def check_folder(folder: Path) -> None:
    """Make the folder, or refuse it unless it is a directory of ours that nobody else may enter."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise UnavailableError(f"{folder} cannot be made: {error.strerror}") from None
    if not stat.S_ISDIR(found.st_mode):
        raise InvalidError(f"{folder} is not a directory", remedy=f"ls -ld {folder}")
    if found.st_uid != os.geteuid():
        raise InvalidError(f"{folder} belongs to uid {found.st_uid}", remedy=f"ls -ld {folder}")
    if found.st_mode & 0o077:
        raise InvalidError(f"{folder} is open to others", remedy=f"chmod 700 {folder}")


def _take_lock(path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        lock = os.open(f"{path}.lock", flags, 0o600)
    except OSError as error:
        raise UnavailableError(f"{path}.lock cannot be opened: {error.strerror}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise AgentRunsError("an agent runs already", remedy="secret-agent status") from None
    return lock


def _remove_dead_socket(path: Path) -> None:
    """Remove what a dead agent left; the lock has told that it is dead.

    Anything that still answers there was bound by somebody who does not take our lock: it is left
    alone.
    """
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode) or found.st_uid != os.geteuid():
        raise InvalidError(f"{path} is not a socket of ours", remedy=f"ls -l {path}")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(os.fspath(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
        except OSError:
            pass
    raise AgentRunsError(
        f"something answers at {path} that holds no lock", remedy="secret-agent status"
    )


def _listen(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        os.fchmod(listener.fileno(), 0o600)
        listener.bind(os.fspath(path))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise UnavailableError(f"{path} cannot be bound: {error.strerror}") from None
    return listener


def adopt(descriptor: int) -> tuple[socket.socket, str]:
    """The listening socket behind a descriptor that a client sent, and its path as the kernel
    tells it.

    Raises InvalidError for anything but a listening AF_UNIX stream socket with a path.  The
    descriptor is taken over,
    and closed where it is refused.
    """
    try:
        listener = socket.socket(fileno=descriptor)
    except OSError:
        os.close(descriptor)
        raise InvalidError("the descriptor sent is not a socket") from None
    name = b"" if listener.family != socket.AF_UNIX else os.fsencode(listener.getsockname())
    fits = (
        listener.family == socket.AF_UNIX
        and listener.type == socket.SOCK_STREAM
        and listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
        and name.startswith(b"/")
    )
    if not fits:
        listener.close()
        raise InvalidError("the descriptor sent is not a listening Unix stream socket with a path")
    return listener, os.fsdecode(name)


def unlink_socket(path: str, identity: tuple[int, int] | None) -> None:
    """Remove a socket's name if it is still the one that was bound; never anything else."""
    try:
        found = os.lstat(path)
        if stat.S_ISSOCK(found.st_mode) and (found.st_dev, found.st_ino) == identity:
            Path(path).unlink()
    except OSError:
        return  # gone already, or no longer ours to remove: nothing of ours is left there


def identity_of(path: str) -> tuple[int, int] | None:
    """(st_dev, st_ino) of the name as it is now, or None where it cannot be seen from here."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
