"""The line of ancestors from a process up to init, each one pinned.

A parent's pid is read first and pinned after, and in between the parent may die and its pid go to
another process.  So the child is asked again once the parent is pinned: a child whose parent died
has a new one (the kernel reparents it), and one that still names this pid names the process that we
hold.

A line stays what it is as long as every process of it lives: nobody gets another parent while his
own is alive.  That is one poll of their pidfds, however long the line is, and why ancestors are
kept pinned between requests.  What a living ancestor can still change is itself (exec, setsid, its
name), which `Ancestor` tells and `Kin.now` looks at again.

The pins are shared: a hundred clients of one shell have one line.  Everything here runs in the
agent's main thread.
"""

from collections import OrderedDict
from typing import Final

from secret_agent.holder.pinned import GONE, Pinned
from secret_agent.holder.proc import Stat, parse_arguments, terminal_name
from secret_agent.holder.shells import MULTICALL, Member, program_name
from secret_agent.model import Ancestor

MAX_ANCESTORS: Final = 64  # a line that is cut here has no shell within reach anyway
MAX_KEPT: Final = 128  # ancestors that stay pinned although no connection needs them
_MAX_TURNS: Final = 8  # how often in a row a process may be given a new parent while we look


class Kin:
    """One ancestor, pinned, and what is known of it."""

    __slots__ = ("ancestor", "member", "pinned", "stat")

    def __init__(self, pinned: Pinned) -> None:
        self.pinned = pinned
        self._learn(pinned.stat())

    def now(self) -> Ancestor:
        """What the ancestor is now: the very object as before where nothing has changed.

        Raises one of pinned.GONE when it has ended.
        """
        stat = self.pinned.stat()
        if stat != self.stat:
            self._learn(stat)
        return self.ancestor

    def _learn(self, stat: Stat) -> None:
        """Read all that an ancestor shows."""
        pinned = self.pinned
        try:
            exe = executable_or_nothing(pinned)[0]
        except FileNotFoundError:
            exe = ""  # a kernel thread has none, nor has a process on its way out
        uid = pinned.uid()
        self.stat = stat
        self.ancestor = Ancestor(
            pinned.key, exe, stat.name, uid, stat.session_id, terminal_name(stat.tty_device)
        )
        self.member = member_of(pinned, stat, exe=exe, uid=uid)

    def __del__(self) -> None:
        # Kin are shared by connections and by the cache; the last to let go closes the descriptors.
        if hasattr(self, "pinned"):
            self.pinned.close()


class Ancestry:
    """Finds lines of ancestors, and keeps the pins that were used last."""

    def __init__(self) -> None:
        self._kept: OrderedDict[int, Kin] = OrderedDict()

    def line_of(self, child: Pinned, ppid: int) -> tuple[Kin, ...]:
        """The ancestors of a process whose parent was `ppid` a moment ago, parent first.

        It ends at init, at the edge of our pid namespace, and where /proc hides the next one.
        Raises one of pinned.GONE when one of the line ends meanwhile: look again.  Even without,
        one may have ended: a line is to be believed when all its pidfds are still unreadable after
        this returned.
        """
        line: list[Kin] = []
        while len(line) < MAX_ANCESTORS:
            kin = self._parent_of(child, ppid)
            if kin is None:
                break
            line.append(kin)
            child, ppid = kin.pinned, kin.stat.ppid
        return tuple(line)

    def _parent_of(self, child: Pinned, ppid: int) -> Kin | None:
        """The pinned parent of a process, None where it has none that we can see."""
        for _ in range(_MAX_TURNS):
            if ppid == 0:
                return None
            kin = self._kept_kin(ppid)
            if kin is not None:  # it had this pid before the child named it, and has it after
                return kin
            kin = self._pin(ppid)
            again = child.stat().ppid
            if again == ppid:
                return kin
            ppid = again
        raise ProcessLookupError("the line of ancestors changes faster than it can be read")

    def _kept_kin(self, pid: int) -> Kin | None:
        """The living ancestor of that pid that is pinned already, as it is now."""
        kin = self._kept.get(pid)
        if kin is None or not kin.pinned.alive():
            return None
        kin.now()
        self._kept.move_to_end(pid)
        return kin

    def _pin(self, pid: int) -> Kin | None:
        """Whatever process has that pid now, pinned; None where there is none that we may see."""
        try:
            kin = Kin(Pinned.open(pid))
        except (*GONE, PermissionError):
            return None
        self._kept[pid] = kin
        self._kept.move_to_end(pid)
        if len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)
        return kin


def executable_or_nothing(pinned: Pinned) -> tuple[str, tuple[int, int] | None]:
    """The executable of a process, or ("", None) where the kernel keeps it from us."""
    try:
        return pinned.executable()
    except PermissionError:
        return "", None


def member_of(pinned: Pinned, stat: Stat, *, exe: str, uid: int) -> Member:
    """A process as the search for a shell sees it."""
    multicall = program_name(exe) in MULTICALL
    arguments = parse_arguments(pinned.read("cmdline")) if multicall else ()
    return Member(pinned.key, exe, stat.name, arguments, uid, stat.layout)
