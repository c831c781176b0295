"""`get --copy`: the value is on the clipboard as long as its lease is alive, and no longer.

The clipboard is a file behind scripts that take xclip's and wl-copy's arguments.
"""

import json
import os
import select
import signal
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.agent import Agent
from support.terminal import Terminal

KEEP = 'cat > "$BOARD".new && mv "$BOARD".new "$BOARD"'
TOOLS = {
    "xclip": f'case "$*" in *-o*) cat "$BOARD" ;; *) {KEEP} ;; esac',
    "wl-copy": f'case "$*" in *--clear*) : > "$BOARD" ;; *) {KEEP} ;; esac',
    "wl-paste": 'cat "$BOARD"',
}


class Board:
    """A clipboard of a test: what is on it, and the environment in which it is found."""

    def __init__(self, folder: Path, display: str) -> None:
        self.path = folder / "board"
        self.path.write_bytes(b"from before")
        for name, script in TOOLS.items():
            tool = folder / "bin" / name
            tool.parent.mkdir(exist_ok=True)
            tool.write_text(f"#!/bin/sh\n{script}\n")
            tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
        self.env = {
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
            "BOARD": str(self.path),
            display: ":99",
        }

    @property
    def content(self) -> bytes:
        return self.path.read_bytes()


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path, "DISPLAY")


@pytest.fixture(autouse=True)
def _nothing_stays(shared: Agent) -> Iterator[None]:
    yield
    shared.cli("revoke", "--all", check=True)


def _waiter(agent: Agent, name: str) -> dict[str, Any]:
    """The process that holds the secret, as `who` tells."""
    (holder,) = json.loads(agent.cli("who", name, "--json", check=True).stdout)
    return dict(holder)


def _copy(agent: Agent, board: Board, name: str, *args: str) -> int:
    """Copy; a pidfd of the process that will clear it."""
    done = agent.cli("get", name, "--copy", *args, env=board.env, check=True)
    assert done.stdout == b""
    assert b"copied; the clipboard is cleared in " in done.stderr
    return os.pidfd_open(_waiter(agent, name)["pid"])


def _ends(pidfd: int) -> bool:
    try:
        return bool(select.select([pidfd], [], [], 20)[0])
    finally:
        os.close(pidfd)


def test_a_wayland_session_is_served_by_its_own_tools(shared: Agent, tmp_path: Path) -> None:
    board = Board(tmp_path, "WAYLAND_DISPLAY")
    value = shared.put("c/w")
    pidfd = _copy(shared, board, "c/w")
    assert board.content == value
    shared.cli("revoke", "--all", check=True)
    assert _ends(pidfd)
    assert board.content == b""


@pytest.mark.slow
@pytest.mark.parametrize("end", ["revoke", "lock", "time"])
def test_the_value_goes_when_the_lease_ends(agent: Agent, board: Board, end: str) -> None:
    agent.unlock()
    value = agent.put("c/a")
    pidfd = _copy(agent, board, "c/a", "--ttl", "1s" if end == "time" else "5m")
    if end != "time":
        assert board.content == value
    if end == "revoke":
        agent.cli("revoke", "--secret", "c/a", check=True)
    elif end == "lock":
        agent.call("lock")
    assert _ends(pidfd)
    assert board.content == b""


def test_the_holder_is_the_process_that_waits_and_it_knows_no_value(
    shared: Agent, board: Board
) -> None:
    value = shared.put("c/b")
    pidfd = _copy(shared, board, "c/b")
    holder = _waiter(shared, "c/b")
    assert holder["channel"] == "clipboard"
    place = Path(f"/proc/{holder['pid']}")
    assert value not in (place / "cmdline").read_bytes()
    assert value not in (place / "environ").read_bytes()
    assert value not in _memory(place)
    shared.cli("revoke", "--all", check=True)
    assert _ends(pidfd)


def _memory(place: Path) -> bytes:
    """All that the process may write to, in one piece."""
    held = []
    with (place / "maps").open() as maps, (place / "mem").open("rb", buffering=0) as memory:
        for line in maps:
            span, mode = line.split()[:2]
            if "w" in mode:
                begin, end = (int(part, 16) for part in span.split("-"))
                memory.seek(begin)
                held.append(memory.read(end - begin))
    assert sum(map(len, held)) > 1_000_000, "the process could be read"
    return b"".join(held)


def test_what_the_person_copied_since_stays(shared: Agent, board: Board) -> None:
    shared.put("c/c")
    pidfd = _copy(shared, board, "c/c")
    board.path.write_bytes(b"something else")
    shared.cli("revoke", "--all", check=True)
    assert _ends(pidfd)
    assert board.content == b"something else"


def test_the_value_goes_even_when_the_waiting_process_is_told_to_end(
    shared: Agent, board: Board
) -> None:
    value = shared.put("c/d")
    pidfd = _copy(shared, board, "c/d")
    assert board.content == value
    signal.pidfd_send_signal(pidfd, signal.SIGTERM)
    assert _ends(pidfd)
    assert board.content == b""


def test_the_value_goes_when_the_agent_is_killed(agent: Agent, board: Board) -> None:
    agent.unlock()
    agent.put("c/e")
    pidfd = _copy(agent, board, "c/e")
    agent.kill()
    assert _ends(pidfd)
    assert board.content == b""


def test_without_a_clipboard_it_is_exit_7_and_nothing_is_leased(shared: Agent) -> None:
    shared.put("c/f")
    done = shared.cli("get", "c/f", "--copy", env={"PATH": "/nowhere", "TERM": "dumb"})
    assert (done.returncode, done.stdout) == (7, b"")
    assert json.loads(shared.cli("who", "c/f", "--json", check=True).stdout) == []


def test_what_is_wrong_is_told_as_without_copy(shared: Agent, board: Board) -> None:
    done = shared.cli("get", "no/such", "--copy", env=board.env)
    assert (done.returncode, done.stdout) == (5, b"")
    assert board.content == b"from before"


def test_a_terminal_without_a_display_is_asked_by_its_escape_sequence(unlocked: Agent) -> None:
    unlocked.cli("set", "c/t", "--stdin", input=b"by-osc-52", check=True)
    script = 'TERM=xterm python3 -m secret_agent_client get c/t --copy; echo "exit $?"; exec cat'
    env = unlocked.environment()
    with Terminal(["sh", "-c", script], env=env, cwd=unlocked.path) as terminal:
        terminal.expect("\x1b\\]52;c;Ynktb3NjLTUy\x07")
        terminal.expect("exit 0")
        unlocked.cli("revoke", "--all", check=True)
        terminal.expect("\x1b\\]52;c;!\x07")
