"""A terminal with a program in it, and the shells that tests start in one.

Rules that hold here: nothing sleeps; what is awaited is awaited with select and a deadline.  The
program leads a session of its own with the pty as its controlling terminal, so that closing our end
is the hang-up that closing a window is.
"""

import fcntl
import itertools
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pytest

DEADLINE_S = 20.0  # seconds that anything awaited may take on a loaded machine
ROWS, COLUMNS = 50, 500  # wide, so that no line editor wraps what a test types


class Terminal:
    """A program on a pty."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path | str | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        try:
            # setsid execs in place: the pid is the program's own.
            self.process = subprocess.Popen(
                ["setsid", "--ctty", *argv],
                stdin=slave,
                stdout=slave,
                stderr=slave,
                env={**env, "TERM": "dumb"},
                cwd=cwd,
                pass_fds=pass_fds,
            )
        finally:
            os.close(slave)
        self.seen = b""
        self._count = itertools.count(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        return self.process.pid

    def send(self, text: str) -> None:
        """Type, as a person would; a line ends with a carriage return."""
        os.write(self._master, text.encode())

    def expect(self, pattern: str, *, start: int = 0) -> "re.Match[bytes]":
        """Wait until the output from `start` on holds the pattern."""
        sought = re.compile(pattern.encode(), re.DOTALL)
        deadline = time.monotonic() + DEADLINE_S
        while True:
            if found := sought.search(self.seen, start):
                return found
            ready, _, _ = select.select([self._master], [], [], deadline - time.monotonic())
            assert ready, f"no {pattern!r} in {self.seen[start:]!r}"
            try:
                piece = os.read(self._master, 65536)
            except OSError:  # EIO: the last program on this terminal is gone
                piece = b""
            assert piece, f"the terminal ended without {pattern!r} in {self.seen[start:]!r}"
            self.seen += piece

    def run(self, line: str) -> str:
        """Type a command line into a shell; what it printed, once it is done.

        The marks are typed in two halves, so that the echo of the line is not taken for its output.
        """
        number, start = next(self._count), len(self.seen)
        self.send(f"echo BEG''IN{number}.; {line}; echo EN''D{number}.\r")
        found = self.expect(rf"BEGIN{number}\.\r*\n(.*?)END{number}\.\r*\n", start=start)
        return found.group(1).decode(errors="replace").replace("\r", "").rstrip("\n")

    def hang_up(self) -> None:
        """Close the window: the kernel sends SIGHUP to the session."""
        os.close(self._master)
        self._master = -1

    def wait(self) -> int:
        """The program's exit status, reading what it still says."""
        while self._master >= 0:
            try:
                piece = os.read(self._master, 65536)
            except OSError:
                break
            if not piece:
                break
            self.seen += piece
        return self.process.wait(DEADLINE_S)

    def close(self) -> None:
        """End the program if it still runs."""
        if self._master >= 0:
            self.hang_up()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()


@dataclass(frozen=True)
class Shell:
    """How a shell is started with a start-up file of the test's and nothing of the person's."""

    name: str
    program: str
    hook: str  # the file under shell/
    interactive: tuple[str, ...]
    rc_file: str  # where its start-up file lies under the folder given to `environment`
    runs_before_prompt: bool = True
    knows_time: bool = True  # without starting a process
    applet: tuple[str, ...] = ()  # which of the programs that `program` is

    def argv(self, folder: Path) -> list[str]:
        """An interactive shell that reads the start-up file in `folder`."""
        return [
            self.program,
            *self.applet,
            *(part.format(rc=folder / self.rc_file) for part in self.interactive),
        ]

    def start_up(self, folder: Path, text: str) -> dict[str, str]:
        """Write the start-up file; the environment that makes the shell read it."""
        path = folder / self.rc_file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        match self.name:
            case "zsh":
                return {"ZDOTDIR": str(folder)}
            case "fish":
                return {"XDG_CONFIG_HOME": str(folder / "config")}
            case "bash":
                return {"HISTFILE": ""}
            case _:
                return {"ENV": str(path)}


BASH = Shell("bash", "bash", "hook.bash", ("--noprofile", "--rcfile", "{rc}", "-i"), "bashrc")
ZSH = Shell("zsh", "zsh", "hook.zsh", ("-d", "-i"), ".zshrc")
FISH = Shell("fish", "fish", "hook.fish", ("-i",), "config/fish/config.fish")
DASH = Shell("dash", "dash", "hook.sh", ("-i",), "shrc", runs_before_prompt=False, knows_time=False)
KSH = Shell("ksh", "ksh", "hook.sh", ("-i",), "shrc", runs_before_prompt=False, knows_time=False)

ASH = Shell("ash", "busybox", "hook.sh", ("-i",), "shrc", runs_before_prompt=False, applet=("ash",))

ALL = (BASH, ZSH, FISH, DASH, KSH, ASH)
PROMPTING = tuple(shell for shell in ALL if shell.runs_before_prompt)


def by_name(shells: tuple[Shell, ...]) -> pytest.MarkDecorator:
    """Run a test once a shell, as its argument `shell`."""
    return pytest.mark.parametrize("shell", shells, ids=lambda shell: shell.name)
