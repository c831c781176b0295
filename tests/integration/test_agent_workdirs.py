"""A run's folder is gone with its process, the session and the agent, however each of them ends."""

import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.agent import Agent
from support.peer import Peer

AT_MOST_S = 20.0
HOLD = (
    "import sys; sys.path[:0] = sys.argv[2:];"
    "from support.peer import Peer; p = Peer(sys.argv[1]); p.hello();"
    "path = p.call('workdir')['path']; open(path + '/secret', 'wb').write(b'x');"
    "print(path, flush=True); sys.stdin.read()"
)


@contextmanager
def holding(agent: Agent) -> Iterator[tuple["subprocess.Popen[str]", Path]]:
    """A process that has a folder with a file in it, and the folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(agent.socket), *sys.path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        yield process, Path(process.stdout.readline().strip())
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stdin.close()


@pytest.fixture
def peer(unlocked: Agent) -> Iterator[Peer]:
    with unlocked.connect() as connected:
        connected.hello()
        yield connected


def await_gone(path: Path, peer: Peer) -> None:
    """Each request gives the agent a turn to hear of the end of a process."""
    until = time.monotonic() + AT_MOST_S
    while path.exists():
        assert time.monotonic() < until, "the folder stays"
        peer.call("status")


def test_it_is_private_and_tells_whether_it_lies_in_memory(peer: Peer) -> None:
    told = peer.call("workdir")
    path = Path(told["path"])
    assert stat.S_IMODE(path.lstat().st_mode) == 0o700
    assert list(path.iterdir()) == []
    kind = subprocess.run(
        ["stat", "--file-system", "--format=%T", path], check=True, capture_output=True, text=True
    ).stdout.strip()
    assert told["tmpfs"] == (kind in ("tmpfs", "ramfs"))


def test_sigkill_of_the_process_removes_it_and_leaves_another_s(
    unlocked: Agent, peer: Peer
) -> None:
    with holding(unlocked) as (first, gone), holding(unlocked) as (_, stays):
        assert (gone / "secret").exists()
        first.kill()
        first.wait()
        await_gone(gone, peer)
        assert (stays / "secret").exists()


def test_it_outlives_the_connection_by_which_it_was_asked_for(unlocked: Agent, peer: Peer) -> None:
    with unlocked.connect() as brief:
        brief.hello()
        path = Path(brief.call("workdir")["path"])
    peer.call("status")
    assert path.exists()


def test_a_lock_removes_it_before_it_answers(unlocked: Agent, peer: Peer) -> None:
    with holding(unlocked) as (_, path):
        peer.call("lock")
        assert not path.exists()
        assert peer.refused("workdir")["code"] == "locked"
        unlocked.unlock()
        assert Path(peer.call("workdir")["path"]).exists()


def test_an_orderly_end_removes_it(unlocked: Agent) -> None:
    with holding(unlocked) as (_, path):
        unlocked.stop()
        assert not path.exists()


def test_what_a_killed_agent_left_the_next_one_removes_at_its_start(unlocked: Agent) -> None:
    with holding(unlocked) as (_, path):
        unlocked.kill()
        assert (path / "secret").exists()
        unlocked.start()
        assert not path.exists()


def test_an_agent_beside_it_removes_nothing_of_it(unlocked: Agent) -> None:
    """Its socket lies in the same folder, and so do the folders of its runs."""
    reader, writer = os.pipe()
    with holding(unlocked) as (_, path):
        command = [sys.executable, "-m", "secret_agent", "--home", str(unlocked.path), "--private"]
        command += ["--socket", str(unlocked.path / "other.sock"), "--ready-fd", str(writer)]
        beside = subprocess.Popen(command, env=unlocked.environment(), pass_fds=[writer])
        os.close(writer)
        try:
            assert os.read(reader, 3) == b"ok\n"
            assert path.exists()
        finally:
            beside.terminate()
            beside.wait(AT_MOST_S)
            os.close(reader)
        assert path.exists()
