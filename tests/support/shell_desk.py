"""A desk for the hooks: a folder with a socket, the agent's line, and a stand-in `secret-agent`.

It only notes that it was called, so that a test can count the processes that a hook starts.
It answers nothing: what the agent answers is tested with the real one.
"""

import os
import select
import socket
import subprocess
import time
from pathlib import Path

from support.agent import ROOT
from support.real import need
from support.terminal import DEADLINE_S, Shell, Terminal

SHELL_FOLDER = ROOT / "shell"
NEVER_ALIVE = 4_194_304  # the kernel's largest pid_max: no process ever has it

_STUB = """\
#!/bin/sh
echo "$*" >>"{log}"
case $* in
  "start --shell fish"*) echo "set -gx SECRET_AGENT_SOCK {socket};" ;;
  start*) echo "SECRET_AGENT_SOCK={socket}; export SECRET_AGENT_SOCK;" ;;
esac
"""


class Desk:
    """A folder with a socket, the agent's line, and a `secret-agent` that notes its calls."""

    def __init__(self, folder: Path, sockets: Path) -> None:
        self.folder = folder
        self.runtime = sockets
        self.socket = sockets / "agent.sock"
        self.line = sockets / "prompt"
        self.log = folder / "calls"
        self.programs = folder / "bin"
        self.programs.mkdir()
        stub = self.programs / "secret-agent"
        stub.write_text(_STUB.format(log=self.log, socket=self.socket))
        stub.chmod(0o755)
        self._bound: list[socket.socket] = []
        # Every process that a shell leaves behind holds the writing end: its end of file says that
        # the last of them is gone.
        self._reader, self.writer = os.pipe()

    def listen(self, path: Path | None = None, *, state: str | None = None) -> None:
        """A socket, and beside it the line of an agent whose pid is ours, so that it is alive."""
        bound = socket.socket(socket.AF_UNIX)
        bound.bind(str(path or self.socket))
        bound.listen()
        self._bound.append(bound)
        if state is not None:
            self.line.write_text(f"{state} {os.getpid()}\n")

    def environment(self, **more: str) -> dict[str, str]:
        return {
            "PATH": f"{self.programs}:{os.environ['PATH']}",
            "HOME": str(self.folder),
            "SECRET_AGENT_HOME": str(self.runtime),
            "XDG_DATA_HOME": str(self.folder),
            "XDG_CONFIG_HOME": str(self.folder / "config"),
            "LANG": "C.UTF-8",
            **more,
        }

    def await_calls(self, count: int) -> None:
        """Until so many calls are noted, for what a shell does in the background."""
        deadline = time.monotonic() + DEADLINE_S
        while not self.log.exists() or len(self.log.read_text().splitlines()) < count:
            assert time.monotonic() < deadline, f"there are never {count} calls"
            os.sched_yield()

    def calls(self) -> list[str]:
        """All calls, without the pids, once the shells and what they left behind have ended."""
        if self.writer >= 0:
            os.close(self.writer)
            self.writer = -1
            assert select.select([self._reader], [], [], DEADLINE_S)[0], "a process is left behind"
            assert os.read(self._reader, 1) == b""
        if not self.log.exists():
            return []
        lines = self.log.read_text().splitlines()
        return [" ".join(word for word in line.split() if not word.isdigit()) for line in lines]

    def run(
        self, shell: Shell, script: str, **environment: str
    ) -> "subprocess.CompletedProcess[str]":
        """A script, not interactive, to its end."""
        plain = {"zsh": ["-f"], "bash": ["--norc", "--noprofile"], "fish": ["--no-config"]}
        return subprocess.run(
            [need(shell.program), *shell.applet, *plain.get(shell.name, []), "-c", script],
            env=self.environment(**environment),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
            pass_fds=[self.writer],
        )

    def close(self) -> None:
        for bound in self._bound:
            bound.close()
        os.close(self._reader)
        if self.writer >= 0:
            os.close(self.writer)


def source(shell: Shell) -> str:
    return f". {SHELL_FOLDER / shell.hook}"


def open_shell(desk: Desk, shell: Shell, rc: str) -> Terminal:
    need(shell.program)
    started_by = shell.start_up(desk.folder, rc)
    return Terminal(
        shell.argv(desk.folder),
        env={**desk.environment(), **started_by},
        cwd=desk.folder,
        pass_fds=[desk.writer],
    )
