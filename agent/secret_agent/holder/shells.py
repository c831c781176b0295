"""Find the shell that a process was started from; pure.

A shell forks itself for `$( … )`, `( … )` and the parts of a pipeline, and such a subshell ends
long before the shell that the person sits at.  So from the nearest shell we climb to the one it was
forked from.  The kernel tells a fork from a new program by where things lie in memory: exec draws
start addresses anew, a fork has its parent's (`proc.Layout`). `bash` started inside `bash` is a
program of its own and is where the climb ends.

Rules: only processes of the holder's own uid count, for nobody's lease may hang on another user's
shell; a guess is never made where the kernel hides the layout, the nearest shell stays.

Known limits: with address randomisation off (`setarch -R`) a nested shell with exactly as many
bytes of arguments and environment as the outer one looks like its fork.  A program may change its
own name, so which applet of busybox runs is decoration; so is everything else about a shell: a
guardrail, no boundary.
"""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from secret_agent.holder.proc import Layout
from secret_agent.model import ProcessKey

SHELLS: Final = frozenset(
    {
        "sh", "ash", "bash", "csh", "dash", "elvish", "es", "fish", "hush", "ksh", "ksh93", "lksh",
        "loksh", "mksh", "nu", "oksh", "osh", "pdksh", "posh", "pwsh", "rbash", "rc", "rksh",
        "rzsh", "tcsh", "yash", "zsh",
    }
)  # fmt: skip  # a list of words
"""Names of programs that are shells."""

MULTICALL: Final = frozenset({"busybox", "toybox"})
"""Programs that are a shell under one name and something else under another."""

EVALUATORS: Final = frozenset({"direnv"})
"""Programs that start a shell of their own only to evaluate a file for the shell above them."""

_DELETED: Final = " (deleted)"  # the kernel's mark on a file that was replaced while it runs
_VERSION: Final = re.compile(r"-?[0-9]+(?:\.[0-9]+)*$|-static$")


class Member(NamedTuple):
    """One process of a line that leads from a holder up to init."""

    key: ProcessKey
    exe: str
    name: str  # comm
    arguments: tuple[str, ...]  # read for multicall programs alone
    uid: int
    layout: Layout | None


class Shell(NamedTuple):
    """A shell in a line: which one it is, its place in the line, and what it is called."""

    key: ProcessKey
    place: int
    name: str


def find_shell(line: Sequence[Member]) -> Shell | None:
    """The shell that the first process of a line was started from, or is; None where there is none.

    `line` holds the process itself, then its parent, and so on.
    """
    nearest = None
    place = 0
    while place < len(line):
        member = line[place]
        name = shell_name(member.exe, member.name, member.arguments)
        if name is not None and member.uid == line[0].uid:
            place = _climb(line, place)
            found = Shell(line[place].key, place, name)
            if not _evaluates_for_another(line, place):
                return found
            nearest = nearest or found
        place += 1
    return nearest


def shell_name(exe: str, name: str, arguments: Sequence[str]) -> str | None:
    """What a shell is called by its executable's path, such as "bash"; None for what is no shell.

    A multicall program is the shell that it was called as: `sh`, `-ash`, or the argument after
    `busybox`.
    """
    program = program_name(exe)
    if program in SHELLS:
        return program
    if program not in MULTICALL:
        return None
    called = [*(argument.rpartition("/")[2].lstrip("-") for argument in arguments[:1]), name]
    if called[0] in MULTICALL:
        called = list(arguments[1:2])
    return next((one for one in called if one in SHELLS), None)


def program_name(exe: str) -> str:
    """An executable's base name without marks of upgrade or version: `zsh-5.9 (deleted)`: zsh."""
    base = exe.removesuffix(_DELETED).rpartition("/")[2]
    return base if base in SHELLS else _VERSION.sub("", base)


def _evaluates_for_another(line: Sequence[Member], place: int) -> bool:
    """Whether the shell there is direnv's own, gone as soon as it has read an .envrc."""
    return place + 1 < len(line) and program_name(line[place + 1].exe) in EVALUATORS


def _climb(line: Sequence[Member], place: int) -> int:
    """The place of the shell that the one at `place` was forked from, or is itself."""
    while place + 1 < len(line) and _is_fork_of(line[place], line[place + 1]):
        place += 1
    return place


def _is_fork_of(child: Member, parent: Member) -> bool:
    return (
        child.layout is not None
        and child.layout == parent.layout
        and child.exe == parent.exe
        and child.uid == parent.uid
    )
