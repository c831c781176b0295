"""A person at a terminal: a home, the command `secret-agent` on PATH, shells, a trusted project."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from support.agent import ROOT, SOURCES, Agent, Home
from support.real import need
from support.terminal import DEADLINE_S, FISH, Shell, Terminal

MANIFEST = """\
version = 1
[env]
DB_PASSWORD = "secret://app/db"
"""

# What pip makes of client/bin/secret-agent, in a folder of the test's own.
_COMMAND = '#!/bin/sh\nexec "{python}" -m secret_agent_client "$@"\n'


class Keeping(Agent):
    """An agent whose session outlives the last shell, so that one serves many tests."""

    def start(self) -> None:
        (self.path / "config").mkdir(mode=0o700, exist_ok=True)
        (self.path / "config/config.toml").write_text('[session]\non_last_shell = "keep"\n')
        super().start()


class Person:
    """Somebody who types into shells, with the home of an agent and nothing of the tester's."""

    def __init__(self, home: Home, folder: Path) -> None:
        self.home = home
        self.folder = folder
        self.programs = folder / "bin"
        self.programs.mkdir()
        command = self.programs / "secret-agent"
        command.write_text(_COMMAND.format(python=sys.executable))
        command.chmod(0o755)
        self.project = folder / "project"
        self.project.mkdir()

    def environment(self, **more: str) -> dict[str, str]:
        """A login environment that knows of no agent but by SECRET_AGENT_HOME."""
        return {
            **self.home.environment(),
            "PATH": f"{self.programs}:{os.environ.get('PATH', os.defpath)}",
            "PYTHONPATH": SOURCES,
            "HOME": str(self.folder),
            "XDG_CONFIG_HOME": str(self.folder / "config"),
            "XDG_DATA_HOME": str(self.folder / "data"),
            "HISTFILE": "",
            **more,
        }

    def script(
        self, shell: Shell, text: str, *, pass_fds: Sequence[int] = (), **environment: str
    ) -> "subprocess.CompletedProcess[bytes]":
        """A script to its end; what it says counts for the sweep."""
        plain = {"zsh": ["-f"], "bash": ["--norc", "--noprofile"], "fish": ["--no-config"]}
        done = subprocess.run(
            [need(shell.program), *shell.applet, *plain.get(shell.name, []), "-c", text],
            env=self.environment(**environment),
            cwd=self.folder,
            capture_output=True,
            timeout=DEADLINE_S,
            check=False,
            pass_fds=pass_fds,
        )
        self.home.said += [("a script's stderr", done.stderr), ("a script's stdout", done.stdout)]
        return done

    @contextmanager
    def at(self, shell: Shell, rc: str = "", **environment: str) -> Iterator[Terminal]:
        """An interactive shell on a terminal of its own."""
        need(shell.program)
        started_by = shell.start_up(self.folder, rc + "\n")
        env = self.environment(**{**environment, **started_by})
        with Terminal(shell.argv(self.folder), env=env, cwd=self.project) as terminal:
            yield terminal
            self.home.said.append(("a terminal", terminal.seen))

    def await_line(self, state: str) -> None:
        """Until the agent's line beside its socket says the state: it is written in its time."""
        deadline = time.monotonic() + DEADLINE_S
        while not (self.home.path / "prompt").read_text().startswith(f"{state} "):
            assert time.monotonic() < deadline, f"the line never says {state}"
            os.sched_yield()

    def await_shells(self, count: int) -> None:
        """Until so many shells are registered: a hook does it in the background."""
        deadline = time.monotonic() + DEADLINE_S
        with self.home.connect() as peer:
            peer.hello()
            while peer.call("status")["shells"] != count:
                assert time.monotonic() < deadline, f"{count} shells are never registered"

    def trust_project(self, manifest: str = MANIFEST) -> None:
        """Write the project's secrets.toml and trust it as it stands."""
        (self.project / "secrets.toml").write_text(manifest)
        self.home.cli("trust", str(self.project / "secrets.toml"), check=True)

    def use_direnv(self, envrc: str) -> str:
        """Install `use secret-agent`, write and allow an .envrc; direnv's path."""
        direnv = need("direnv")
        library = self.folder / "config/direnv/lib"
        library.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "shell/direnv.sh", library / "secret-agent.sh")
        (self.project / ".envrc").write_text(envrc)
        allow = [direnv, "allow", str(self.project / ".envrc")]
        subprocess.run(allow, env=self.environment(), check=True, timeout=DEADLINE_S)
        return direnv


def start(shell: Shell, *options: str) -> str:
    """What a person types to start the agent from that shell."""
    words = " ".join(("secret-agent start", *options))
    return f"{words} | source" if shell is FISH else f"eval $({words})"


def hook(shell: Shell) -> str:
    """The line of the start-up file."""
    return f". {ROOT / 'shell' / shell.hook}"
