"""Identity at each request: what is told, and what is refused."""

import os
import pty
import signal
import socket
import sys
from pathlib import Path

import pytest

from secret_agent.holder import Namespaces, Peer
from secret_agent.holder.linux import Credentials, pin_by_credentials, pin_peer
from secret_agent.holder.pinned import Pinned
from secret_agent.holder.proc import Stat
from secret_agent_client.errors import DeniedError, UnavailableError
from support.puppets import (
    Door,
    Puppet,
    await_gone,
    kill,
    no_descriptors_left,
    open_files,
    until,
)

PYTHON = str(Path(sys.executable).resolve())
PYTHON_ID = (os.stat(PYTHON).st_dev, os.stat(PYTHON).st_ino)  # noqa: PTH116  # both at once


def peer_of(puppet: Puppet, own: Namespaces) -> Peer:
    return Peer.from_socket(puppet.socket, own=own)


def start_time(pid: int) -> int:
    pinned = Pinned.open(pid)
    pinned.close()
    return pinned.key.start_time


def test_a_holder_tells_the_process_that_connected(
    door: Door, own: Namespaces, tmp_path: Path
) -> None:
    puppet, process = door.puppet(cwd=tmp_path, start_new_session=True)
    peer = peer_of(puppet, own)
    holder = peer.identify(scope="s-1")
    assert (holder.uid, holder.gid) == (os.geteuid(), os.getegid()) == (peer.uid, peer.gid)
    assert holder.pid == peer.pid == process.pid
    assert holder.process.start_time == start_time(process.pid)
    assert (holder.exe, holder.exe_id) == (PYTHON, PYTHON_ID)
    assert holder.cwd == str(tmp_path.resolve())
    assert (holder.session_id, holder.tty) == (process.pid, None)
    assert holder.foreign_namespaces == ()
    assert holder.container is None
    assert holder.scope == "s-1"
    assert holder.inspectable
    peer.close()


def test_the_ancestry_leads_from_the_parent_to_init(door: Door, own: Namespaces) -> None:
    puppet, _ = door.puppet()
    peer = peer_of(puppet, own)
    holder = peer.identify(scope=None)
    us = holder.ancestry[0]
    assert (us.key.pid, us.exe, us.uid) == (os.getpid(), PYTHON, os.geteuid())
    assert us.key.start_time == start_time(os.getpid())
    assert us.session_id == os.getsid(0)
    assert holder.ancestry[1].key.pid == os.getppid()
    assert holder.ancestry[-1].key.pid == 1
    peer.close()


def test_both_rungs_give_the_same_holder(door: Door, own: Namespaces) -> None:
    puppet, _ = door.puppet()
    first = peer_of(puppet, own)
    second = Peer.from_socket(puppet.socket, own=own, pin=pin_by_credentials)
    assert first.identify(scope=None) == second.identify(scope=None)
    first.close()
    second.close()


def test_a_directory_name_that_is_no_text_can_still_be_written_down(
    door: Door, own: Namespaces, tmp_path: Path
) -> None:
    puppet, _ = door.puppet()
    peer = peer_of(puppet, own)
    folder = os.fsencode(tmp_path) + b"/\xff\xfe"
    os.mkdir(folder)  # noqa: PTH102  # Path takes no such bytes
    puppet.do(f"os.chdir({folder!r})")
    cwd = peer.identify(scope=None).cwd
    assert cwd.endswith(r"/\xff\xfe")
    cwd.encode()
    peer.close()


def test_opening_anothers_terminal_does_not_make_it_ones_own(door: Door, own: Namespaces) -> None:
    """T16: the terminal told is the session's, never that of descriptor 0."""
    leader, terminal = pty.openpty()
    puppet, _ = door.puppet(stdin=terminal, start_new_session=True)
    peer = peer_of(puppet, own)
    assert puppet.do("result = os.isatty(0)") == "True"
    assert peer.identify(scope=None).tty is None
    peer.close()
    os.close(leader)
    os.close(terminal)


def test_a_dead_peer_is_refused_although_it_was_identified_before(
    door: Door, own: Namespaces
) -> None:
    puppet, process = door.puppet()
    peer = peer_of(puppet, own)
    peer.identify(scope=None)
    process.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    for _ in ("a zombie", "reaped"):
        assert not peer.alive()
        with pytest.raises(DeniedError, match=r"^the process that connected is gone$"):
            peer.identify(scope=None)
        process.wait()
    peer.close()


def test_a_peer_whose_main_thread_has_ended_is_refused(door: Door, own: Namespaces) -> None:
    """It lives on in another thread, and /proc shows no executable of it any more."""
    puppet, process = door.puppet()
    peer = peer_of(puppet, own)
    peer.identify(scope=None)
    puppet.do("import threading, ctypes, signal")
    puppet.do("threading.Thread(target=signal.pause, daemon=True).start()")
    puppet.send("ctypes.CDLL(None).pthread_exit(None)")
    status = Path(f"/proc/{process.pid}/stat")
    until(lambda: b") Z " in status.read_bytes())
    assert peer.alive()
    with pytest.raises(DeniedError, match="the kernel keeps it from the agent"):
        peer.identify(scope=None)
    peer.close()


