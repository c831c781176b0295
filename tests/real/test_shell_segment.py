"""The prompt segment: the agent's state in words of the hook's own, whatever the line holds."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.shell_desk import NEVER_ALIVE, Desk, source
from support.terminal import ALL, Shell, by_name


@pytest.fixture
def desk(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    made = Desk(tmp_path, tmp_path_factory.mktemp("s"))
    yield made
    made.close()


def shown(desk: Desk, shell: Shell) -> str:
    """What the prompt segment says, everything else that came out included."""
    before = "__secret_agent_at_prompt; " if shell.runs_before_prompt else ""
    done = desk.run(shell, f"{source(shell)}; {before}__secret_agent_prompt")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


KNOWN_LINES = {
    "locked": ("locked 0 0 {pid}", "locked "),
    "unlocked": ("unlocked 0 0 {pid}", "unlocked "),
    "far-end": ("unlocked {far} {far} {pid}", "unlocked "),
    "lease-ends": ("unlocked 0 {soon} {pid}", "ending "),
    "session-ends": ("unlocked {soon} {far} {pid}", "ending "),
    "no-newline": ("unlocked 0 0 {pid}\0", "unlocked "),
    "dead-agent": ("unlocked 0 0 {dead}", ""),
}


@by_name(ALL)
@pytest.mark.parametrize("case", KNOWN_LINES)
def test_the_segment_says_the_agents_state(desk: Desk, shell: Shell, case: str) -> None:
    line, expected = KNOWN_LINES[case]
    if expected == "ending " and not shell.knows_time:
        expected = "unlocked "
    now = int(time.time())
    desk.listen()
    text = line.format(pid=os.getpid(), dead=NEVER_ALIVE, soon=now + 30, far=now + 3600)
    desk.line.write_text(text.rstrip("\0") + ("" if text.endswith("\0") else "\n"))
    assert shown(desk, shell) == expected


HOSTILE_LINES = {
    "command": b"unlocked $(touch pwned) `touch pwned` %d\n",
    "arithmetic": b"unlocked a[$(touch${IFS}pwned)] a[`touch${IFS}pwned`] %d\n",
    "octal": b"unlocked 08 09 %d\n",
    "huge": b"unlocked 99999999999999999999 99999999999999999999 %d\n",
    "negative": b"unlocked -1 -1 %d\n",
    "escape": b"\x1b]0;x\x07unlocked 0 0 %d\n",
    "prompt-expansion": b"%%{%%F{red}\\e[31m\\u$(touch${IFS}pwned)%%} 0 0 %d\n",
    "option": b"-n -e -- %d\n",
    "glob": b"* ? [a-z] %d\n",
    "not-a-pid": b"unlocked 0 0 -1\n",
    "pid-expression": b"unlocked 0 0 $(touch${IFS}pwned)\n",
    "empty": b"",
    "zeros": bytes(4096),
    "long": b"u" * 100_000,
    "not-utf8": b"\xff\xfe\xc3 0 0 %d\n",
}


@by_name(ALL)
@pytest.mark.parametrize("case", HOSTILE_LINES)
def test_a_hostile_line_shows_nothing_and_runs_nothing(desk: Desk, shell: Shell, case: str) -> None:
    desk.listen()
    text = HOSTILE_LINES[case]
    desk.line.write_bytes(text.replace(b"%d", b"%d" % os.getpid()).replace(b"%%", b"%"))
    assert shown(desk, shell) in {"", "unlocked "}
    assert not (desk.folder / "pwned").exists()


@by_name(ALL)
@pytest.mark.parametrize("kind", ["fifo", "folder", "dangling", "missing"])
def test_a_line_that_is_no_file_neither_hangs_nor_shows(
    desk: Desk, shell: Shell, kind: str
) -> None:
    desk.listen()
    match kind:
        case "fifo":
            os.mkfifo(desk.line)
        case "folder":
            desk.line.mkdir()
        case "dangling":
            desk.line.symlink_to("nothing")
    assert shown(desk, shell) == ""
