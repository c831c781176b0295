"""The lives of shells: what ends with them, what does not, and how soon.

Leases bound to a shell end within a second of its end, however it ends; with the last registered
shell the session locks.
"""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.agent import Agent
from support.person import Keeping, Person, hook, start
from support.terminal import ALL, DEADLINE_S, FISH, PROMPTING, Shell, Terminal, by_name
from support.trail import following

pytestmark = [pytest.mark.real, pytest.mark.slow]
WITHIN_S = 1.0  # the promise, from the event to its record

HOLD = "secret-agent env --reveal --shell posix >/dev/null"


@pytest.fixture(scope="module")
def keeping() -> Iterator[Agent]:
    with Keeping() as agent:
        agent.unlock()
        agent.put("app/db")
        yield agent


@pytest.fixture
def person(keeping: Agent, tmp_path: Path) -> Person:
    made = Person(keeping, tmp_path)
    made.trust_project()
    return made


def leases(person: Person) -> list[str]:
    """The secrets under lease now."""
    agent = person.home
    assert isinstance(agent, Agent)
    return [each["secret"] for each in agent.call("leases", {})["leases"]]


_ENDS = ("exit", "SIGKILL", "SIGHUP", "window-closed")


@by_name(ALL)
@pytest.mark.parametrize("how", _ENDS)
def test_leases_of_a_shell_end_with_it(person: Person, shell: Shell, how: str) -> None:
    with following(person.home) as trail, person.at(shell) as terminal:
        terminal.run(start(shell))
        terminal.run(HOLD)
        assert leases(person) == ["app/db"]
        ended_at = time.monotonic()
        end(terminal, how)
        trail.wait_for(event="lease", action="end", secret="app/db")
        assert time.monotonic() - ended_at < WITHIN_S
    assert leases(person) == []


def end(terminal: Terminal, how: str) -> None:
    match how:
        case "exit":
            terminal.send("exit\r")
        case "window-closed":
            terminal.hang_up()
        case "SIGHUP":
            # bash and ksh may lose one that comes between two commands.
            deadline = time.monotonic() + DEADLINE_S
            while terminal.process.poll() is None and time.monotonic() < deadline:
                os.kill(terminal.pid, signal.SIGHUP)
                os.sched_yield()
        case _:
            os.kill(terminal.pid, getattr(signal, how))


@by_name(ALL)
def test_a_subshell_and_a_nested_shell_end_nothing_of_the_outer_one(
    person: Person, shell: Shell
) -> None:
    nested = f"{shell.program} {' '.join(shell.applet)} -c 'true; true'"
    with person.at(shell) as terminal:
        terminal.run(start(shell))
        terminal.run(HOLD)
        if shell is not FISH:  # it has no subshells
            terminal.run("(true; true)")
            terminal.run("x=$(true; true)")
        terminal.run(nested)
        assert leases(person) == ["app/db"]


@by_name(tuple(shell for shell in ALL if shell is not FISH))
def test_a_lease_taken_in_a_subshell_belongs_to_the_shell_around_it(
    person: Person, shell: Shell
) -> None:
    with person.at(shell) as terminal:
        terminal.run(start(shell))
        terminal.run(f"(true; {HOLD}; true)")
        terminal.run(f"x=$({HOLD}; true)")
        assert set(leases(person)) == {"app/db"}


@by_name(ALL)
def test_a_nested_shell_that_registers_has_leases_of_its_own(person: Person, shell: Shell) -> None:
    nested = f"{shell.program} {' '.join(shell.applet)} -c '{start(shell)}; {HOLD}; true'"
    with following(person.home) as trail, person.at(shell) as terminal:
        terminal.run(start(shell))
        terminal.run(nested)
        trail.wait_for(event="lease", action="end", secret="app/db")
        assert leases(person) == []


@by_name(ALL)
def test_exec_keeps_the_leases_until_what_was_executed_ends(person: Person, shell: Shell) -> None:
    with following(person.home) as trail, person.at(shell) as terminal:
        terminal.run(start(shell))
        terminal.run(HOLD)
        terminal.send("exec sh -c 'echo execu''ted; read line'\r")
        terminal.expect("executed")
        assert leases(person) == ["app/db"]
        terminal.send("\r")
        trail.wait_for(event="lease", action="end", secret="app/db")


@by_name(ALL)
def test_the_session_locks_with_the_last_shell_and_not_before(
    unlocked: Agent, tmp_path: Path, shell: Shell
) -> None:
    agent, person = unlocked, Person(unlocked, tmp_path)
    with following(agent) as trail, person.at(shell) as first, person.at(shell) as second:
        first.run(start(shell))
        second.run(start(shell))
        first.process.kill()
        second.run(HOLD)
        assert agent.call("status", {})["state"] == "unlocked"
        second.process.kill()
        trail.wait_for(event="session", action="lock")
    assert agent.call("status", {})["state"] == "locked"


@by_name(ALL)
def test_a_job_that_outlives_its_shell_has_no_lease_of_it(person: Person, shell: Shell) -> None:
    """Abuse 23: a background process that keeps asking when its shell is gone."""
    with following(person.home) as trail, person.at(shell) as terminal:
        terminal.run(start(shell))
        terminal.run(HOLD)
        terminal.run("setsid sleep 600 >/dev/null 2>&1 </dev/null & true")
        terminal.process.kill()
        trail.wait_for(event="lease", action="end", secret="app/db")
    assert leases(person) == []


@by_name(PROMPTING)
def test_the_hook_registers_the_shell_and_shows_the_state(
    unlocked: Agent, tmp_path: Path, shell: Shell
) -> None:
    agent, person = unlocked, Person(unlocked, tmp_path)
    person.await_line("unlocked")
    with following(agent) as trail:
        with person.at(shell, hook(shell)) as terminal:
            terminal.run("true")
            assert terminal.run("echo $__secret_agent_segment") == "unlocked"
            assert terminal.run("echo $SECRET_AGENT_PID") == str(agent.pid)
            person.await_shells(1)
            terminal.send("exit\r")
            terminal.wait()
        trail.wait_for(event="session", action="lock")
