"""`completions`, `complete names` and `shell-init` from the real command line."""

import subprocess
from pathlib import Path

import pytest

from secret_agent_client.cli.command import COMMANDS, load
from secret_agent_client.cli.completion import SCRIPTS
from secret_agent_client.cli.main import parser_for
from support.agent import ROOT, Agent, Home
from support.real import need


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_verb_and_every_option_is_in_the_script(
    home: Home, tmp_path: Path, shell: str
) -> None:
    script = home.cli("completions", shell, check=True).stdout.decode()
    for verb, (_, text) in COMMANDS.items():
        if not text:
            assert f"'{verb}" not in script
            continue
        options = [
            name
            for action in parser_for(verb, load(verb))._actions
            for name in action.option_strings
        ]
        assert verb in script
        assert "--no-input" in options
        spelt = [name.lstrip("-") if shell == "fish" else name for name in options]
        assert [name for name in spelt if name not in script] == []
    path = tmp_path / "script"
    path.write_text(script)
    done = subprocess.run([need(shell), "-n", str(path)], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_bash_completes_names_from_the_running_agent(shared: Agent, tmp_path: Path) -> None:
    shared.put("tab/one")
    shared.put("tab/two")
    program = tmp_path / "bin" / "secret-agent"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\nexec python3 -m secret_agent_client "$@"\n')
    program.chmod(0o755)
    script = (
        "source <(secret-agent completions bash); COMP_WORDS=(secret-agent get tab/); "
        'COMP_CWORD=2; _secret_agent; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    environment = shared.environment()
    environment["PATH"] = f"{program.parent}:{environment['PATH']}"
    done = subprocess.run(
        [need("bash"), "--norc", "-c", script], env=environment, capture_output=True, check=True
    )
    assert done.stdout.split() == [b"tab/one", b"tab/two"]


def test_names_are_silence_where_nobody_answers_or_the_session_is_locked(
    home: Home, agent: Agent
) -> None:
    for where in (home, agent):
        done = where.cli("complete", "names")
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.parametrize(("shell", "script"), SCRIPTS.items())
def test_shell_init_prints_the_script_as_it_is(home: Home, shell: str, script: str) -> None:
    done = home.cli("shell-init", shell, check=True)
    assert done.stdout == (ROOT / "shell" / script).read_bytes()


def test_every_command_tells_its_example_and_the_table_tells_its_help(home: Home) -> None:
    for verb, (_, text) in COMMANDS.items():
        command = load(verb)
        assert not text or command.help == text
        shown = parser_for(verb, command).format_help()
        assert command.example in shown
        assert "secret-agent" in command.example
