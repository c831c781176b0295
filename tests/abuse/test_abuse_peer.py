"""Abuse cases 3 to 5 of a peer: a dead one's connection, a recycled pid, a misleading address."""

import os
import signal
import socket
from pathlib import Path

import pytest

from secret_agent.holder import Namespaces, Peer
from secret_agent.holder.identify import Pin
from secret_agent.holder.linux import pin_by_credentials, pin_by_peer_pidfd
from secret_agent.model import Holder
from secret_agent_client.errors import DeniedError
from support.puppets import Door, await_gone, kill, recycle

GONE = "denied: the process that connected is gone"
every_rung = pytest.mark.parametrize("rung", ["pidfd", "credentials"])


# 3: connect, fork, the parent exits, the grandchild sends.


@pytest.mark.parametrize("pin", [pin_by_peer_pidfd, pin_by_credentials])
@pytest.mark.parametrize("reaped", [True, False])
def test_3_what_a_grandchild_sends_is_not_the_dead_peers_request(
    pin: Pin, *, reaped: bool, tmp_path: Path
) -> None:
    with Door(tmp_path) as door:
        puppet, process = door.puppet()
        peer = Peer.from_socket(puppet.socket, own=Namespaces.own(), pin=pin)
        grandchild = int(puppet.do("pid = os.fork(); result = pid or os.getpid()"))
        assert puppet.answer() == str(grandchild)
        if reaped:
            kill(process)
        else:
            process.send_signal(signal.SIGKILL)
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        puppet.send("connection.sendall(b'get')")
        assert puppet.socket.recv(3) == b"get"  # the connection is as good as ever
        assert not peer.alive()
        with pytest.raises(DeniedError, match=r"^the process that connected is gone$"):
            peer.identify(scope=None)
        peer.close()
        os.kill(grandchild, signal.SIGKILL)
        await_gone(grandchild)


# 4: the pid is recycled (CVE-2019-15790, CVE-2019-6133).


def test_4_a_pid_recycled_before_the_accept_is_refused() -> None:
    """Only the kernel's own pidfd can tell; what the other rung lets through is in linux.py."""
    assert recycle("before_the_accept", "pidfd") == GONE


@every_rung
def test_4_a_pid_recycled_between_accept_and_request_is_refused(rung: str) -> None:
    assert recycle("after_the_accept", rung) == GONE


@every_rung
def test_4_a_pid_recycled_between_two_requests_is_refused(rung: str) -> None:
    assert recycle("between_two_requests", rung) == GONE


@pytest.mark.slow
def test_4_a_pid_that_came_round_is_refused() -> None:
    """pid_max 400, and forks until the dead peer's pid is given out again."""
    assert recycle("by_wrapping", "pidfd") == GONE


@every_rung
def test_4_a_process_with_the_same_pid_and_start_time_gets_nothing(rung: str) -> None:
    """T10: the key is equal, the process is not."""
    assert recycle("same_key", rung) == GONE


def test_4_a_watch_does_not_pass_to_the_next_process_of_the_pid() -> None:
    assert recycle("watched", "pidfd") == "alive False"


def test_4_a_key_does_not_open_the_next_process_of_the_pid() -> None:
    assert recycle("by_key", "pidfd").startswith("denied: process ")


def test_4_the_recycled_pid_of_a_parent_is_not_taken_for_the_parent() -> None:
    assert recycle("parent", "pidfd") == "parents [1]"


def test_4_a_parent_with_the_pid_of_an_earlier_one_is_not_taken_for_it() -> None:
    assert recycle("parent_again", "pidfd") == "the new parent True"


# 5: the client's end of the connection has a misleading address (CVE-2019-7304).


def holder_of_client(door: Door, own: Namespaces, address: str | bytes | None) -> Holder:
    """Ourselves as a client whose end is bound to an address, or to none."""
    with socket.socket(socket.AF_UNIX) as client:
        if address is not None:
            client.bind(address)
        client.connect(str(door.path))
        with door.accept_raw() as connection:
            assert bool(connection.getpeername()) == (address is not None)
            peer = Peer.from_socket(connection, own=own)
            holder = peer.identify(scope=None)
            peer.close()
    return holder


@pytest.mark.parametrize(
    "address",
    [
        "{folder}/x;uid=0;",
        "{folder}/x\nuid=0 pid=1",
        "\0uid=0;pid=1;{folder}",
        "\0\xff\x1b[31m{folder}",
    ],
)
def test_5_the_clients_own_address_says_nothing_about_it(address: str, tmp_path: Path) -> None:
    own = Namespaces.own()
    with Door(tmp_path) as door:
        plain = holder_of_client(door, own, None)
        misleading = holder_of_client(door, own, address.format(folder=tmp_path))
    assert misleading == plain
    assert (plain.uid, plain.gid, plain.pid) == (os.geteuid(), os.getegid(), os.getpid())
