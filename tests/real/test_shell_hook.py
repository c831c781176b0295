"""The hooks with the real command and the real agent: installed as shell/README.md says it."""

import contextlib
import os
import re
import select
import signal
import time
from pathlib import Path

import pytest

from support.agent import PASSPHRASE, ROOT, Agent, Home
from support.person import Person, hook
from support.terminal import ALL, BASH, DEADLINE_S, FISH, PROMPTING, ZSH, Shell, by_name

pytestmark = [pytest.mark.real, pytest.mark.slow]
README = (ROOT / "shell/README.md").read_text()


def documented(shell: Shell) -> str:
    """The line for the start-up file, as the README's table has it."""
    for row in re.findall(r"^\| (.+?) \| .+? \| `(.+?)` \|$", README, re.MULTILINE):
        if shell.name in row[0].replace(",", "").split():
            return str(row[1]).replace("\\|", "|")
    raise AssertionError(f"shell/README.md has no line for {shell.name}")


@by_name(ALL)
def test_the_documented_line_starts_the_agent_and_registers_the_shell(
    home: Home, tmp_path: Path, shell: Shell
) -> None:
    person = Person(home, tmp_path)
    with person.at(shell, documented(shell)) as terminal:
        assert terminal.run("echo $SECRET_AGENT_SOCK") == str(home.socket)
        person.await_shells(1)
        terminal.send("exit\r")
        terminal.wait()
        person.await_shells(0)


@by_name(ALL)
def test_a_second_shell_joins_the_agent_that_runs(home: Home, tmp_path: Path, shell: Shell) -> None:
    person = Person(home, tmp_path)
    with person.at(BASH, documented(BASH)) as first:
        pid = first.run("echo $SECRET_AGENT_PID")
        with person.at(shell, documented(shell)) as second:
            assert second.run("echo $SECRET_AGENT_PID") == pid
            person.await_shells(2)


@by_name(PROMPTING)
def test_a_shell_joins_the_agent_that_replaces_another(
    unlocked: Agent, tmp_path: Path, shell: Shell
) -> None:
    person = Person(unlocked, tmp_path)
    with person.at(shell, hook(shell)) as terminal:
        assert terminal.run("echo $SECRET_AGENT_PID") == str(unlocked.pid)
        unlocked.kill()
        terminal.run("true")
        assert terminal.run('echo "[$__secret_agent_segment]"') == "[]"
        unlocked.start()
        person.await_line("locked")
        terminal.run("true")
        assert terminal.run("echo $__secret_agent_segment") == "locked"
        assert terminal.run("echo $SECRET_AGENT_PID") == str(unlocked.pid)
        person.await_shells(1)


@by_name(PROMPTING)
def test_the_segment_follows_the_session(unlocked: Agent, tmp_path: Path, shell: Shell) -> None:
    person = Person(unlocked, tmp_path)
    with person.at(shell, hook(shell)) as terminal:
        for verb, state in (("unlock", "unlocked"), ("lock", "locked")):
            unlocked.call(verb, {"passphrase": PASSPHRASE} if verb == "unlock" else {})
            person.await_line(state)
            terminal.run("true")
            assert terminal.run("echo $__secret_agent_segment") == state


@by_name(PROMPTING)
def test_no_agent_is_started_where_that_is_not_wanted(
    home: Home, tmp_path: Path, shell: Shell
) -> None:
    person = Person(home, tmp_path)
    with person.at(shell, hook(shell), SECRET_AGENT_AUTOSTART="0") as terminal:
        terminal.run("true")
        assert terminal.run('echo "[$SECRET_AGENT_SOCK]"') == "[]"
    assert home.pid_at_socket() is None


@by_name((BASH, FISH, ZSH))
def test_the_first_tab_loads_the_real_completion(
    unlocked: Agent, tmp_path: Path, shell: Shell
) -> None:
    person = Person(unlocked, tmp_path)
    rc = hook(shell)
    if shell is ZSH:
        rc = f"autoload -Uz compinit; compinit -D -u; {rc}"
    with person.at(shell, rc) as terminal:
        terminal.run("true")
        start = len(terminal.seen)
        terminal.send("secret-agent shell-in\t")
        terminal.expect(r"shell-init ", start=start)
        terminal.send("fi\t")
        terminal.expect(r"fish", start=start)


@by_name(PROMPTING)
def test_an_agent_that_is_stopped_holds_no_shell_up(
    unlocked: Agent, tmp_path: Path, shell: Shell
) -> None:
    person = Person(unlocked, tmp_path)
    os.kill(unlocked.pid, signal.SIGSTOP)
    try:
        started_at = time.monotonic()
        with person.at(shell, hook(shell)) as terminal:
            terminal.run("true")
            assert time.monotonic() - started_at < 1.0, "the start of the shell waits"
            terminal.send("exit\r")
            terminal.wait()
            assert b"secret-agent:" not in terminal.seen
    finally:
        os.kill(unlocked.pid, signal.SIGCONT)
    assert time.monotonic() - started_at < 5.0, "the exit of the shell hangs"


@by_name(PROMPTING)
def test_who_reads_a_shells_output_does_not_wait_for_the_registration(
    unlocked: Agent, tmp_path: Path, shell: Shell
) -> None:
    """`x=$(bash -c …)` ends with the shell: what runs in the background has let go of the pipe."""
    person = Person(unlocked, tmp_path)
    stopped = person.programs / "secret-agent"
    stopped.write_text(f"#!/bin/sh\necho $$ >{tmp_path}/pid\nkill -STOP $$\n")
    done = person.script(shell, hook(shell))
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    deadline = time.monotonic() + DEADLINE_S
    while not (pid := (tmp_path / "pid").read_text() if (tmp_path / "pid").exists() else ""):
        assert time.monotonic() < deadline, "nothing was started"
        os.sched_yield()
    with contextlib.suppress(ProcessLookupError):  # the kernel ends a stopped orphan by itself
        os.kill(int(pid), signal.SIGKILL)


def test_a_shell_that_ends_at_once_leaves_nothing_behind(unlocked: Agent, tmp_path: Path) -> None:
    """The registration that is under way when its shell ends is refused and says nothing."""
    person = Person(unlocked, tmp_path)
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as left:
        done = person.script(BASH, f"{hook(BASH)}; exit", pass_fds=[writer])
        os.close(writer)
        assert select.select([left], [], [], DEADLINE_S)[0], "the registration hangs"
        assert left.read(1) == b""
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    person.await_shells(0)
