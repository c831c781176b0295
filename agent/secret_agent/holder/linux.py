"""Find the process at the other end of a Unix socket on Linux, by the best rung the kernel has.

Each rung tells the race that it closes and the one that stays.  uid and gid are the kernel's record
of the connect and never come from /proc: a process that execs a setuid program after connecting is
still the user it was.  The pid is decoration.

A peer that is gone, that is outside our pid namespace (pid 0), or of which the kernel cannot say
which it is, is refused; nothing is guessed.
"""

import errno
import os
import socket
import struct
import time
from typing import Final, NamedTuple

from secret_agent.holder.pinned import Pinned, pidfd_info
from secret_agent.holder.proc import parse_status
from secret_agent.model import ProcessKey
from secret_agent_client.errors import DeniedError, SecretAgentError, UnavailableError

SO_PEERPIDFD: Final = 77  # <asm-generic/socket.h>, Linux 6.5; Python has no name for it
_UCRED: Final = struct.Struct("iII")  # struct ucred: pid, uid, gid (unix(7))
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


class Credentials(NamedTuple):
    """SO_PEERCRED: who called connect(2), recorded then, seen from our namespaces."""

    claimed_pid: int  # may be dead and used again
    uid: int
    gid: int


def pin_peer(sock: socket.socket) -> tuple[Pinned, Credentials]:
    """Pin the process that connected a Unix socket, by the best rung that this kernel has.

    Raises DeniedError for a peer that is gone or cannot be told, UnavailableError when descriptors
    have run out.
    """
    try:
        return pin_by_peer_pidfd(sock)
    except _NoSuchRungError:
        return pin_by_credentials(sock)


def pin_by_peer_pidfd(sock: socket.socket) -> tuple[Pinned, Credentials]:
    """First rung (Linux 6.5): the kernel itself hands out a pidfd of the process that connected.

    No race to close: the reference was taken at connect(2).  But success does not mean alive: of a
    reaped peer some kernels give an error and others a pidfd with Pid -1.  Both, and a readable
    pidfd, are one and the same: gone.
    """
    credentials = peer_credentials(sock)
    try:
        pidfd: int = sock.getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD)
    except OSError as error:
        if error.errno == errno.ENOPROTOOPT:
            raise _NoSuchRungError from None
        raise refusal_of(error) from None
    try:
        pid = pidfd_info(pidfd).pid
    except (OSError, ValueError) as error:
        os.close(pidfd)
        raise refusal_of(error) from None
    if pid != credentials.claimed_pid:  # -1: reaped
        os.close(pidfd)
        raise gone()
    try:
        return Pinned(pid, pidfd), credentials
    except (OSError, ValueError) as error:
        raise refusal_of(error) from None


def pin_by_credentials(
    sock: socket.socket, *, latest_start: int | None = None
) -> tuple[Pinned, Credentials]:
    """Second rung (Linux 5.3): the pid of the connect, pinned now.

    Between connect and now the peer may have died and its pid gone to another process.  Two checks
    narrow that: what we pinned must have started before we were called (`latest_start`, clock ticks
    since boot, default now), which shuts out every pid recycled from here on; and it must belong to
    the uid that connected, so that what slips through is at most another process of the same user.
    What remains: a process of that user that took the pid between connect and accept.  It gets what
    that user may have, under the wrong name.
    """
    if latest_start is None:
        latest_start = int(time.clock_gettime(time.CLOCK_BOOTTIME) * _TICKS_PER_S)
    credentials = peer_credentials(sock)
    try:
        pinned = Pinned.open(credentials.claimed_pid)
    except (OSError, ValueError) as error:
        raise refusal_of(error) from None
    try:
        if pinned.key.start_time <= latest_start and _belongs_to(pinned, credentials):
            return pinned, credentials
    except (OSError, ValueError) as error:
        pinned.close()
        raise refusal_of(error) from None
    pinned.close()
    raise gone()


def peer_credentials(sock: socket.socket) -> Credentials:
    """SO_PEERCRED of a connected Unix socket.

    Raises DeniedError for pid 0: a peer outside our pid namespace, or no peer at all.
    """
    try:
        raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    except OSError as error:
        raise refusal_of(error) from None
    credentials = Credentials(*_UCRED.unpack(raw))
    if credentials.claimed_pid <= 0:
        raise DeniedError("the process that connected is outside the agent's pid namespace")
    return credentials


def open_pidfd(key: ProcessKey) -> int:
    """A pidfd of the process of that key, which the caller closes.

    Raises DeniedError when that process is gone, UnavailableError when descriptors have run out.

    The pidfd comes first, then the start time, then the question whether it is alive still: alive
    at the end, the process had the pid all along, so the start time that was read in between was
    its own.
    """
    try:
        pinned = Pinned.open(key.pid)
    except (OSError, ValueError) as error:
        raise refusal_of(error, what=f"process {key.pid}") from None
    if pinned.key != key:
        pinned.close()
        raise gone(f"process {key.pid}")
    return pinned.release()


def refusal_of(
    error: OSError | ValueError, *, what: str = "the process that connected"
) -> SecretAgentError:
    """The refusal that a failed look at a process amounts to; in doubt, it is as good as gone."""
    if isinstance(error, ValueError):
        return DeniedError(f"{what} cannot be identified: /proc is not as documented")
    if error.errno in _EXHAUSTED:
        return UnavailableError(
            f"{what} cannot be identified: the agent has no file descriptors left",
            remedy="secret-agent status",
        )
    if error.errno == errno.ENOSYS:
        return UnavailableError(f"{what} cannot be identified: this needs Linux 5.3 or newer")
    if error.errno in (errno.EACCES, errno.EPERM):
        return hidden(what)
    return gone(what)


def hidden(what: str = "the process that connected") -> DeniedError:
    """The refusal of a process that lives and may not be looked at (another user's, hidepid)."""
    return DeniedError(f"{what} cannot be identified: the kernel keeps it from the agent")


def gone(what: str = "the process that connected") -> DeniedError:
    """The refusal of a process that has ended."""
    return DeniedError(f"{what} is gone")


class _NoSuchRungError(Exception):
    """The kernel does not know SO_PEERPIDFD."""


def _belongs_to(pinned: Pinned, credentials: Credentials) -> bool:
    """Whether one of a process's uids and one of its gids are those of the connect."""
    status = parse_status(pinned.read("status"))
    return credentials.uid in status.uids and credentials.gid in status.gids and pinned.alive()
