"""Sessions at the command line, as files: every command, what it prints, and how it ends.

A transcript is the `.txt` files beside this one, in lines of a closed set:

    # text      about what follows
    << NAME     the lines up to `>>` are the content of that file
    $ COMMAND   run by sh, in a folder of its own, with an unlocked agent
    > TEXT      a line that it prints to stdout
    2> TEXT     a line that it prints to stderr
    ? N         its exit status, where that is not 0

What differs from run to run stands as LEASE, SCOPE, TIME, DIGEST, PID, UID, SEQ and HERE.
"""

import re
import shlex
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from support.agent import SOURCES, Agent

FOLDER = Path(__file__).parent
MASKS = (
    (re.compile(r"l-[0-9a-f]{16}"), "LEASE"),
    (re.compile(r"s-[0-9a-f]{16}"), "SCOPE"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"), "TIME"),
    (re.compile(r"[0-9a-f]{64}"), "DIGEST"),
    (re.compile(r"\b(python3?(\.\d+)?|bash|sh|zsh|timeout|pytest)\[\d+\]"), "PID"),
    (re.compile(r"\buid \d+"), "UID"),
    (re.compile(r"#\d+"), "SEQ"),
)


@dataclass(slots=True)
class Step:
    """A command and what is expected of it."""

    line: int
    command: str
    out: list[str] = field(default_factory=list)
    err: list[str] = field(default_factory=list)
    status: int = 0


@dataclass(slots=True)
class Transcript:
    files: dict[str, str] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)


def read(path: Path) -> Transcript:
    """Parse; a line of no known kind is an error, so that none is passed over."""
    found, lines = Transcript(), iter(enumerate(path.read_text().split("\n"), 1))
    for number, line in lines:
        kind, _, rest = line.partition(" ")
        if kind == "$":
            found.steps.append(Step(number, rest))
        elif kind == ">":
            found.steps[-1].out.append(rest)
        elif kind == "2>":
            found.steps[-1].err.append(rest)
        elif kind == "?":
            found.steps[-1].status = int(rest)
        elif kind == "<<":
            content = []
            for _, inner in lines:
                if inner == ">>":
                    break
                content.append(inner)
            found.files[rest] = "\n".join([*content, ""])
        elif kind not in ("", "#"):
            raise AssertionError(f"{path.name}:{number}: a line of no known kind")
    return found


def masked(text: bytes, here: Path) -> list[str]:
    shown = text.decode().replace(str(here), "HERE")
    for pattern, name in MASKS:
        shown = pattern.sub(name, shown)
    lines = [line.rstrip() for line in shown.split("\n")]
    return lines[:-1] if lines[-1] == "" else lines


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """The folder of a session, with `secret-agent` on the PATH that `environment` gives."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "secret-agent"
    program.write_text(
        f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m secret_agent_client "$@"\n'
    )
    program.chmod(0o755)
    (tmp_path / "here" / ".git").mkdir(parents=True)
    return tmp_path / "here"


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.txt")), ids=lambda path: path.stem)
def test_the_session_goes_as_it_is_written(unlocked: Agent, here: Path, path: Path) -> None:
    transcript = read(path)
    for name, content in transcript.files.items():
        (here / name).write_text(content)
    environment = unlocked.environment(PYTHONPATH=SOURCES, COLUMNS="500")
    environment["PATH"] = f"{here.parent / 'bin'}:{environment['PATH']}"
    for step in transcript.steps:
        done = subprocess.run(
            ["sh", "-c", step.command],
            cwd=here,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            check=False,
        )
        said = (masked(done.stdout, here), masked(done.stderr, here), done.returncode)
        assert said == (step.out, step.err, step.status), f"{path.name}:{step.line}"


def test_there_are_transcripts_and_a_bad_line_is_no_comment(tmp_path: Path) -> None:
    assert len(list(FOLDER.glob("*.txt"))) >= 4
    bad = tmp_path / "bad.txt"
    bad.write_text("$ true\n1> x\n")
    with pytest.raises(AssertionError, match=r"bad\.txt:2"):
        read(bad)
