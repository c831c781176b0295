"""From a socket to a pinned process: each rung, and each way in which a peer can be gone."""

import errno
import os
import signal
import socket
import struct
from collections.abc import Callable
from typing import Any

import pytest

from secret_agent.holder.linux import (
    SO_PEERPIDFD,
    Credentials,
    open_pidfd,
    pin_by_credentials,
    pin_by_peer_pidfd,
    pin_peer,
    refusal_of,
)
from secret_agent.holder.pinned import Pinned
from secret_agent.model import ProcessKey
from secret_agent_client.errors import DeniedError, UnavailableError
from support.puppets import Door, Puppet, kill, next_tick, no_descriptors_left, open_files

Rung = Callable[[socket.socket], tuple[Pinned, Credentials]]
every_rung = pytest.mark.parametrize("rung", [pin_peer, pin_by_peer_pidfd, pin_by_credentials])


class KernelOf(socket.socket):
    """A connected socket on a kernel that answers SO_PEERPIDFD, or SO_PEERCRED, as it is told."""

    peer_pidfd: OSError | None = None
    claimed_pid: int | None = None
    claimed_uid: int | None = None

    def getsockopt(self, *arguments: Any) -> Any:
        if arguments[1] == SO_PEERPIDFD and self.peer_pidfd is not None:
            raise self.peer_pidfd
        answer: Any = super().getsockopt(*arguments)
        if arguments[1] == socket.SO_PEERCRED:
            pid, uid, gid = struct.unpack("iII", answer)
            pid = pid if self.claimed_pid is None else self.claimed_pid
            uid = uid if self.claimed_uid is None else self.claimed_uid
            return struct.pack("iII", pid, uid, gid)
        return answer


def kernel_of(puppet: Puppet, **answers: Any) -> KernelOf:
    """A copy of a puppet's connection with some answers of the kernel replaced."""
    copied = KernelOf(fileno=os.dup(puppet.socket.fileno()))
    for name, answer in answers.items():
        setattr(copied, name, answer)
    return copied


@every_rung
def test_the_peer_is_the_process_that_connected(rung: Rung, door: Door) -> None:
    puppet, process = door.puppet()
    pinned, credentials = rung(puppet.socket)
    assert pinned.pid == credentials.claimed_pid == process.pid
    assert credentials[1:] == (os.geteuid(), os.getegid())
    assert pinned.alive()
    pinned.close()


@every_rung
def test_a_pinned_peer_that_dies_is_dead_before_it_is_reaped(rung: Rung, door: Door) -> None:
    puppet, process = door.puppet()
    pinned, _ = rung(puppet.socket)
    process.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert pinned.read("stat")  # a zombie still has a /proc entry
    assert not pinned.alive()
    process.wait()
    assert not pinned.alive()
    with pytest.raises(ProcessLookupError):
        pinned.stat()
    pinned.close()


@every_rung
def test_a_zombie_is_refused(rung: Rung, door: Door) -> None:
    puppet, process = door.puppet()
    process.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(DeniedError, match=r"^the process that connected is gone$"):
        rung(puppet.socket)


@every_rung
def test_a_reaped_peer_is_refused(rung: Rung, door: Door) -> None:
    """Some kernels hand out a pidfd of a reaped peer, with Pid -1: success does not mean alive."""
    puppet, process = door.puppet()
    kill(process)
    before = open_files()
    with pytest.raises(DeniedError, match=r"^the process that connected is gone$"):
        rung(puppet.socket)
    assert open_files() == before


@pytest.mark.parametrize("number", [errno.ESRCH, errno.EINVAL, errno.ENODATA])
def test_a_kernel_that_answers_a_reaped_peer_with_an_error_is_understood(
    number: int, door: Door
) -> None:
    puppet, _ = door.puppet()
    with (
        kernel_of(puppet, peer_pidfd=OSError(number, "")) as asked,
        pytest.raises(DeniedError, match="gone"),
    ):
        pin_peer(asked)


def test_a_kernel_without_peer_pidfds_is_served_by_the_second_rung(door: Door) -> None:
    puppet, process = door.puppet()
    with kernel_of(puppet, peer_pidfd=OSError(errno.ENOPROTOOPT, "")) as asked:
        pinned, _ = pin_peer(asked)
    assert pinned.pid == process.pid
    pinned.close()


@every_rung
@pytest.mark.parametrize("pid", [0, -1])
def test_a_peer_without_a_pid_is_refused(rung: Rung, pid: int, door: Door) -> None:
    puppet, _ = door.puppet()
    with (
        kernel_of(puppet, claimed_pid=pid) as asked,
        pytest.raises(DeniedError, match="outside the agent's pid namespace"),
    ):
        rung(asked)


