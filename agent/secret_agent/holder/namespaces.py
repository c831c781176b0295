"""Which namespaces a process lives in, compared with the agent's own.

A uid means something only within a user namespace, a path only within a mount namespace.  The
kernel translates the uid of a peer into ours, so that a container's `--user 1000` looks exactly
like the person at uid 1000: that is why a peer whose namespaces are not ours is told apart here,
and the main socket refuses it.

Rule: what cannot be read counts as foreign, unless another sign that needs no permission proves it
to be ours.
"""

import os
from dataclasses import dataclass
from typing import Final

from secret_agent.holder.container import container_of
from secret_agent.holder.pinned import Pinned, pidfd_info
from secret_agent.holder.proc import parse_cgroup, parse_mount_ids
from secret_agent_client.errors import UnavailableError

_WHOLE_MAP: Final = [b"0", b"0", b"4294967295"]  # uid_map of the first user namespace


@dataclass(frozen=True, slots=True)
class Namespaces:
    """The agent's own namespaces, as inode numbers of nsfs, and the container it runs in itself."""

    user: int
    pid: int
    mnt: int
    container: str | None = None

    @classmethod
    def own(cls) -> "Namespaces":
        """Those of this process.

        Raises UnavailableError where /proc is missing or tells of another pid namespace.
        """
        try:
            told = int(os.readlink("/proc/self"))  # noqa: PTH115  # a magic link, no path
            user, pid, mnt = (_own_inode(kind) for kind in ("user", "pid", "mnt"))
            with open("/proc/self/cgroup", "rb") as file:  # noqa: PTH123  # as above
                cgroup = file.read()
        except OSError:
            raise UnavailableError("peers cannot be identified: /proc is not mounted") from None
        if told != os.getpid():
            raise UnavailableError(
                "peers cannot be identified: /proc belongs to another pid namespace",
                remedy="mount -t proc proc /proc",
            )
        return cls(user, pid, mnt, container_of(parse_cgroup(cgroup)))


def foreign_namespaces(pinned: Pinned, own: Namespaces) -> tuple[str, ...]:
    """Those of "user", "pid" and "mnt" in which a process does not live with us.

    Raises one of pinned.GONE when the process is gone.
    """
    foreign = []
    for kind, ours, is_ours in (
        ("user", own.user, _shares_user),
        ("pid", own.pid, _shares_pid),
        ("mnt", own.mnt, _shares_mnt),
    ):
        theirs = namespace_inode(pinned, kind)
        if not (is_ours(pinned) if theirs is None else theirs == ours):
            foreign.append(kind)
    return tuple(foreign)


def namespace_inode(pinned: Pinned, kind: str) -> int | None:
    """The inode number of one namespace of a process, None where the kernel keeps it from us."""
    try:
        return os.stat(f"ns/{kind}", dir_fd=pinned.directory).st_ino
    except PermissionError:
        return None


def _own_inode(kind: str) -> int:
    return os.stat(f"/proc/self/ns/{kind}").st_ino  # noqa: PTH116  # a magic link, no path


def _shares_user(pinned: Pinned) -> bool:
    """Whether a process maps every uid to itself, as only the first user namespace does.

    /proc/PID/uid_map is for everybody to read.  Equal to ours proves nothing where ours is a part:
    a namespace below could have been given the same text.
    """
    return pinned.read("uid_map").split() == _WHOLE_MAP


def _shares_pid(pinned: Pinned) -> bool:
    """Whether a process has no pid in a namespace below ours.

    One beside or above ours is never seen at all.
    """
    return len(pidfd_info(pinned.pidfd).ns_pids) == 1


def _shares_mnt(pinned: Pinned) -> bool:
    """Whether a process sees a mount that we see: a mount belongs to one namespace only."""
    with open("/proc/self/mountinfo", "rb") as file:  # noqa: PTH123  # a file of the kernel
        ours = parse_mount_ids(file.read())
    return not ours.isdisjoint(parse_mount_ids(pinned.read("mountinfo")))
