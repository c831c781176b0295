"""Which shell called us: to register it, and to print in its words.

Rules that hold here: what is found is a claim, which the agent checks against the kernel before it
believes it; the process that a shell forks for `$(…)` is skipped, since it ends before the line
that it prints is evaluated.  Without /proc nothing is found, and the agent looks for itself.
"""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

SHELLS = ("bash", "zsh", "fish", "posix")
NAMES = frozenset(
    {"bash", "zsh", "fish", "sh", "dash", "ash", "ksh", "ksh93", "mksh", "yash", "busybox"}
)
MAX_COPIES = 8  # subshells inside subshells that we look through


class Process:
    """What /proc says of a process.  Raises OSError where it is gone or not ours to see."""

    __slots__ = ("argv", "exe", "group", "name", "parent", "pid")

    def __init__(self, pid: int) -> None:
        self.pid = pid
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123  # of /proc
            head, _, rest = file.read().rpartition(b")")
        self.name = head.partition(b"(")[2].decode("utf-8", "replace")
        fields = rest.split()
        self.parent, self.group = int(fields[1]), int(fields[2])
        with open(f"/proc/{pid}/cmdline", "rb") as file:  # noqa: PTH123  # of /proc
            self.argv = file.read()
        self.exe = os.readlink(f"/proc/{pid}/exe")  # noqa: PTH115  # of /proc

    def is_copy_of(self, other: "Process") -> bool:
        """Whether it looks like a fork that has not called exec: a subshell."""
        return (self.exe, self.argv, self.group) == (other.exe, other.argv, other.group)


def calling_shell(pid: int | None = None) -> int | None:
    """The pid of the shell whose command line this is; None where a program called us."""
    found = _caller(os.getppid() if pid is None else pid)
    return found.pid if found is not None and shell_name(found) in NAMES else None


def shell_syntax(environ: "Mapping[str, str]") -> str:
    """One of SHELLS: the calling shell's, else that of $SHELL, else posix."""
    caller = _caller(os.getppid())
    name = "" if caller is None else shell_name(caller)
    if name not in NAMES:
        name = environ.get("SHELL", "").rpartition("/")[2]
    return name if name in SHELLS else "posix"


def shell_name(process: Process) -> str:
    """By the executable's name (a shell may rename itself), where that says nothing by its own."""
    name = process.exe.rpartition("/")[2].removesuffix(" (deleted)")
    return name if name in NAMES else process.name.lstrip("-")


def _caller(pid: int) -> Process | None:
    """The process, or the one that it is a forked copy of; None where it cannot be seen."""
    process = _seen(pid)
    for _ in range(MAX_COPIES):
        # What cannot be seen is another user's (a login shell's parent is root's), and so no copy.
        parent = None if process is None else _seen(process.parent)
        if process is None or parent is None or not process.is_copy_of(parent):
            break
        process = parent
    return process


def _seen(pid: int) -> Process | None:
    try:
        return Process(pid)
    except (OSError, ValueError, IndexError):
        return None
