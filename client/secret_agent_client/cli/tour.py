"""`tour`: see it work.  A private agent, a secret, a lease, a masked run, a revocation, the record.

Rules that hold here: every step is the real command, called as a person would call it; nothing is
asked; the agent, its folder and whatever was made on the way to it are gone afterwards, also when a
step fails.  The agent is bound to this process, so that it ends with it even where nothing here can
run any more (SIGKILL); then the folder alone stays, without a store that anybody could open.
"""

import os
import secrets
import shlex
import shutil
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from secret_agent_client.cli.command import Command
from secret_agent_client.cli.output import Output
from secret_agent_client.errors import InternalError
from secret_agent_client.paths import default_paths, make_private_dir
from secret_agent_client.spawn import client_command

STEP_S = 60.0  # seconds for one command; each takes well under one
LOCKED = 3  # exit status of a command that needs an open session


def _configure(_parser: ArgumentParser) -> None:
    """Nothing: a tour asks nothing."""


def _tour(_args: Namespace, out: Output) -> int:
    with _folder() as folder:
        tour = _Tour(out, folder)
        try:
            _steps(tour)
        finally:
            tour.end()
    out.line()
    out.line(f"That was all of it, and nothing is left.  To begin: {_first_command()}")
    return 0


def _steps(tour: "_Tour") -> None:
    tour.say("A private agent starts.  Its socket is ours alone; it ends when this tour does.")
    tour.start()
    tour.say("The session opens.  Asked at a terminal, this is where you type your passphrase.")
    tour.run("unlock", "--passphrase-fd", "0", given=secrets.token_hex(16).encode())
    tour.say("A secret is made.  Its value is never an argument, so no list of processes shows it.")
    tour.run("set", "tour/api", "--stdin", given=b"not-a-real-key-" + secrets.token_hex(8).encode())
    tour.say("A value leaves under a lease: for so long, to this holder, and recorded before.")
    tour.run("get", "tour/api")
    tour.run("leases")
    tour.say("A command runs with it.  The child has the value; what it prints of it is masked.")
    script = 'echo "the child got ${#API_KEY} characters: $API_KEY"'
    tour.run("run", "--env", "API_KEY=secret://tour/api", "--", "sh", "-c", script)
    tour.say("Leases are revoked: by id, by name, by holder, or all.")
    tour.run("revoke", "--all")
    tour.say("The session is locked: the keys are dropped and nothing is served.")
    tour.run("lock")
    tour.run("get", "tour/api", "--no-input", ends_with=LOCKED)
    tour.say("Every decision is in the audit log, each record chained to the one before.")
    tour.run("audit", "show")
    tour.run("audit", "verify")
    tour.say("The agent stops.")
    tour.run("stop", "--shell", "posix")


class _Tour:
    """The folder, the environment that points the commands at it, and what has been said."""

    def __init__(self, out: Output, folder: str) -> None:
        self._out = out
        self._folder = folder
        self._number = 0
        self._environment = {
            **{key: value for key, value in os.environ.items() if key[:13] != "SECRET_AGENT_"},
            "SECRET_AGENT_HOME": folder,
            "NO_COLOR": "1",
        }

    def say(self, text: str) -> None:
        """What the next command shows."""
        self._number += 1
        self._out.line()
        self._out.line(f"{self._number}. {text}", "bold")

    def start(self) -> None:
        """Start the agent, and do for the commands after it what `eval` does for a shell."""
        words = ("start", "--private", "--shell", "posix", "--pid", str(os.getpid()))
        for assignment in self.run(*words).split(";"):
            name, equals, value = assignment.strip().partition("=")
            if equals:
                self._environment[name] = value

    def run(self, *words: str, given: bytes = b"", ends_with: int = 0) -> str:
        """Run a command, show it and what it said; its stdout.

        Raises InternalError where it ends otherwise than it should.
        """
        self._out.line(f"   $ secret-agent {shlex.join(words)}{' < …' if given else ''}")
        done = subprocess.run(
            [*client_command(), *words],
            input=given,
            capture_output=True,
            env=self._environment,
            timeout=STEP_S,
            check=False,
        )
        said = (done.stdout + done.stderr).decode("utf-8", "replace")
        for line in said.split("\n"):
            if line:
                self._out.line(f"     {line}")
        if done.returncode != ends_with:
            raise InternalError(
                f"the tour's step {self._number} ended with status {done.returncode}",
                remedy="secret-agent doctor",
            )
        return done.stdout.decode("utf-8", "replace")

    def end(self) -> None:
        """Make sure that the agent is gone; `stop` says nothing is wrong where it is already."""
        with suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(
                [*client_command(), "stop"],
                capture_output=True,
                env=self._environment,
                timeout=STEP_S,
                check=False,
            )


@contextmanager
def _folder() -> Iterator[str]:
    """A new folder beside the user's socket, 0700; gone afterwards, with what was made above it."""
    runtime = default_paths(os.environ).runtime
    made = _missing(runtime)
    folder = f"{runtime}/tour-{secrets.token_hex(4)}"
    try:
        make_private_dir(folder)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        for path in made:
            with suppress(OSError):  # somebody else has put something there meanwhile
                os.rmdir(path)  # noqa: PTH106  # a text, to the byte


def _missing(path: str) -> list[str]:
    """The path and those above it that are not there yet, the lowest first."""
    missing = []
    while not os.path.lexists(path):
        missing.append(path)
        path = path.rpartition("/")[0]
    return missing


COMMANDS = {
    "tour": Command(
        help="see it work: asks nothing, leaves nothing",
        example="secret-agent tour",
        configure=_configure,
        run=_tour,
    ),
}


def _first_command() -> str:
    """What to type next; where the command is not on PATH yet, with that."""
    start = "eval $(secret-agent start)"
    if shutil.which("secret-agent") is not None:
        return start
    folder = os.path.dirname(os.path.abspath(sys.argv[0]))  # noqa: PTH100, PTH120  # no pathlib here
    return f'export PATH="{folder}:$PATH"; {start}'
