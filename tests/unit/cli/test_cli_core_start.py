"""The lines that a shell evaluates, whose words they are in, and which shell called."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from secret_agent_client.cli.callers import Process, calling_shell, shell_syntax
from secret_agent_client.cli.start import PLAIN, assignments, unsets
from secret_agent_client.errors import InvalidError
from support.agent import SOURCES
from support.real import need

SOCKET = "/run/user/1000/secret-agent/agent.sock"


def test_the_lines_are_those_of_the_contract() -> None:
    assert assignments("bash", SOCKET, 42) == (
        f"SECRET_AGENT_SOCK={SOCKET}; export SECRET_AGENT_SOCK; "
        "SECRET_AGENT_PID=42; export SECRET_AGENT_PID;"
    )
    assert assignments("fish", SOCKET, 42) == (
        f"set -gx SECRET_AGENT_SOCK {SOCKET}; set -gx SECRET_AGENT_PID 42;"
    )
    assert unsets("posix") == "unset SECRET_AGENT_SOCK; unset SECRET_AGENT_PID;"
    assert unsets("fish") == "set -e SECRET_AGENT_SOCK; set -e SECRET_AGENT_PID;"


@pytest.mark.parametrize("char", [*" \t\n*?[]{}()<>|&;$`\"'\\~!#^", "ü", "\x00", "="])
def test_a_path_that_a_shell_would_change_is_refused(char: str) -> None:
    with pytest.raises(InvalidError, match="unquoted") as raised:
        assignments("bash", f"/run/a{char}b/agent.sock", 1)
    assert raised.value.remedy is not None


@pytest.mark.real
@pytest.mark.parametrize("shell", ["bash", "zsh", "dash", "ksh"])
def test_every_character_that_is_let_through_survives_an_unquoted_eval(
    shell: str, tmp_path: Path
) -> None:
    path = "/" + "".join(sorted(PLAIN))
    script = f"eval $(printf '%s\\n' '{assignments(shell, path, 7)}')"
    done = subprocess.run(
        [need(shell), "-c", f'{script}; printf "%s %s" "$SECRET_AGENT_SOCK" "$SECRET_AGENT_PID"'],
        capture_output=True,
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},
        check=True,
    )
    assert done.stdout.decode() == f"{path} 7"


@pytest.mark.real
def test_every_character_that_is_let_through_survives_fish(tmp_path: Path) -> None:
    path = "/" + "".join(sorted(PLAIN))
    script = (
        f"printf '%s\\n' '{assignments('fish', path, 7)}' | source; printf %s $SECRET_AGENT_SOCK"
    )
    done = subprocess.run(
        [need("fish"), "--no-config", "-c", script],
        capture_output=True,
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        check=True,
    )
    assert done.stdout.decode() == path


SAY = """
import os
from secret_agent_client.cli.callers import calling_shell, shell_syntax
print(calling_shell(), shell_syntax(os.environ))
"""


def called_from(argv: list[str], tmp_path: Path, **more: str) -> list[str]:
    """What a program finds that a shell calls in `$(…)`: the shell's pid as it says, and ours."""
    done = subprocess.run(
        argv,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "PYTHONPATH": SOURCES,
            "SAY": SAY,
            **more,
        },
        check=True,
    )
    return done.stdout.split()


@pytest.mark.real
@pytest.mark.parametrize(
    ("shell", "syntax"), [("bash", "bash"), ("zsh", "zsh"), ("dash", "posix"), ("ksh", "posix")]
)
@pytest.mark.parametrize(
    "form",
    ["echo $({}) $$", "found=$(: ; {}; :); echo $found $$", "{}; echo $$"],
    ids=["substitution", "with more in it", "directly"],
)
def test_the_shell_is_found_and_not_what_it_forks(
    shell: str, syntax: str, form: str, tmp_path: Path
) -> None:
    call = f'{sys.executable} -c "$SAY"'
    argv = [need(shell), "-c", form.replace("{}", call) + "; :"]
    found, words, own = called_from(argv, tmp_path)
    assert (found, words) == (own, syntax)


@pytest.mark.real
def test_fish_is_found(tmp_path: Path) -> None:
    script = f'{sys.executable} -c "$SAY"; echo $fish_pid'
    found, syntax, own = called_from([need("fish"), "--no-config", "-c", script], tmp_path)
    assert (found, syntax) == (own, "fish")


@pytest.mark.real
def test_a_nested_shell_is_not_taken_for_a_copy_of_the_outer_one(tmp_path: Path) -> None:
    inner = "found=$(" + sys.executable + ' -c "$SAY"); echo $$ $found; :'
    argv = [need("bash"), "-c", f"bash -c '{inner}'; :"]
    own, found, _ = called_from(argv, tmp_path)
    assert found == own


def test_a_program_that_is_no_shell_is_not_registered(tmp_path: Path) -> None:
    assert calling_shell(os.getpid()) is None
    found, syntax = called_from([sys.executable, "-c", SAY], tmp_path, SHELL="/usr/bin/fish")
    assert (found, syntax) == ("None", "fish")


def test_an_unknown_shell_gets_posix_words() -> None:
    assert shell_syntax({"SHELL": "/bin/tcsh"}) in ("posix", "bash", "zsh", "fish")
    assert calling_shell(2**22 + 1) is None


def test_a_process_is_no_copy_of_its_parent_once_it_has_called_exec() -> None:
    assert not Process(os.getpid()).is_copy_of(Process(os.getppid()))
