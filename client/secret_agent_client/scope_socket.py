"""The listening socket of a scope: bound here, by the one who asks, and handed to the agent.

Rules that hold here (F1, F9, abuse 46, 47):

* the mode is set before the socket has a name, so that no umask and no moment makes it wider;
* it is bound in a directory that is ours and in which nobody else may put things;
* what is at the path already is replaced only if it is a socket of ours that nobody answers at;
* a path too long for a socket is an error, never shortened and never moved elsewhere.
"""

import os
import socket
import stat
from contextlib import suppress
from pathlib import Path

from secret_agent_client.errors import DeniedError, InvalidError, UnavailableError
from secret_agent_client.private_file import quoted

MAX_PATH = 107  # bytes; sun_path of unix(7), less its NUL
BACKLOG = 128


def bind_scope(path: str, *, mode: int = 0o600, uid: int | None = None) -> socket.socket:
    """A listening socket at the path, of that mode and, where we may, of that owner.

    Raises InvalidError for a path that cannot be, DeniedError where the owner cannot be changed,
    UnavailableError where something answers there.
    """
    if not path or len(os.fsencode(path)) > MAX_PATH or "\0" in path:
        raise InvalidError(f"--socket needs a path of 1 to {MAX_PATH} bytes")
    _check_folder(Path(path).parent)
    _clear(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        os.fchmod(listener.fileno(), 0o600)
        listener.bind(path)
        _open_up(path, mode, uid)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        remove_socket(path)
        why = os.strerror(error.errno or 0).lower()
        raise UnavailableError(f"the scope's socket cannot be made: {why}") from None
    except BaseException:
        listener.close()
        remove_socket(path)
        raise
    return listener


def remove_socket(path: str) -> None:
    """Remove the socket at the path, if it is one of ours."""
    with suppress(OSError):
        if _is_own_socket(os.lstat(path)):
            os.unlink(path)  # noqa: PTH108  # the path as it was given, to the byte


def _check_folder(folder: Path) -> None:
    try:
        known = folder.stat()
    except OSError as error:
        why = os.strerror(error.errno or 0).lower()
        raise InvalidError(f"the directory of --socket cannot be used: {why}") from None
    if known.st_uid not in (os.geteuid(), 0):
        raise InvalidError("the directory of --socket belongs to another user")
    shared = known.st_mode & 0o022
    if shared and not known.st_mode & stat.S_ISVTX:
        raise InvalidError(
            "the directory of --socket is writable by others",
            remedy=f"chmod go-w {quoted(str(folder))}",
        )


def _clear(path: str) -> None:
    """Remove what an agent that was killed left.  Two that do this at once may both go on: the
    second bind then fails, and says so.
    """
    try:
        known = os.lstat(path)
    except FileNotFoundError:
        return
    if not _is_own_socket(known):
        raise InvalidError("what is at --socket is not a socket of yours and stays there")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            remove_socket(path)
            return
        except OSError:
            pass  # whatever it is, somebody may be there
    raise UnavailableError("a scope is served at that socket already", remedy="secret-agent scopes")


def _is_own_socket(known: os.stat_result) -> bool:
    return stat.S_ISSOCK(known.st_mode) and known.st_uid == os.geteuid()


def _open_up(path: str, mode: int, uid: int | None) -> None:
    """Give the socket its owner and mode; its directory is ours, so that the name is still it."""
    if uid is not None and uid != os.geteuid():
        try:
            os.chown(path, uid, -1, follow_symlinks=False)
        except PermissionError:
            if not mode & 0o006:
                raise DeniedError(
                    "only root can give the socket to another uid; the agent checks the uid "
                    "itself, so the mode may be wide where the directory is not",
                    remedy=f"secret-agent delegate --uid {uid} --mode 0666 …",
                ) from None
    if mode != 0o600:
        os.chmod(path, mode)  # noqa: PTH101  # the path as it was given, to the byte