def test_a_closed_peer_is_refused(door: Door, own: Namespaces) -> None:
    puppet, _ = door.puppet()
    peer = peer_of(puppet, own)
    peer.identify(scope=None)
    peer.close()
    peer.close()
    assert not peer.alive()
    with pytest.raises(DeniedError, match="gone"):
        peer.identify(scope=None)


def test_a_peer_that_is_not_dumpable_is_told_as_not_inspectable(
    door: Door, own: Namespaces
) -> None:
    """F7.  root may look all the same; for anybody else nothing is shown, and nothing crashes."""
    puppet, process = door.puppet()
    peer = peer_of(puppet, own)
    peer.identify(scope=None)
    puppet.do("import ctypes; ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)")
    holder = peer.identify(scope=None)
    if os.geteuid() == 0:
        assert holder.inspectable
        assert holder.exe == PYTHON
    else:
        assert not holder.inspectable
        assert (holder.exe, holder.exe_id, holder.cwd) == ("", None, "")
    assert holder.pid == process.pid
    assert holder.foreign_namespaces == ()  # proven by signs that need no permission
    peer.close()


class DiesWhileLookedAt(Pinned):
    """A process that ends when the last of it has been read."""

    def stat(self) -> Stat:
        told = super().stat()
        if self.pidfd >= 0 and getattr(self, "mortal", False):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
            os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED | os.WNOWAIT)
        return told


def test_what_was_read_of_a_process_that_died_meanwhile_is_not_believed(
    door: Door, own: Namespaces
) -> None:
    """Every read succeeds; only the question whether it is alive, asked last, tells."""

    def pin(sock: socket.socket) -> tuple[Pinned, Credentials]:
        pinned, credentials = pin_peer(sock)
        dying = DiesWhileLookedAt(pinned.pid, os.dup(pinned.pidfd))
        pinned.close()
        return dying, credentials

    puppet, _ = door.puppet()
    peer = Peer.from_socket(puppet.socket, own=own, pin=pin)
    peer.identify(scope=None)
    vars(peer._pinned)["mortal"] = True
    with pytest.raises(DeniedError, match="gone"):
        peer.identify(scope=None)
    peer.close()


def test_peers_give_back_their_descriptors(door: Door, own: Namespaces) -> None:
    puppets = [door.puppet()[0] for _ in range(4)]
    warm = peer_of(puppets[0], own)
    warm.identify(scope=None)
    warm.close()
    before = open_files()  # the ancestors, which all of them share, stay pinned
    peers = [peer_of(puppet, own) for puppet in puppets]
    for peer in peers:
        peer.identify(scope=None)
    assert open_files() == before + 3 * len(peers)
    for peer in peers:
        peer.close()
    assert open_files() == before


def test_without_descriptors_left_nobody_is_identified(door: Door, own: Namespaces) -> None:
    puppet, _ = door.puppet()
    peer = peer_of(puppet, own)
    with no_descriptors_left(), pytest.raises(UnavailableError, match="no file descriptors left"):
        peer.identify(scope=None)
    assert peer.identify(scope=None).pid == peer.pid
    peer.close()


def test_open_pidfd_copies_what_is_held(door: Door, own: Namespaces) -> None:
    puppet, process = door.puppet()
    peer = peer_of(puppet, own)
    holder = peer.identify(scope=None)
    for key in (holder.process, holder.ancestry[0].key, holder.ancestry[-1].key):
        os.close(peer.open_pidfd(key))
    kill(process)
    with pytest.raises(DeniedError, match=rf"^process {process.pid} is gone$"):
        peer.open_pidfd(holder.process)
    with no_descriptors_left(), pytest.raises(UnavailableError):
        peer.open_pidfd(holder.ancestry[0].key)
    peer.close()


def test_open_pidfd_knows_only_the_peer_and_its_ancestors(door: Door, own: Namespaces) -> None:
    first, other = door.puppet()[0], door.puppet()[0]
    peer, stranger = peer_of(first, own), peer_of(other, own)
    peer.identify(scope=None)
    with pytest.raises(DeniedError, match="gone"):
        peer.open_pidfd(stranger.identify(scope=None).process)
    peer.close()
    stranger.close()


def test_a_grandchild_that_holds_the_connection_is_not_the_peer(
    door: Door, own: Namespaces
) -> None:
    puppet, process = door.puppet()
    peer = peer_of(puppet, own)
    grandchild = int(puppet.do("pid = os.fork(); result = pid or os.getpid()"))
    assert puppet.answer() == str(grandchild)  # both have answered that line
    kill(process)
    with pytest.raises(DeniedError, match="gone"):
        peer.identify(scope=None)
    os.kill(grandchild, signal.SIGKILL)
    await_gone(grandchild)
    peer.close()
