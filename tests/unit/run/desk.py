"""A terminal with bash in it, in which tests type commands that run under our `run`.

`exec sleep` in what they type: a key that comes while dash forks (vfork) is lost on it, here as in
any terminal.
"""

import fcntl
import re
import struct
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.terminal import Terminal
from unit.run.driving import Driver


class Desk:
    """bash in a terminal, with `r` and its variants as commands that run under our `run`."""

    def __init__(self, driver: Driver, folder: Path, **env: str) -> None:
        self.driver = driver
        self.rc = folder / "bashrc"
        self.rc.write_text("PS1='$ '\nset +o history\nPROMPT_COMMAND=\n")
        argv = ["bash", "--noprofile", "--rcfile", str(self.rc), "-i"]
        self.terminal = Terminal(argv, env=driver.environment(**env), cwd=folder)

    def command(self, *words: str, **spec: object) -> str:
        """A command line to be typed that runs words under `run`."""
        return " ".join(_quoted(word) for word in self.driver.line(*words, **spec))

    def sh(self, script: str, **spec: object) -> str:
        return self.command("sh", "-c", script, **spec)

    def run(self, line: str) -> str:
        return self.terminal.run(line)

    def type(self, line: str) -> None:
        self.terminal.send(line + "\r")

    def expect(self, pattern: str) -> "re.Match[bytes]":
        """Wait for the pattern after everything that was expected before."""
        found = self.terminal.expect(pattern, start=self.read)
        self.read = found.end()
        return found

    read = 0

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(
            self.terminal._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0)
        )


def _quoted(word: str) -> str:
    return "'" + word.replace("'", "'\\''") + "'"


@contextmanager
def desk_in(folder: Path) -> Iterator[Desk]:
    """A desk whose shell is ready."""
    made = Desk(Driver(folder), folder)
    with made.terminal:
        made.run("true")
        made.read = len(made.terminal.seen)
        yield made
