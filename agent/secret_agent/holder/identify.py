"""From a connected socket to a Holder: who asks, read afresh at every request.

Identity is taken at the request and not at the connect, because a process may exec between the two:
same pid, same pidfd, another program.  Each look reads /proc through descriptors of the one process
that connected, and the question whether it is alive comes last; a Holder is never made of a process
that has ended, not even if a grandchild holds the connection.

uid and gid are those of the connect.  Everything else is a guardrail (model.Holder), and what the
kernel keeps from us is told as not inspectable, for policy to decide on.

Known limit: a process may send a request, pass the connection to a child and exec before the look;
then the child's request is told under the name of the new program.  It has the same uid, so this
crosses no boundary, and no look at /proc can close it.

A second look costs little: where nothing has changed it returns the same Holder.  Namespaces,
cgroup and ancestry are read again when the process has a new parent or a new program, or an
ancestor has ended.
"""

import os
import socket
from collections.abc import Callable
from select import POLLIN, poll
from typing import Final, NamedTuple

from secret_agent.holder.ancestry import Ancestry, Kin, executable_or_nothing, member_of
from secret_agent.holder.container import cgroup_path, container_of
from secret_agent.holder.linux import Credentials, gone, hidden, pin_peer, refusal_of
from secret_agent.holder.namespaces import Namespaces, foreign_namespaces, namespace_inode
from secret_agent.holder.pinned import GONE, Pinned
from secret_agent.holder.proc import Stat, parse_cgroup, terminal_name
from secret_agent.holder.shells import Shell, find_shell
from secret_agent.model import Ancestor, Holder, ProcessKey
from secret_agent_client.errors import DeniedError

_MAX_LOOKS: Final = 4  # how often in a row ancestors may end while we look

_ancestry = Ancestry()  # one an agent: its pins are worth having because all connections share them

Pin = Callable[[socket.socket], tuple[Pinned, Credentials]]


class _Sight(NamedTuple):
    """What every look reads: all that a process can change about itself at any time."""

    stat: Stat
    exe: str
    exe_id: tuple[int, int] | None
    cwd: str | None  # None where the kernel keeps it from us


class _Surroundings(NamedTuple):
    """What is read again only when the program, the parent or an ancestor is another."""

    line: tuple[Kin, ...]
    ancestry: tuple[Ancestor, ...]
    near: int  # how many of the line, parent first, are looked at again each time: up to the shell
    shell: Shell | None
    foreign: tuple[str, ...]
    container: str | None
    cgroup: str


