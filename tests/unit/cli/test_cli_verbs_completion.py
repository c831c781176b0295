"""Completion knows what the parsers know, in the real shells, and asks for names alone."""

import subprocess
from argparse import ArgumentParser
from collections.abc import Mapping
from pathlib import Path

import pytest

from secret_agent_client.cli import completion_scripts
from secret_agent_client.cli.completion_words import Words, words_of
from support.real import need

SHELLS = ("bash", "zsh", "fish")


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="get")
    parser.add_argument("ref", metavar="REF")
    parser.add_argument("--ttl", metavar="D", help="it's $HOME: `id` [x]")
    parser.add_argument("-o", "--out", metavar="FILE")
    parser.add_argument("--shell", choices=("bash", "fish"))
    parser.add_argument("--json", action="store_true")
    return parser


def _table() -> list[Words]:
    policy = ArgumentParser(prog="policy")
    below = policy.add_subparsers(dest="what")
    check = below.add_parser("check", help="is it one")
    check.add_argument("--quick", action="store_true")
    below.add_parser("explain").add_argument("ref", metavar="REF")
    return [
        *words_of(_parser(), ("get",), "print it's value"),
        *words_of(policy, ("policy",), "rules"),
    ]


def test_the_words_are_the_parsers() -> None:
    get, policy, check, explain = _table()
    assert (get.path, get.takes, get.choices) == (("get",), "names", ())
    assert {option.names: option.takes for option in get.options} == {
        ("-h", "--help"): "nothing",
        ("--ttl",): "text",
        ("-o", "--out"): "files",
        ("--shell",): "text",
        ("--json",): "nothing",
    }
    assert [word for word, _ in policy.choices] == ["check", "explain"]
    assert (check.path, explain.takes) == (("policy", "check"), "names")


@pytest.fixture
def environment(tmp_path: Path) -> Mapping[str, str]:
    """A PATH on which `secret-agent complete names` knows two secrets."""
    fake = tmp_path / "bin" / "secret-agent"
    fake.parent.mkdir()
    fake.write_text('#!/bin/sh\n[ "$*" = "complete names" ] && printf "pay/db\\npay/key\\n"\n')
    fake.chmod(0o755)
    (tmp_path / "a-file").write_text("")
    return {"PATH": f"{fake.parent}:/usr/bin:/bin", "HOME": str(tmp_path), "TERM": "dumb"}


def _complete(shell: str, line: str, environment: Mapping[str, str], cwd: Path) -> set[str]:
    """What the shell offers for the last word of the line."""
    need(shell)
    (cwd / "script").write_text(completion_scripts.SHELLS[shell](_table()))
    done = subprocess.run(
        _DRIVERS[shell](line),
        env=environment,
        cwd=cwd,
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    )
    assert done.stderr == ""
    return {offered.partition("\t")[0] for offered in done.stdout.split("\n") if offered}


def _bash(line: str) -> list[str]:
    words = line.split(" ")
    quoted = " ".join(f"'{word}'" for word in words)
    script = f"source ./script; COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; _secret_agent"
    return ["bash", "--norc", "-c", f'{script}; printf "%s\\n" "${{COMPREPLY[@]}}"']


# The functions of zsh's completion work inside a widget alone: stand-ins print what they are given.
ZSH_STAND_INS = r"""
compdef() { : }
_files() { print -rl -- * }
_describe() { local n=${@[-1]}; print -rl -- ${${(P)n}%%:*} }
compadd() { shift; print -rl -- $@ }
"""


def _zsh(line: str) -> list[str]:
    words = line.split(" ")
    quoted = " ".join(f"'{word}'" for word in words)
    place = f"words=({quoted}); CURRENT={len(words)}; PREFIX='{words[-1]}'"
    return ["zsh", "-f", "-c", f"{ZSH_STAND_INS}source ./script; {place}; _secret_agent"]


def _fish(line: str) -> list[str]:
    return ["fish", "--no-config", "-c", f"source ./script; complete -C '{line}'"]


_DRIVERS = {"bash": _bash, "zsh": _zsh, "fish": _fish}


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("line", "offered", "not_offered"),
    [
        ("secret-agent ", {"get", "policy"}, {"pay/db", "a-file"}),
        ("secret-agent get ", {"pay/db", "pay/key"}, {"check", "a-file"}),
        ("secret-agent get --", {"--ttl", "--out", "--json", "--shell"}, {"--quick"}),
        ("secret-agent get --ttl 5m ", {"pay/db"}, {"check"}),
        ("secret-agent get --shell ", {"bash", "fish"}, {"pay/db", "a-file"}),
        ("secret-agent policy ", {"check", "explain"}, {"pay/db", "--quick"}),
        ("secret-agent policy check --", {"--quick"}, {"--ttl"}),
        ("secret-agent policy explain ", {"pay/db"}, {"check"}),
    ],
)
def test_each_shell_offers_what_fits_there(
    tmp_path: Path,
    environment: Mapping[str, str],
    shell: str,
    line: str,
    offered: set[str],
    not_offered: set[str],
) -> None:
    found = _complete(shell, line, environment, tmp_path)
    assert offered <= found
    assert not (not_offered & found)


@pytest.mark.parametrize("shell", SHELLS)
def test_when_no_agent_answers_there_is_silence(
    tmp_path: Path, environment: Mapping[str, str], shell: str
) -> None:
    (tmp_path / "bin" / "secret-agent").write_text("#!/bin/sh\necho oops >&2\nexit 6\n")
    found = _complete(shell, "secret-agent get ", environment, tmp_path)
    assert not any("/" in each or "oops" in each for each in found)


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_is_valid_for_its_shell(shell: str, tmp_path: Path) -> None:
    need(shell)
    script = tmp_path / "script"
    script.write_text(completion_scripts.SHELLS[shell](_table()))
    done = subprocess.run([shell, "-n", str(script)], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_bash_passes_shellcheck(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text(completion_scripts.bash(_table()))
    done = subprocess.run(
        [need("shellcheck"), "--shell=bash", "--exclude=SC2207", str(script)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == ""