def test_a_pidfd_of_another_process_than_the_credentials_name_is_refused(door: Door) -> None:
    puppet, _ = door.puppet()
    with (
        kernel_of(puppet, claimed_pid=os.getpid()) as asked,
        pytest.raises(DeniedError, match="gone"),
    ):
        pin_by_peer_pidfd(asked)


def test_the_second_rung_refuses_what_started_after_the_accept(door: Door) -> None:
    """The pid of the connect names a later process: what a recycled pid looks like."""
    accepted_at = next_tick()
    next_tick()
    puppet, _ = door.puppet()
    before = open_files()
    with pytest.raises(DeniedError, match="gone"):
        pin_by_credentials(puppet.socket, latest_start=accepted_at)
    assert open_files() == before


def test_the_second_rung_refuses_another_users_process(door: Door) -> None:
    puppet, _ = door.puppet()
    with (
        kernel_of(puppet, claimed_uid=os.geteuid() + 1) as asked,
        pytest.raises(DeniedError, match="gone"),
    ):
        pin_by_credentials(asked)


@every_rung
def test_without_descriptors_left_the_peer_is_not_served_and_told_why(
    rung: Rung, door: Door
) -> None:
    puppet, _ = door.puppet()
    with (
        no_descriptors_left(),
        pytest.raises(UnavailableError, match="no file descriptors left") as caught,
    ):
        rung(puppet.socket)
    assert caught.value.remedy == "secret-agent status"


def test_an_old_kernel_is_named_as_the_reason() -> None:
    refusal = refusal_of(OSError(errno.ENOSYS, ""))
    assert isinstance(refusal, UnavailableError)
    assert refusal.message.endswith("this needs Linux 5.3 or newer")


def test_what_the_kernel_hides_is_refused_and_told_so() -> None:
    refusal = refusal_of(PermissionError(errno.EACCES, ""), what="process 7")
    assert isinstance(refusal, DeniedError)
    assert refusal.message == "process 7 cannot be identified: the kernel keeps it from the agent"


def test_a_proc_that_is_not_as_documented_refuses_and_shows_none_of_it() -> None:
    refusal = refusal_of(ValueError("7 (canary) S"))
    assert isinstance(refusal, DeniedError)
    assert refusal.message.endswith("cannot be identified: /proc is not as documented")


def test_pinned_descriptors_are_not_inherited(door: Door) -> None:
    puppet, _ = door.puppet()
    pinned, _ = pin_peer(puppet.socket)
    assert not os.get_inheritable(pinned.pidfd)
    assert not os.get_inheritable(pinned.directory)
    pinned.close()


def test_a_closed_pin_is_dead_and_may_be_closed_again(door: Door) -> None:
    puppet, _ = door.puppet()
    before = open_files()
    pinned, _ = pin_peer(puppet.socket)
    pinned.close()
    pinned.close()
    assert not pinned.alive()
    assert open_files() == before


def test_open_pidfd_gives_the_process_of_that_key(door: Door) -> None:
    puppet, process = door.puppet()
    pinned, _ = pin_peer(puppet.socket)
    before = open_files()
    pidfd = open_pidfd(pinned.key)
    assert open_files() == before + 1
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    os.close(pidfd)
    pinned.close()


def test_open_pidfd_refuses_a_process_that_is_gone(door: Door) -> None:
    puppet, process = door.puppet()
    pinned, _ = pin_peer(puppet.socket)
    kill(process)
    with pytest.raises(DeniedError, match=rf"^process {process.pid} is gone$"):
        open_pidfd(pinned.key)
    pinned.close()


@pytest.mark.parametrize("off", [-1, 1])
def test_open_pidfd_refuses_a_process_that_started_at_another_time(off: int, door: Door) -> None:
    puppet, _ = door.puppet()
    pinned, _ = pin_peer(puppet.socket)
    before = open_files()
    with pytest.raises(DeniedError, match="gone"):
        open_pidfd(ProcessKey(pinned.pid, pinned.key.start_time + off))
    assert open_files() == before
    pinned.close()


@pytest.mark.parametrize("pid", [-1, 0, 2**22 + 1, 2**31 - 1, 2**31, 2**70])
def test_open_pidfd_refuses_what_is_no_pid(pid: int) -> None:
    with pytest.raises(DeniedError, match="gone"):
        open_pidfd(ProcessKey(pid, 1))


def test_a_pidfd_of_a_dead_process_is_not_saved_by_a_living_directory(door: Door) -> None:
    """As if /proc/PID were already the next process's: same pid, same start time, not the same."""
    puppet, process = door.puppet()
    pidfd = os.pidfd_open(process.pid)
    kill(process)
    before = open_files()
    with pytest.raises(ProcessLookupError):
        Pinned(os.getpid(), pidfd)  # all that is read in /proc is of a living process
    assert open_files() == before - 1
    assert puppet.socket.fileno() >= 0
