"""`use secret-agent` with the real direnv, in the shells that people have it in."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.agent import Agent
from support.person import MANIFEST, Keeping, Person, hook
from support.real import need
from support.terminal import DEADLINE_S, PROMPTING, Shell, Terminal, by_name
from support.trail import following

pytestmark = [pytest.mark.real, pytest.mark.slow]


@pytest.fixture(scope="module")
def keeping() -> Iterator[Agent]:
    with Keeping() as started:
        started.unlock()
        yield started


@pytest.fixture
def agent(keeping: Agent) -> Iterator[Agent]:
    """An unlocked agent with the secret app/db and no lease."""
    keeping.put("app/db")
    yield keeping
    keeping.unlock()
    keeping.call("revoke", {"all": True})


@pytest.fixture
def person(agent: Agent, tmp_path: Path) -> Person:
    return Person(agent, tmp_path)


def export(person: Person, envrc: str, **environment: str) -> "subprocess.CompletedProcess[bytes]":
    """`direnv export json` in the project, as its shell hooks call it."""
    direnv = person.use_direnv(envrc)
    return subprocess.run(
        [direnv, "export", "json"],
        env=person.environment(**environment),
        cwd=person.project,
        capture_output=True,
        timeout=DEADLINE_S,
        check=False,
    )


@pytest.mark.parametrize("before", ["", "strict_env\n", "set -euo pipefail\n"])
def test_references_are_exported_and_no_lease_is_taken(
    person: Person, agent: Agent, before: str
) -> None:
    person.trust_project()
    done = export(person, f"{before}use secret-agent\n")
    assert done.returncode == 0, done.stderr.decode()
    assert b'"DB_PASSWORD":"secret://app/db"' in done.stdout.replace(b" ", b"")
    assert agent.call("leases", {})["leases"] == []


def test_a_stage_is_passed_on(person: Person) -> None:
    person.trust_project(MANIFEST + '[stage.test.env]\nDB_PASSWORD = "secret://test/db"\n')
    for option in ("--stage test", "--stage=test"):
        assert b"secret://test/db" in export(person, f"use secret-agent {option}\n").stdout


def test_values_are_exported_loudly(person: Person, agent: Agent) -> None:
    value = agent.put("app/db")
    person.trust_project()
    done = export(person, "use secret-agent --values\n")
    assert value in done.stdout
    assert b"DIRENV_DIFF" in done.stderr
    assert value not in done.stderr


_FAILURES = {
    "untrusted": "use secret-agent\n",
    "no such option": "use secret-agent --nothing\n",
    "no stage": "use secret-agent --stage\n",
    "no such secret": "use secret-agent --values\n",
}


@pytest.mark.parametrize("why", _FAILURES)
def test_a_failure_fails_the_whole_envrc_and_exports_nothing(person: Person, why: str) -> None:
    if why == "untrusted":
        (person.project / "secrets.toml").write_text(MANIFEST)
    else:
        person.trust_project(MANIFEST.replace("app/db", "no/such"))
    done = export(person, f"export BEFORE=1\n{_FAILURES[why]}export AFTER=1\n")
    assert b"BEFORE" not in done.stdout
    assert b"AFTER" not in done.stdout
    assert b"secret-agent: " in done.stderr
    assert b"exit status 1" in done.stderr


def test_no_manifest_is_a_failure(person: Person) -> None:
    assert b"no secrets.toml" in export(person, "use secret-agent\n").stderr


def test_no_command_is_a_failure(person: Person) -> None:
    person.trust_project()
    bare = person.folder / "bare"
    bare.mkdir()
    for program in ("bash", "grep", "mktemp", "rm"):
        (bare / program).symlink_to(need(program))
    done = export(person, "use secret-agent\n", PATH=str(bare))
    assert b"not on PATH" in done.stderr
    assert b"DB_PASSWORD" not in done.stdout


def test_a_locked_session_fails_values_and_not_references(person: Person, agent: Agent) -> None:
    person.trust_project()
    agent.cli("lock", check=True)
    assert b"secret://app/db" in export(person, "use secret-agent\n").stdout
    done = export(person, "use secret-agent --values\n")
    assert b"DB_PASSWORD" not in done.stdout
    assert b"exit 3" in done.stderr


@pytest.fixture
def entered(person: Person, shell: Shell, agent: Agent) -> Iterator[Terminal]:
    """A shell with direnv and our hook that has entered a project of `use secret-agent --values`.

    What its terminal shows is not swept: the value is what these tests look at.
    """
    person.trust_project()
    direnv = person.use_direnv("use secret-agent --values\n")
    install = _install(direnv, shell)
    environment = shell.start_up(person.folder, f"{install}\n{hook(shell)}\n")
    need(shell.program)
    with Terminal(
        shell.argv(person.folder), env=person.environment(**environment), cwd=person.folder
    ) as terminal:
        terminal.run(f"cd {person.project}")
        assert terminal.run('test -n "$DB_PASSWORD" && echo loaded') == "loaded"
        yield terminal


def _install(direnv: str, shell: Shell) -> str:
    if shell.name == "fish":
        return f"{direnv} hook fish | source"
    return f'eval "$({direnv} hook {shell.name})"'


LOADED = 'test -n "$DB_PASSWORD" && echo loaded || echo unloaded'


@by_name(PROMPTING)
def test_leaving_the_directory_ends_the_leases(
    entered: Terminal, agent: Agent, person: Person
) -> None:
    assert [each["secret"] for each in agent.call("leases", {})["leases"]] == ["app/db"]
    with following(agent) as trail:
        entered.run(f"cd {person.folder}")
        trail.wait_for(event="lease", action="end", because="revoked")
    assert entered.run(LOADED) == "unloaded"
    assert agent.call("leases", {})["leases"] == []


@by_name(PROMPTING)
def test_locking_ends_the_leases_and_takes_the_values_back(
    entered: Terminal, agent: Agent, person: Person
) -> None:
    agent.cli("lock", check=True)
    person.await_line("locked")
    entered.run("true")
    assert entered.run(LOADED) == "unloaded"
    agent.unlock()
    person.await_line("unlocked")
    entered.run("true")
    entered.run("true")
    assert entered.run(LOADED) == "loaded"


@by_name(PROMPTING)
def test_the_end_of_the_shell_ends_the_leases(entered: Terminal, agent: Agent) -> None:
    with following(agent) as trail:
        entered.process.kill()
        trail.wait_for(event="lease", action="end", because="shell-gone")


@by_name(PROMPTING)
def test_a_changed_manifest_is_noticed_and_refused(
    entered: Terminal, agent: Agent, person: Person
) -> None:
    manifest = person.project / "secrets.toml"
    manifest.write_text(MANIFEST.replace("app/db", "other/key"))
    known = manifest.stat()
    os.utime(manifest, (known.st_atime, known.st_mtime + 10))
    entered.run("true")
    assert entered.run(LOADED) == "unloaded"


@by_name(PROMPTING)
def test_without_our_hook_the_leases_are_still_those_of_the_shell(
    person: Person, agent: Agent, shell: Shell
) -> None:
    person.trust_project()
    direnv = person.use_direnv("use secret-agent --values\n")
    environment = shell.start_up(person.folder, _install(direnv, shell) + "\n")
    argv = shell.argv(person.folder)
    with (
        following(agent) as trail,
        Terminal(argv, env=person.environment(**environment), cwd=person.project) as terminal,
    ):
        terminal.run("true")
        assert terminal.run(LOADED) == "loaded"
        (lease,) = agent.call("leases", {})["leases"]
        assert lease["bound_pid"] == terminal.pid
        terminal.process.kill()
        trail.wait_for(event="lease", action="end", because="shell-gone")
