"""`eval $(secret-agent start)` in every shell: unquoted, in scripts, nested, and its end."""

import json
import os
import select
from pathlib import Path
from typing import Any

import pytest

from support.agent import Home
from support.person import Person, start
from support.terminal import ALL, DEADLINE_S, FISH, Shell, by_name

pytestmark = [pytest.mark.real, pytest.mark.slow]


@pytest.fixture
def person(home: Home, tmp_path: Path) -> Person:
    return Person(home, tmp_path)


def status(output: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(output)
    return found


@by_name(ALL)
def test_a_script_has_the_agent_and_is_registered(person: Person, shell: Shell) -> None:
    done = person.script(shell, f"{start(shell)}; secret-agent status --json")
    assert done.returncode == 0, done.stderr.decode()
    known = status(done.stdout)
    assert (known["shells"], known["socket"]) == (1, str(person.home.socket))


@by_name(tuple(shell for shell in ALL if shell is not FISH))
def test_it_holds_with_errexit_nounset_and_globs_that_match_anything(
    person: Person, shell: Shell
) -> None:
    for name in ("SECRET_AGENT_SOCK=x", "export", ";"):
        (person.folder / name).touch()
    script = f"set -eu; {start(shell)}; secret-agent status --json"
    done = person.script(shell, script)
    assert done.returncode == 0, done.stderr.decode()
    assert status(done.stdout)["shells"] == 1


@by_name(ALL)
def test_a_second_start_finds_the_same_agent(person: Person, shell: Shell) -> None:
    pid = "$SECRET_AGENT_PID"
    done = person.script(shell, f"{start(shell)}; echo {pid}; {start(shell)}; echo {pid}")
    first, second = done.stdout.split()
    assert first == second == str(person.home.pid_at_socket()).encode()


@by_name(ALL)
def test_stop_ends_the_agent_and_takes_the_variables_back(person: Person, shell: Shell) -> None:
    stop = "secret-agent stop | source" if shell is FISH else "eval $(secret-agent stop)"
    done = person.script(shell, f'{start(shell)}; {stop}; echo "[$SECRET_AGENT_SOCK]"')
    assert done.stdout == b"[]\n", done.stderr.decode()
    assert person.home.pid_at_socket() is None


@by_name(ALL)
def test_a_private_agent_is_gone_with_its_shell(person: Person, shell: Shell) -> None:
    with person.at(shell) as terminal:
        terminal.run(start(shell, "--private"))
        socket = Path(terminal.run("echo $SECRET_AGENT_SOCK"))
        pidfd = os.pidfd_open(int(terminal.run("echo $SECRET_AGENT_PID")))
        try:
            assert socket.is_socket()
            assert socket != person.home.socket
            terminal.process.kill()
            assert select.select([pidfd], [], [], DEADLINE_S)[0], "the private agent lives on"
        finally:
            os.close(pidfd)
    assert not socket.exists()


def test_one_agent_serves_shells_of_every_kind(person: Person) -> None:
    pids = {person.script(shell, f"{start(shell)}; echo $SECRET_AGENT_PID").stdout for shell in ALL}
    assert len(pids) == 1
