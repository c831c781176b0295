"""What the README tells a person to type works as it is written, and answers as it shows."""

import re
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from support.agent import PASSPHRASE, Home
from support.terminal import Terminal
from support.tree import ROOT

pytestmark = pytest.mark.slow

README = (ROOT / "README.md").read_text()


def _blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def _steps() -> list[tuple[str, list[str]]]:
    """(command, the lines that it shows), in the order of the README."""
    steps: list[tuple[str, list[str]]] = []
    for line in "".join(_blocks("console")).splitlines():
        if line.startswith("$ "):
            steps.append((line[2:], []))
        else:
            steps[-1][1].append(line)
    return steps


def _installed(folder: Path) -> None:
    """A .venv/bin as packaging/set-up leaves it, with the command and this interpreter."""
    place = folder / ".venv" / "bin"
    place.mkdir(parents=True)
    _, _, rest = (ROOT / "client" / "bin" / "secret-agent").read_text().partition("\n")
    (place / "secret-agent").write_text(f"#!{sys.executable}\n{rest}")
    (place / "secret-agent").chmod(0o755)


def _matches(said: str, shown: list[str]) -> bool:
    """`…` in what is shown stands for anything within its line, alone on a line for any lines."""
    wanted = "\n".join(re.sub(r"([*?\[])", r"[\1]", line).replace("…", "*") for line in shown)
    return fnmatchcase(said.strip("\n"), wanted)


def test_the_two_minutes_work_as_they_are_written(home: Home, tmp_path: Path) -> None:
    _installed(tmp_path)
    bash = ["bash", "--norc", "--noprofile", "-i"]
    with Terminal(bash, env=home.environment(), cwd=tmp_path) as terminal:
        # No echo and no prompt: what is read is what commands say.
        _type(terminal, "stty -echo; PS1= PS2=; bind 'set enable-bracketed-paste off'")
        for command, shown in _steps():
            said = _type(terminal, command)
            home.said.append((f"README: {command}", said.encode()))
            assert _matches(said, shown), f"$ {command}\n{said}"


def _type(terminal: Terminal, command: str) -> str:
    """Type a command, answer every prompt for a passphrase, return what it said."""
    start = len(terminal.seen)
    # In one line: a prompt throws away what was typed ahead of it.
    terminal.send(f"{command}; printf '\\036end\\036'\n")
    asked = start
    while True:
        found = terminal.expect("\x1eend\x1e|[Pp]assphrase[^\n]*: ?$", start=asked)
        if found[0].startswith(b"\x1e"):
            break
        asked = found.end()
        terminal.send(PASSPHRASE.decode() + "\n")
    return terminal.seen[start : found.start()].decode(errors="replace").replace("\r\n", "\n")


def test_the_set_up_is_two_commands() -> None:
    assert _blocks("sh") == [
        "packaging/set-up && .venv/bin/secret-agent tour\n",
        "tests/check\n",
    ]
    for command in ("packaging/set-up", "tests/check"):
        assert (ROOT / command).stat().st_mode & 0o111


def test_the_tour_asks_nothing_and_leaves_nothing(home: Home, tmp_path: Path) -> None:
    before = sorted(home.path.rglob("*"))
    done = home.cli("tour", cwd=tmp_path, env={"TMPDIR": str(tmp_path)})
    assert done.returncode == 0, done.stderr.decode()
    for word in ("lease", "run", "mask", "revoke", "audit"):
        assert word in (done.stdout + done.stderr).decode().lower()
    assert sorted(home.path.rglob("*")) == before
    assert list(tmp_path.iterdir()) == []
    assert home.pid_at_socket() is None
