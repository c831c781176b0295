"""Peers in namespaces that are not ours are told apart, whatever uid and path they show."""

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from secret_agent.holder import Namespaces, Peer
from secret_agent.holder.namespaces import foreign_namespaces
from secret_agent.holder.pinned import Pinned
from secret_agent.holder.proc import parse_mount_ids
from secret_agent.model import Holder
from secret_agent_client.errors import UnavailableError
from support.puppets import Door, Puppet, in_new_pid_namespace, need_user_namespaces
from support.real import need


def holder_behind(door: Door, own: Namespaces, *before: str) -> tuple[Holder, Puppet]:
    door.start([*before, *door.command()])
    puppet = door.accept()
    peer = Peer.from_socket(puppet.socket, own=own)
    holder = peer.identify(scope=None)
    peer.close()
    return holder, puppet


def test_our_own_namespaces_are_those_of_this_process(own: Namespaces) -> None:
    for kind in ("user", "pid", "mnt"):
        assert os.readlink(f"/proc/self/ns/{kind}") == f"{kind}:[{getattr(own, kind)}]"  # noqa: PTH115  # a magic link


def test_every_namespace_of_its_own_is_named(door: Door, own: Namespaces) -> None:
    holder, _ = holder_behind(door, own, need_user_namespaces(), "-Urmpf", "--kill-child")
    assert holder.foreign_namespaces == ("user", "pid", "mnt")
    assert holder.container is not None
    assert holder.container.startswith("namespace:")


def test_a_user_namespace_alone_is_named(door: Door, own: Namespaces) -> None:
    holder, puppet = holder_behind(door, own, need_user_namespaces(), "-U")
    assert holder.foreign_namespaces == ("user",)
    inode = puppet.do("result = os.stat('/proc/self/ns/user').st_ino")
    assert holder.container == f"namespace:{inode}"


def test_root_of_a_user_namespace_is_the_user_it_is_outside(door: Door, own: Namespaces) -> None:
    """F6: the kernel shows our uid, so only the namespace tells it from the person."""
    holder, puppet = holder_behind(door, own, need_user_namespaces(), "-Ur")
    assert puppet.do("result = os.getuid()") == "0"
    assert (holder.uid, holder.gid) == (os.geteuid(), os.getegid())
    assert holder.foreign_namespaces == ("user",)


def test_a_forged_executable_path_is_betrayed_by_file_and_namespace(
    door: Door, own: Namespaces
) -> None:
    """F5: a bind mount makes /proc/PID/exe say what it likes; the inode and the mount do not."""
    unshare, victim = need_user_namespaces(), str(Path(need("true")).resolve())
    python = Path(sys.executable).resolve()
    # As argv[0] python is told its real name, by which it finds its library.
    script = f'mount --bind {python} {victim} && exec -a "$0" {victim} "${{@:2}}"'
    holder, _ = holder_behind(
        door, own, unshare, "-Urm", need("bash"), "-c", script, sys.executable
    )
    assert holder.exe == victim
    seen, real = Path(victim).stat(), python.stat()
    assert holder.exe_id != (seen.st_dev, seen.st_ino)
    assert holder.exe_id == (real.st_dev, real.st_ino)
    assert holder.foreign_namespaces == ("user", "mnt")


def test_a_peer_outside_our_pid_namespace_is_refused(door: Door) -> None:
    """The agent is in a pid namespace, the peer above it: the kernel calls it pid 0."""
    script = """
import socket, sys
from secret_agent.holder import Namespaces, Peer
from secret_agent_client.errors import DeniedError
listener = socket.socket(fileno=int(sys.argv[1]))
listener.setblocking(True)
connection, _ = listener.accept()
try:
    Peer.from_socket(connection, own=Namespaces.own())
except DeniedError as error:
    print(error.message)
"""
    door.start(door.command())
    told = in_new_pid_namespace("-c", script, descriptor=door.fileno())
    assert told == "the process that connected is outside the agent's pid namespace\n"


def test_an_agent_with_the_proc_of_another_namespace_does_not_start() -> None:
    script = """
from secret_agent.holder import Namespaces
from secret_agent_client.errors import UnavailableError
try:
    Namespaces.own()
except UnavailableError as error:
    print(error.message, error.remedy, sep="|")
"""
    told = in_new_pid_namespace("-c", script, mount_proc=False)
    assert told == (
        "peers cannot be identified: /proc belongs to another pid namespace"
        "|mount -t proc proc /proc\n"
    )


@pytest.fixture
def hidden_namespaces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the kernel refuse every look at a namespace; root is refused none, so it is played."""
    for module in ("namespaces", "identify"):
        monkeypatch.setattr(f"secret_agent.holder.{module}.namespace_inode", lambda *_: None)


@pytest.mark.usefixtures("hidden_namespaces")
def test_hidden_namespaces_that_are_ours_are_proven_by_other_signs(own: Namespaces) -> None:
    if Path("/proc/self/uid_map").read_text().split() != ["0", "0", "4294967295"]:
        pytest.skip("this is a user namespace below the first, where nothing can be proven")
    pinned = Pinned.open(os.getpid())
    assert foreign_namespaces(pinned, own) == ()
    pinned.close()


@pytest.mark.usefixtures("hidden_namespaces")
def test_hidden_namespaces_that_are_foreign_are_told_all_the_same(
    door: Door, own: Namespaces
) -> None:
    door.start([need_user_namespaces(), "-Urmpf", "--kill-child", *door.command()])
    puppet = door.accept()
    peer = Peer.from_socket(puppet.socket, own=own)
    holder = peer.identify(scope=None)
    assert holder.foreign_namespaces == ("user", "pid", "mnt")
    assert holder.container == "namespace:hidden"
    peer.close()


def test_in_the_agents_own_container_is_in_no_container(
    door: Door, own: Namespaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both in one container are neighbours; from elsewhere the same id is a container."""
    monkeypatch.setattr("secret_agent.holder.identify.container_of", lambda _: "c0ffee")
    puppet, _ = door.puppet()
    for container, told in (("c0ffee", None), (None, "c0ffee"), ("other", "c0ffee")):
        peer = Peer.from_socket(puppet.socket, own=replace(own, container=container))
        assert peer.identify(scope=None).container == told
        peer.close()


def test_mount_namespaces_share_no_mount(own: Namespaces, door: Door) -> None:
    """What the comparison of hidden mount namespaces leans on."""
    holder, puppet = holder_behind(door, own, need_user_namespaces(), "-Urm")
    theirs = parse_mount_ids(Path(f"/proc/{holder.pid}/mountinfo").read_bytes())
    ours = parse_mount_ids(Path("/proc/self/mountinfo").read_bytes())
    assert theirs
    assert ours.isdisjoint(theirs)
    puppet.close()


def test_without_proc_nobody_is_identified(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_path: str) -> str:
        raise FileNotFoundError

    monkeypatch.setattr("secret_agent.holder.namespaces.os.readlink", refused)
    with pytest.raises(UnavailableError, match="/proc is not mounted"):
        Namespaces.own()
