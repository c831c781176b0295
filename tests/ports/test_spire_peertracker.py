"""SPIRE's peer tracker, its tests told again for ours (pkg/common/peertracker).

There a tracker makes a watcher for each caller, and `IsAlive` is asked after every inspection.
Here the watcher of a connection is its Peer: `identify` and `alive` are what is asked; and the
tracker that tells of exits is the ProcessWatcher.
"""

import os
import signal
from pathlib import Path

import pytest
import trio

from secret_agent.holder import Namespaces, Peer
from secret_agent.holder.proc import parse_stat
from secret_agent.triggers.process import ProcessWatcher, wait_gone
from secret_agent_client.errors import DeniedError, UnavailableError
from support.puppets import Door, await_gone, kill, open_files

DEADLINE_S = 20.0


async def test_tracker_close(tmp_path: Path) -> None:
    """A tracker that is closed takes no new watch."""
    with Door(tmp_path) as door:
        puppet, _ = door.puppet()
        peer = Peer.from_socket(puppet.socket, own=Namespaces.own())
        key = peer.identify(scope=None).process
        watcher = ProcessWatcher()
        watcher.close()
        before = open_files()
        with pytest.raises(UnavailableError, match="the agent is stopping"):
            watcher.watch(key, lambda _: None)
        assert open_files() == before
        peer.close()


def test_listener(tmp_path: Path) -> None:
    """The pid of a connection is resolved when it is accepted, and its watcher is for that pid."""
    with Door(tmp_path) as door:
        puppet, process = door.puppet()
        peer = Peer.from_socket(puppet.socket, own=Namespaces.own())
        assert peer.pid == process.pid
        assert peer.pidfd >= 0
        assert peer.alive()
        peer.close()


def test_exit_detection_of_ourselves(tmp_path: Path) -> None:
    """A caller that lives is alive, and no longer once it is not watched any more."""
    own = Namespaces.own()
    with Door(tmp_path) as door:
        puppet, _ = door.puppet()
        peer = Peer.from_socket(puppet.socket, own=own)
        assert peer.alive()
        peer.identify(scope=None)
        peer.close()
        assert not peer.alive()
        with pytest.raises(DeniedError):
            peer.identify(scope=None)


async def test_exit_detection_of_a_forking_child(tmp_path: Path) -> None:
    """The caller forks and exits; the grandchild holds the connection, and the caller is dead.

    The grandchild can still be read from, which is exactly why the connection proves nothing.
    """
    with Door(tmp_path) as door:
        puppet, process = door.puppet()
        peer = Peer.from_socket(puppet.socket, own=Namespaces.own())
        grandchild = int(puppet.do("pid = os.fork(); result = pid or os.getpid()"))
        assert puppet.answer() == str(grandchild)
        kill(process)
        with trio.fail_after(DEADLINE_S):
            await wait_gone(peer.pidfd)
        assert not peer.alive()
        with pytest.raises(DeniedError, match="gone"):
            peer.identify(scope=None)
        puppet.send('connection.sendall(b"i\'m alive!")')
        assert puppet.socket.recv(10) == b"i'm alive!"
        peer.close()
        assert not peer.alive()
        os.kill(grandchild, signal.SIGKILL)
        await_gone(grandchild)


def test_exit_before_the_accept(tmp_path: Path) -> None:
    """A caller that has gone before it is accepted gets no watcher."""
    with Door(tmp_path) as door:
        puppet, process = door.puppet()
        kill(process)
        before = open_files()
        with pytest.raises(DeniedError, match="gone"):
            Peer.from_socket(puppet.socket, own=Namespaces.own())
        assert open_files() == before


def test_descriptors_after_close(tmp_path: Path) -> None:
    """As many descriptors are open after the last close as before the first accept."""
    own = Namespaces.own()
    with Door(tmp_path) as door:
        puppets = [door.puppet()[0] for _ in range(3)]
        warm = Peer.from_socket(puppets[0].socket, own=own)
        warm.identify(scope=None)  # our own ancestors stay pinned, once for all connections
        warm.close()
        before = open_files()
        for _ in range(10):
            peers = [Peer.from_socket(puppet.socket, own=own) for puppet in puppets]
            for peer in peers:
                peer.identify(scope=None)
                peer.close()
        assert open_files() == before


TAIL = (
    "S 0 1 1 0 -1 4194560 30901 1011224 96 1826 185 2546 3273 2402 20 0 1 0 24 170409984 2900 "
    "18446744073709551615 1 1 0 0 0 0 671173123 4096 1260 0 0 0 17 7 0 0 12 0 0 0 0 0 0 0 0 0 0"
)


@pytest.mark.parametrize("name", ["cmd", "the cmd"])
def test_parse_task_stat(name: str) -> None:
    """The start time is found behind any name."""
    parsed = parse_stat(f"1 ({name}) {TAIL}".encode())
    assert (parsed.pid, parsed.name, parsed.ppid, parsed.start_time) == (1, name, 0, 24)


def test_parse_task_stat_without_parentheses() -> None:
    with pytest.raises(ValueError, match="no name"):
        parse_stat(f"1 cmd {TAIL}".encode())
