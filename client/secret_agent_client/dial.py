"""Who listens at a socket, and whether we may talk to them: the client's half of mutual identity.

Rules that hold here.  A server that runs as our own uid may be talked to.  Another uid may only

* at a socket that was named explicitly (SECRET_AGENT_SOCK or an argument; never the well-known
  one), and
* if nobody but root or we could have put that socket where it is: every directory on its path is
  owned by root or by us, written by its owner alone, and no link; and
* if its greeting, before which nothing is asked, says that it is a scope's: a scope is never told
  a passphrase or a value.

That is what a scope's socket mounted into a container looks like: the agent's uid appears there as
whatever the user namespace makes of it (0, 1000, 65534), so its number says nothing, but the mount
point says that root of the container agreed.  Where another user could have bound the socket (/tmp,
a group-writable folder), its word is not enough and the answer is no.

An explicit socket that is dead never makes us try a wider one: the caller may have been given a
scope on purpose.  The error says which variable led here and how to get rid of it.

On a system where the kernel does not tell who listens, nothing is talked to.
"""

import errno
import os
import stat
import sys
import time
from _socket import AF_UNIX, SOCK_STREAM, SOL_SOCKET, socket

from secret_agent_client.errors import NoAgentError, SecretAgentError, UnavailableError
from secret_agent_client.paths import START, default_paths

RETRY_S = 0.01  # seconds between two attempts to get into a full backlog
_PLATFORM: str = sys.platform  # a plain string, so that no branch counts as unreachable
_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def dial(path: str, *, explicit: bool, deadline_s: float) -> socket:
    """A connected socket whose listener may be talked to (greeted first, if `is_foreign`).

    Raises NoAgentError where nobody listens or somebody who may not, UnavailableError where the
    listener lets nobody in within the deadline.
    """
    sock = socket(AF_UNIX, SOCK_STREAM)
    try:
        _connect(sock, path, explicit, time.monotonic() + deadline_s)
        check_server(sock, path, explicit=explicit)
    except BaseException:
        sock.close()
        raise
    return sock


def check_server(sock: socket, path: str, *, explicit: bool) -> None:
    """Raise NoAgentError unless the listener may be talked to; see the rules above."""
    if not is_foreign(sock):
        return
    uid = server_credentials(sock)[1]
    doubt = untrusted_part(path) if explicit else "it is the well-known one"
    if doubt is not None:
        raise NoAgentError(
            f"what answers at the socket {path} is run by another user (uid {uid}), and {doubt}",
            remedy="unset SECRET_AGENT_SOCK" if explicit else "secret-agent doctor",
        )


def is_foreign(sock: socket) -> bool:
    """Whether the listener runs as another uid than ours."""
    return server_credentials(sock)[1] != os.geteuid()


def server_credentials(sock: socket) -> tuple[int, int]:
    """(pid, uid) of who called listen(), as the kernel kept them.  A pid of 0 is one we cannot see.

    Raises NoAgentError where the kernel does not tell.
    """
    try:
        if _PLATFORM == "linux":
            raw = sock.getsockopt(SOL_SOCKET, 17, 12)  # SO_PEERCRED: struct ucred {pid, uid, gid}
            pid, uid = (int.from_bytes(raw[at : at + 4], sys.byteorder) for at in (0, 4))
            return pid, uid
        if _PLATFORM == "darwin":
            raw = sock.getsockopt(0, 1, 76)  # LOCAL_PEERCRED: struct xucred {version, uid, …}
            return 0, int.from_bytes(raw[4:8], sys.byteorder)
    except OSError:
        pass
    raise NoAgentError("the kernel does not say who listens at the socket")


def untrusted_part(path: str) -> str | None:
    """Why others could have put the socket there, as half a sentence; None if nobody could."""
    folder = ""
    for part in path.split("/")[:-1]:
        folder = folder + part + "/"
        try:
            known = os.lstat(folder if folder == "/" else folder[:-1])
        except OSError:
            return f"{folder} cannot be looked at"
        if not stat.S_ISDIR(known.st_mode):
            return f"{folder} is a link"
        if known.st_uid not in (0, os.geteuid()) or known.st_mode & _OTHERS:
            return f"others may write to {folder}"
    return None


def is_stopped(pid: int) -> bool:
    """Whether a process is stopped by a signal or a debugger; False where that cannot be seen."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123  # pathlib costs start-up
            return file.read().rpartition(b")")[2].split()[0] in (b"T", b"t")
    except OSError:
        return False


def too_late(pid: int, what: str, wait_s: float) -> UnavailableError:
    """The error for a server that does not answer: that it is stopped, where that can be seen."""
    if is_stopped(pid):
        return UnavailableError(
            f"the agent (pid {pid}) is stopped and does not {what}", remedy=f"kill -CONT {pid}"
        )
    return UnavailableError(
        f"the agent did not {what} within {wait_s:.3g} s", remedy="secret-agent doctor"
    )


def _connect(sock: socket, path: str, explicit: bool, until: float) -> None:  # noqa: FBT001  # it is dial's
    sock.settimeout(0.0)
    while True:
        try:
            return sock.connect(path)
        except BlockingIOError:  # the backlog is full; a Unix socket has no way to be told of room
            if time.monotonic() > until:
                raise UnavailableError(
                    f"the agent at {path} lets nobody in: it is stopped or overloaded",
                    remedy="secret-agent doctor",
                ) from None
            time.sleep(RETRY_S)
        except OSError as error:
            raise _unreachable(path, explicit, error) from None


def _unreachable(path: str, explicit: bool, error: OSError) -> NoAgentError:  # noqa: FBT001  # it is dial's
    if error.errno == errno.ECONNREFUSED:
        why = f"nobody listens at {path} any more"
    elif error.errno == errno.ENOENT:
        why = f"there is no socket {path}"
    else:
        why = f"the socket {path} cannot be used: {os.strerror(error.errno or 0).lower()}"
    if explicit and os.environ.get("SECRET_AGENT_SOCK") == path:
        return NoAgentError(f"{why}, where SECRET_AGENT_SOCK points", remedy=_way_out(path))
    return NoAgentError(why, remedy=START)


def _way_out(path: str) -> str:
    """What to type when SECRET_AGENT_SOCK is dead: the user's own agent may be alive elsewhere."""
    try:
        known = default_paths(os.environ).socket
    except SecretAgentError:
        return START
    elsewhere = known != path and os.access(known, os.F_OK)
    return "unset SECRET_AGENT_SOCK" if elsewhere else START
