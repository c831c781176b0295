"""Abuse cases 1, 2, 6 to 9, 21, 23, 36, 38, and what attacks on the agent's sockets have found."""

import os
import signal
import socket
import stat
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from secret_agent.scopes import MAX_CHILDREN
from secret_agent.server.connection import Connection
from secret_agent.server.limits import PER_PROCESS, PER_SCOPE, PER_UID
from secret_agent.server.socket import bind
from secret_agent.server.verbs.scopes import MAX_NESTED_GLOBS
from support.agent import Agent
from support.peer import Peer
from support.real import need
from support.trail import following


def delegate(maker: Peer, path: Path, **asked: Any) -> dict[str, Any]:
    """The whole reply to a `delegate` with a new socket."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        return maker.ask("delegate", asked, descriptors=(listener.fileno(),))


def greeted(path: Path) -> Peer:
    peer = Peer(path)
    peer.hello()
    return peer


_HOLD = """
import socket, sys, time
sys.path[:0] = sys.argv[3:]
from secret_agent_client.wire import encode
kept = []
for _ in range(int(sys.argv[2])):
    made = socket.socket(socket.AF_UNIX)
    made.connect(sys.argv[1])
    try:
        made.sendall(encode({"id": 1, "verb": "hello", "body": {"version": 1}}))
        made.recv(4096)
    except OSError:
        pass
    kept.append(made)
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def holding(path: Path, *, processes: int, each: int) -> Iterator[None]:
    """So many processes of this uid, each with so many greeted connections."""
    command = [sys.executable, "-c", _HOLD, str(path), str(each), *sys.path]
    with ExitStack() as stack:
        held = []
        for _ in range(processes):
            one = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            stack.enter_context(one)
            stack.callback(one.kill)
            held.append(one)
        for one in held:
            assert one.stdout is not None
            assert one.stdout.readline() == b"held\n"
        yield


# The socket and its peers.


def test_1_the_socket_is_0600_and_its_folder_0700_whatever_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "run" / "agent.sock"
    before = os.umask(0)
    try:
        listener, lock = bind(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.lstat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.lstat().st_mode) == 0o700
    assert stat.S_IMODE(os.fstat(lock).st_mode) == 0o600
    listener.close()
    os.close(lock)


@pytest.mark.root
def test_2_another_uid_is_closed_without_a_word_and_recorded(unlocked: Agent) -> None:
    code = (
        "import socket, sys; s = socket.socket(socket.AF_UNIX); s.settimeout(20);"
        "s.connect(sys.argv[1]); sys.exit(len(s.recv(1)))"
    )
    as_nobody = [need("setpriv"), "--reuid=65534", "--regid=65534", "--clear-groups"]
    unlocked.path.chmod(0o755)
    unlocked.socket.chmod(0o666)
    with following(unlocked) as trail:
        command = [*as_nobody, "/usr/bin/python3", "-c", code, str(unlocked.socket)]
        done = subprocess.run(command, check=False, capture_output=True, timeout=30, cwd="/")
        assert (done.returncode, done.stderr) == (0, b"")
        denied = trail.wait_for(event="connection", outcome="deny")
    assert denied["because"] == "peer_uid: uid 65534 is not the agent's"


# The wire.


@pytest.mark.slow
def test_6_a_length_of_4_gib_is_refused_at_its_header(shared: Agent) -> None:
    with greeted(shared.socket) as peer:
        peer.send_bytes(b"\xff\xff\xff\xff")
        message = peer.next_message()
        assert message is not None
        assert message["error"]["code"] == "invalid"
        assert peer.is_closed()
    assert shared.call("status")["state"] == "unlocked"


