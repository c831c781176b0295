"""Recycle pids on purpose: run as root of a pid namespace of its own, by `puppets.recycle`.

    python -m support.recycle CASE RUNG

A victim connects, dies and is reaped, and an impostor gets its pid (the kernel gives out the pid
after the one in /proc/sys/kernel/ns_last_pid).  Prints what became of the impostor: `denied: …`, or
whatever it got.  Every process here is a fork of one Python: same user, same program, same
descriptors, same parent.  Only the kernel knows them apart.
"""

import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from secret_agent.holder import Namespaces, Peer, open_pidfd
from secret_agent.holder.linux import pin_by_credentials, pin_by_peer_pidfd
from secret_agent.holder.pinned import Pinned
from secret_agent.model import ProcessKey
from secret_agent.triggers.process import ProcessWatcher
from secret_agent_client.errors import DeniedError
from support.puppets import next_tick

RUNGS = {"pidfd": pin_by_peer_pidfd, "credentials": pin_by_credentials}
_NEXT_PID = Path("/proc/sys/kernel/ns_last_pid")
_PID_MAX = Path("/proc/sys/kernel/pid_max")


class Scene:
    """A listening socket, and the processes that come and go before it."""

    def __init__(self, rung: str) -> None:
        self._path = Path(tempfile.mkdtemp()) / "s"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._path))
        self._listener.listen()
        self._pin = RUNGS[rung]
        self._own = Namespaces.own()

    def victim(self) -> int:
        """The pid of a new process that has connected and waits."""
        told, tell = os.pipe()
        pid = os.fork()
        if pid == 0:
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(str(self._path))
            os.write(tell, b".")
            signal.pause()
        os.read(told, 1)
        os.close(told)
        os.close(tell)
        return pid

    def accept(self) -> Peer:
        """The peer behind the next connection."""
        connection, _ = self._listener.accept()
        return Peer.from_socket(connection, own=self._own, pin=self._pin)


def die(pid: int) -> None:
    """Kill and reap a child, so that its pid is free."""
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def impostor(pid: int) -> None:
    """Make a process that has this pid."""
    _NEXT_PID.write_text(str(pid - 1))
    made = wait_for_ever()
    assert made == pid, "the kernel gave another pid"


def impostor_by_wrapping(pid: int) -> None:
    """The same the slow way: fork until the pids have gone round."""
    _PID_MAX.write_text("400")
    while (made := wait_for_ever()) != pid:
        die(made)


def wait_for_ever() -> int:
    """The pid of a new process that does nothing."""
    pid = os.fork()
    if pid == 0:
        signal.pause()
    return pid


def key_of(pid: int) -> ProcessKey:
    """The key of whatever has that pid now."""
    pinned = Pinned.open(pid)
    pinned.close()
    return pinned.key


def before_the_accept(scene: Scene) -> str:
    pid = scene.victim()
    die(pid)
    next_tick()
    impostor(pid)
    return f"served {scene.accept().pid}"


def after_the_accept(scene: Scene) -> str:
    pid = scene.victim()
    peer = scene.accept()
    die(pid)
    impostor(pid)
    assert key_of(pid).pid == peer.pid
    return f"served {peer.identify(scope=None).exe}"


def between_two_requests(scene: Scene) -> str:
    pid = scene.victim()
    peer = scene.accept()
    peer.identify(scope=None)
    die(pid)
    impostor(pid)
    return f"served {peer.identify(scope=None).exe}"


def by_wrapping(scene: Scene) -> str:
    _NEXT_PID.write_text("350")  # pids below 300 are given out once only (RESERVED_PIDS)
    pid = scene.victim()
    peer = scene.accept()
    die(pid)
    impostor_by_wrapping(pid)
    return f"served {peer.identify(scope=None).exe}"


def same_key(scene: Scene) -> str:
    """Same pid and same start time: all that a grant's key could be made of from /proc."""
    for _ in range(400):  # one is enough on an idle machine
        pid = scene.victim()
        peer = scene.accept()
        key = peer.identify(scope=None).process
        die(pid)
        impostor(pid)
        if key_of(pid) == key:
            try:
                os.close(peer.open_pidfd(key))
            except DeniedError:
                return f"served {peer.identify(scope=None).exe}"
            return "a pidfd of the impostor"
        die(pid)
        peer.close()
    return "no two processes started within one tick"


def watched(scene: Scene) -> str:
    """A process that is watched by its key does not hand the watch on, nor its life."""
    pid = scene.victim()
    peer = scene.accept()
    key = peer.identify(scope=None).process
    watcher = ProcessWatcher()
    watcher.watch(key, print, opener=peer.open_pidfd)
    die(pid)
    impostor(pid)
    return f"alive {watcher.is_alive(key)}"


def by_key(scene: Scene) -> str:
    pid = scene.victim()
    key = scene.accept().identify(scope=None).process
    die(pid)
    next_tick()
    impostor(pid)
    os.close(open_pidfd(key))
    return "a pidfd of the impostor"


def parent(scene: Scene) -> str:
    """The pid of the victim's parent is recycled; the victim lives and has another parent."""
    middle = os.fork()
    if middle == 0:
        scene.victim()
        signal.pause()
    peer = scene.accept()
    first = peer.identify(scope=None)
    assert first.ancestry[0].key.pid == middle
    die(middle)
    impostor(middle)
    second = peer.identify(scope=None)
    return f"parents {[ancestor.key.pid for ancestor in second.ancestry]}"


def parent_again(scene: Scene) -> str:
    """A parent whose pid was that of another parent, which is remembered."""

    def middle() -> None:
        scene.victim()
        signal.pause()

    first = os.fork()
    if first == 0:
        middle()
    peer = scene.accept()
    remembered = peer.identify(scope=None).ancestry[0].key
    die(first)
    next_tick()
    _NEXT_PID.write_text(str(first - 1))
    second = os.fork()
    if second == 0:
        middle()
    assert second == first == remembered.pid
    told = scene.accept().identify(scope=None).ancestry[0].key
    return f"the new parent {told == key_of(second) != remembered}"


CASES: dict[str, Callable[[Scene], str]] = {
    case.__name__: case
    for case in (
        before_the_accept,
        after_the_accept,
        between_two_requests,
        by_wrapping,
        same_key,
        watched,
        by_key,
        parent,
        parent_again,
    )
}


def main(case: str, rung: str) -> str:
    """Run one case; what became of the impostor."""
    try:
        return CASES[case](Scene(rung))
    except DeniedError as error:
        return f"denied: {error.message}"


if __name__ == "__main__":
    sys.stdout.write(main(sys.argv[1], sys.argv[2]))
