"""A tmux server that is older than the agent hands down a stale socket; the hook repairs it."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.agent import Agent
from support.person import Person, hook
from support.real import need
from support.terminal import ALL, DEADLINE_S, Shell, by_name
from support.trail import following

pytestmark = [pytest.mark.real, pytest.mark.slow]


class Tmux:
    """A tmux server of this test alone."""

    def __init__(self, person: Person) -> None:
        self.program = need("tmux")
        self.socket = person.home.path / "tmux"
        self.person = person

    def run(self, *args: str, **environment: str) -> str:
        command = [self.program, "-S", str(self.socket), "-f", os.devnull, *args]
        done = subprocess.run(
            command,
            env=self.person.environment(TERM="dumb", **environment),
            cwd=self.person.folder,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=True,
        )
        return done.stdout


@pytest.fixture
def tmux(unlocked: Agent, tmp_path: Path) -> Iterator[Tmux]:
    made = Tmux(Person(unlocked, tmp_path))
    yield made
    with contextlib.suppress(subprocess.CalledProcessError):  # it ends with its last session
        made.run("kill-server")


@by_name(ALL)
def test_a_pane_of_an_old_server_finds_the_agent_that_lives(tmux: Tmux, shell: Shell) -> None:
    person, agent = tmux.person, tmux.person.home
    started_by = shell.start_up(person.folder, hook(shell) + "\n")
    stale = {"SECRET_AGENT_SOCK": str(person.folder / "gone.sock"), "SECRET_AGENT_PID": "4194304"}
    argv = shell.argv(person.folder)
    with following(agent) as trail:
        tmux.run("new-session", "-d", "-s", "old", *argv, **stale, **started_by)
        told = person.folder / "told"
        line = f'echo "$SECRET_AGENT_SOCK $SECRET_AGENT_PID" >{told}; tmux wait-for -S told'
        tmux.run("send-keys", "-t", "old", line, "Enter")
        tmux.run("wait-for", "told")
        assert told.read_text() == f"{agent.socket} {agent.pid_at_socket()}\n"
        person.await_shells(1)
        tmux.run("kill-session", "-t", "old")
        trail.wait_for(event="session", action="lock")