def frame(body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + body


_STATUS = b"\xa4verb\xa6status"
_MALFORMED = {
    "7 a key twice": b"\x83\xa2id\x01" + _STATUS + b"\xa4verb\xa4stop",
    "7 a twin key of bytes": b"\x83\xa2id\x01" + _STATUS + b"\xc4\x04verb\xa4stop",
    "8 nested a thousand deep": b"\x83\xa2id\x01"
    + _STATUS
    + b"\xa4body"
    + b"\x91" * 1000
    + b"\xc0",
    "8 an array of 12 million": b"\x83\xa2id\x01" + _STATUS + b"\xa4body\xdd\x00\xb7\x1b\x00",
    "8 a timestamp": b"\x82\xa2id\xd6\xff\x00\x00\x00\x01" + _STATUS,
    "8 an extension": b"\x82\xa2id\xd4\x05\x01" + _STATUS,
    "8 not a number": b"\x82\xa2id\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00" + _STATUS,
    "8 an id of 2^64-1": b"\x82\xa2id\xcf" + b"\xff" * 8 + _STATUS,
}


@pytest.mark.parametrize("body", _MALFORMED.values(), ids=_MALFORMED)
def test_7_8_a_malformed_frame_is_an_error_and_nothing_is_done(shared: Agent, body: bytes) -> None:
    with greeted(shared.socket) as peer:
        peer.send_bytes(frame(body))
        message = peer.next_message()
        assert message is not None
        assert message["error"]["code"] == "invalid"
        assert "Traceback" not in message["error"]["message"]
        assert peer.call("status")["state"] == "unlocked"


def test_9_ten_thousand_frames_at_once_cost_nobody_else_an_answer(shared: Agent) -> None:
    with greeted(shared.socket) as peer:
        peer.socket.setblocking(False)
        with pytest.raises(BlockingIOError):  # the agent stops reading where nobody reads it
            deque((peer.send("status") for _ in range(10_000)), maxlen=0)
        assert shared.call("status")["state"] == "unlocked"
        assert shared.cli("status").returncode == 0


@pytest.mark.slow
def test_9_with_more_connections_than_may_be_the_users_command_is_answered(
    unlocked: Agent,
) -> None:
    """It was refused while other programs of the user held all the places."""
    value = unlocked.put("nine/a")
    each = PER_PROCESS - 4
    with holding(unlocked.socket, processes=PER_UID // each + 2, each=each):
        assert unlocked.cli("status").returncode == 0
        got = unlocked.cli("get", "nine/a")
        assert (got.returncode, got.stdout) == (0, value)
        if os.geteuid() == 0:  # nobody else may look into the agent
            assert len(list(Path(f"/proc/{unlocked.pid}/fd").iterdir())) < 5 * PER_UID


@pytest.mark.slow
def test_9_what_is_connected_through_a_scope_takes_no_place_of_the_users(unlocked: Agent) -> None:
    path = unlocked.path / "nine.sock"
    with greeted(unlocked.socket) as maker:
        assert "ok" in delegate(maker, path, allow=["nine/*"])
        with holding(path, processes=2, each=PER_SCOPE - 8):
            (scope,) = unlocked.call("scopes")["scopes"]
            assert scope["connections"] == PER_SCOPE
            assert unlocked.call("status")["state"] == "unlocked"


def test_a_holder_that_dies_while_its_lease_ends_does_not_end_the_agent(unlocked: Agent) -> None:
    """An event for a connection that was just closing ended the whole agent."""
    unlocked.put("nine/a")
    code = (
        "import sys; sys.path[:0] = sys.argv[2:]; from support.peer import Peer;"
        "p = Peer(sys.argv[1]); p.hello(); p.call('events'); p.call('get', {'name': 'nine/a'});"
        "print('held', flush=True); sys.stdin.read()"
    )
    for _ in range(6):
        command = [sys.executable, "-c", code, str(unlocked.socket), *sys.path]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"held\n"
            with following(unlocked) as trail:
                holder.send_signal(signal.SIGKILL)
                assert trail.wait_for(event="lease", action="end")["because"] == "process-gone"
    assert unlocked.call("status")["leases"]["active"] == 0


async def test_an_event_after_the_end_of_a_connection_is_nothing() -> None:
    """The same, made certain."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    connection = Connection(
        ours,
        SimpleNamespace(),  # type: ignore[arg-type]  # a peer that is asked nothing
        {},
        scope=None,
        report_bug=lambda _error: None,
    )
    theirs.close()
    with trio.fail_after(10):
        await connection.run()
    connection.push("lease-ended", {"lease": "l-1"})


# Scopes.


@pytest.mark.slow
def test_no_scope_begins_after_a_lock_that_came_while_it_was_recorded(unlocked: Agent) -> None:
    """Most of the time it did, and served again after the next unlock."""
    for number in range(5):
        unlocked.unlock()
        with greeted(unlocked.socket) as locker, greeted(unlocked.socket) as maker:
            lock = locker.send("lock")
            delegate(maker, unlocked.path / f"{number}.sock", allow=["**"])
            locker.reply(lock)
        assert unlocked.call("scopes")["scopes"] == []


def test_36_a_scopes_holder_leaves_room_for_the_users_own_scopes(unlocked: Agent) -> None:
    path = unlocked.path / "outer.sock"
    with greeted(unlocked.socket) as maker:
        delegate(maker, path, allow=["a/*"])
        with greeted(path) as scoped:
            made = [
                delegate(scoped, unlocked.path / f"{number}.sock", allow=["a/*"])
                for number in range(MAX_CHILDREN + 1)
            ]
            assert ["ok" in reply for reply in made] == [True] * MAX_CHILDREN + [False]
            assert made[-1]["error"]["code"] == "denied"
            costly = ["**/a/" * 40 + "b"] * (MAX_NESTED_GLOBS + 1)
            reply = delegate(scoped, unlocked.path / "costly.sock", allow=costly)
            assert reply["error"]["code"] == "invalid"
        assert "ok" in delegate(maker, unlocked.path / "mine.sock", allow=["a/*"])


def test_36_many_at_once_have_no_more_uses_than_the_scope(unlocked: Agent) -> None:
    unlocked.put("a/b")
    path = unlocked.path / "uses.sock"
    with greeted(unlocked.socket) as maker, ExitStack() as stack:
        delegate(maker, path, allow=["a/*"], max_uses=5)
        peers = [stack.enter_context(greeted(path)) for _ in range(50)]
        asked = [peer.send("get", {"name": "a/b"}) for peer in peers]
        replies = [peer.reply(number) for peer, number in zip(peers, asked, strict=True)]
    assert sum("ok" in reply for reply in replies) == 5


def test_38_a_socket_whose_agent_is_dead_is_named_and_no_other_is_tried(unlocked: Agent) -> None:
    """In containers: tests/real/test_podman_mounts.py."""
    unlocked.put("a/b")
    stale = unlocked.path / "stale.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(stale))
    done = unlocked.cli("get", "a/b", env={"SECRET_AGENT_SOCK": str(stale)})
    assert (done.returncode, done.stdout) == (6, b"")
    assert str(stale).encode() in done.stderr
    assert b"unset SECRET_AGENT_SOCK" in done.stderr


# Leases.


@pytest.mark.parametrize("ttl", [1, 3600, 316_224_000])
def test_21_no_renewal_passes_the_maximum(shared: Agent, ttl: int) -> None:
    """In the last second: tests/unit/core/test_lease_table.py."""
    shared.put("twentyone/a")
    with greeted(shared.socket) as peer:
        lease = peer.call("get", {"name": "twentyone/a"})["lease"]["id"]
        assert peer.call("renew", {"lease": lease, "ttl_s": ttl})["ttl_s"] <= 3600


@pytest.mark.parametrize("ttl", [0, -1, 10**18, "1h", True, b"\x01", None])
def test_21_a_term_that_is_none_is_refused(shared: Agent, ttl: object) -> None:
    shared.put("twentyone/a")
    with greeted(shared.socket) as peer:
        lease = peer.call("get", {"name": "twentyone/a"})["lease"]["id"]
        assert peer.refused("renew", {"lease": lease, "ttl_s": ttl})["code"] == "invalid"


@pytest.mark.parametrize(("binding", "left"), [("shell", 0), ("process", 1)])
def test_23_a_lease_ends_with_its_shell_or_stays_with_its_process(
    unlocked: Agent, binding: str, left: int
) -> None:
    """A background child (setsid, nohup) outlives the shell that the lease may be bound to."""
    unlocked.put("a/b")
    code = (
        "import os, sys; sys.path[:0] = sys.argv[4:]; from support.peer import Peer;"
        "p = Peer(sys.argv[1]); p.hello(); p.call('get', {'name': 'a/b', 'binding': sys.argv[2]});"
        "os.setsid(); print('held', flush=True); sys.stdin.read()"
    )
    script = '"$0" -c "$@" <&3 & read line'
    command = ["/bin/sh", "-c", f"exec 3<&0; {script}", sys.executable, code, str(unlocked.socket)]
    with following(unlocked) as trail:
        shell = subprocess.Popen(
            [*command, binding, "", *sys.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert shell.stdout is not None
        assert shell.stdout.readline() == b"held\n"
        shell.kill()
        shell.wait(20)
        if not left:
            assert trail.wait_for(event="lease", action="end")["because"] == "shell-gone"
        assert unlocked.call("status")["leases"]["active"] == left
        assert shell.stdin is not None
        shell.stdin.close()
        shell.stdout.close()
        if left:
            assert trail.wait_for(event="lease", action="end")["because"] == "process-gone"