class Peer:
    """The process at the other end of one connection."""

    def __init__(self, pinned: Pinned, credentials: Credentials, own: Namespaces) -> None:
        self.uid = credentials.uid
        self.gid = credentials.gid
        self.pid = pinned.pid
        self._pinned = pinned
        self._own = own
        self._sight: _Sight | None = None
        self._around: _Surroundings | None = None
        self._holder: Holder | None = None
        self._lives = poll()

    @classmethod
    def from_socket(cls, sock: socket.socket, *, own: Namespaces, pin: Pin = pin_peer) -> "Peer":
        """The peer of an accepted connection; it is held until `close`.

        `pin` is the rung that finds it (linux.py).  Raises DeniedError when the peer is gone or
        cannot be told, UnavailableError when descriptors have run out.
        """
        pinned, credentials = pin(sock)
        return cls(pinned, credentials, own)

    @property
    def pidfd(self) -> int:
        """The pidfd of the peer, which stays ours; readable when the peer has ended."""
        return self._pinned.pidfd

    def alive(self) -> bool:
        """Whether the process that connected still lives."""
        return self._pinned.alive()

    def open_pidfd(self, key: ProcessKey) -> int:
        """A pidfd of the peer or of an ancestor that `identify` told; the caller closes it.

        It is a copy of the one that was held while the process was identified, so that it is that
        process and no later one with the same pid, not even one that started within the same clock
        tick.
        Raises DeniedError when that process has ended or is none of them, UnavailableError when
        descriptors have run out.
        """
        line = self._around.line if self._around else ()
        for pinned in (self._pinned, *(kin.pinned for kin in line)):
            if pinned.key == key and pinned.alive():
                try:
                    return os.dup(pinned.pidfd)
                except OSError as error:
                    raise refusal_of(error, what=f"process {key.pid}") from None
        raise gone(f"process {key.pid}")

    def close(self) -> None:
        """Let go of the process.  Calling it again does nothing."""
        self._pinned.close()
        self._around = None

    def identify(self, *, scope: str | None) -> Holder:
        """Who asks now, having come by the socket of `scope` (None: the main socket).

        Raises DeniedError when the peer has ended or cannot be told, UnavailableError when
        descriptors have run out.
        """
        if self._pinned.pidfd < 0:
            raise gone()
        try:
            return self._identify(scope)
        except GONE:
            raise (hidden() if self.alive() else gone()) from None
        except (OSError, ValueError) as error:
            raise refusal_of(error) from None

    def _identify(self, scope: str | None) -> Holder:
        for _ in range(_MAX_LOOKS):
            holder = self._look(scope)
            if holder is not None and not self._lives.poll(0):
                return holder
            if not self.alive():
                raise gone()
            self._around = None
        raise DeniedError("the ancestors of the process change faster than they can be read")

    def _look(self, scope: str | None) -> Holder | None:
        """One look, to be believed only if all of the line live on; None where one has ended."""
        sight = self._see()
        around = self._around
        if around is None or _is_new_program(self._sight, sight) or _has_changed(around):
            around = self._around = self._look_around(sight)
            if around is None:
                return None
        elif sight == self._sight and self._holder is not None and self._holder.scope == scope:
            return self._holder
        self._sight = sight
        self._holder = self._holder_of(sight, around, scope)
        return self._holder

    def _see(self) -> _Sight:
        pinned, known = self._pinned, self._sight
        try:
            if known is None or known.exe_id is None or not pinned.runs(known.exe, known.exe_id):
                exe, exe_id = executable_or_nothing(pinned)
            else:
                exe, exe_id = known.exe, known.exe_id
            cwd = pinned.working_directory()
        except PermissionError:
            return _Sight(pinned.stat(), "", None, None)
        return _Sight(pinned.stat(), exe, exe_id, cwd)

    def _look_around(self, sight: _Sight) -> _Surroundings | None:
        """Read what surrounds the process; None where an ancestor ended meanwhile."""
        pinned = self._pinned
        try:
            line = _ancestry.line_of(pinned, sight.stat.ppid)
        except GONE:  # of the process itself too; `_identify` asks which
            return None
        me = member_of(pinned, sight.stat, exe=sight.exe, uid=self.uid)
        shell = find_shell((me, *(kin.member for kin in line)))
        lines = parse_cgroup(pinned.read("cgroup"))
        foreign = foreign_namespaces(pinned, self._own)
        self._watch(line)
        return _Surroundings(
            line,
            tuple(kin.ancestor for kin in line),
            max(1, shell.place if shell else 1),
            shell,
            foreign,
            self._container(container_of(lines), foreign),
            cgroup_path(lines),
        )

    def _container(self, named: str | None, foreign: tuple[str, ...]) -> str | None:
        """The container of the process as seen from here: None where it is the agent's own."""
        if named is not None and named != self._own.container:
            return named
        for kind in ("pid", "mnt", "user"):
            if kind in foreign:
                inode = namespace_inode(self._pinned, kind)
                return f"namespace:{inode if inode is not None else 'hidden'}"
        return None

    def _watch(self, line: tuple[Kin, ...]) -> None:
        """Have one poll tell whether the process and all its ancestors live."""
        self._lives = poll()
        self._lives.register(self._pinned.pidfd, POLLIN)
        for kin in line:
            self._lives.register(kin.pinned.pidfd, POLLIN)

    def _holder_of(self, sight: _Sight, around: _Surroundings, scope: str | None) -> Holder:
        return Holder(
            uid=self.uid,
            gid=self.gid,
            process=self._pinned.key,
            exe=sight.exe,
            exe_id=sight.exe_id,
            cwd=sight.cwd or "",
            tty=terminal_name(sight.stat.tty_device),
            session_id=sight.stat.session_id,
            ancestry=around.ancestry,
            shell=around.shell.key if around.shell else None,
            shell_name=around.shell.name if around.shell else None,
            foreign_namespaces=around.foreign,
            container=around.container,
            cgroup=around.cgroup,
            scope=scope,
            inspectable=sight.exe_id is not None and sight.cwd is not None,
        )


def _is_new_program(before: _Sight | None, now: _Sight) -> bool:
    """Whether the process has another parent, or has called exec since."""
    return (
        before is None
        or before.stat.ppid != now.stat.ppid
        or before.stat.layout != now.stat.layout
        or before.exe != now.exe
        or before.exe_id != now.exe_id
    )


def _has_changed(around: _Surroundings) -> bool:
    """Whether an ancestor up to the shell is not what it was; of those above, life is enough."""
    near = zip(around.line[: around.near], around.ancestry, strict=False)
    try:
        return any(kin.now() is not known for kin, known in near)
    except GONE:
        return True
