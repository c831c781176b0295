"""Whom the client talks to: by the kernel's word, and never before it (F9, abuse 47, FIELD 22)."""

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from secret_agent_client.connection import Connection
from secret_agent_client.dial import is_stopped, server_credentials, untrusted_part
from secret_agent_client.errors import InvalidError, NoAgentError
from support.fake_agent import FakeAgent

STRANGER = 4242  # a uid that nobody has

# A server of another uid that prints all that it is sent.  `scope` makes it greet as a scope's.
SERVER = """
import os, socket, sys
path, uid, scope = sys.argv[1], int(sys.argv[2]), sys.argv[3]
s = socket.socket(socket.AF_UNIX); s.bind(path); os.chmod(path, 0o666)
os.setgroups([]); os.setgid(uid); os.setuid(uid)
s.listen(); print("ready", flush=True)
from secret_agent_client.wire import Decoder, encode
talk, _ = s.accept(); d = Decoder()
while data := talk.recv(65536):
    d.feed(data)
    while (m := d.next()) is not None:
        print(m["verb"], flush=True)
        ok = {"version": 1, "features": [], "agent": "0.1.0", "pid": 1, "scope": scope or None}
        talk.sendall(encode({"id": m["id"], "ok": ok}))
"""


@contextlib.contextmanager
def server_of(uid: int, path: Path, *, scope: str = "") -> Iterator["subprocess.Popen[bytes]"]:
    from support.agent import SOURCES

    with subprocess.Popen(
        [sys.executable, "-c", SERVER, str(path), str(uid), scope],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": SOURCES},
    ) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == b"ready\n"
        try:
            yield server
        finally:
            server.kill()


def heard_by(server: "subprocess.Popen[bytes]") -> list[bytes]:
    server.kill()
    assert server.stdout is not None
    return server.stdout.read().split()


def test_our_own_server_is_known_by_its_uid_and_pid(socket_path: Path) -> None:
    with FakeAgent(socket_path), socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(socket_path))
        assert server_credentials(sock) == (os.getpid(), os.geteuid())


@pytest.mark.root
def test_another_users_server_at_the_well_known_place_is_told_nothing(
    folder: Path, socket_path: Path
) -> None:
    with server_of(STRANGER, socket_path) as server:
        socket_path.chmod(0o600)
        with pytest.raises(NoAgentError, match=f"another user .uid {STRANGER}."):
            Connection.connect()
        assert heard_by(server) == []


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that root alone can write to, and everything above it too."""
    made = Path("/run") / f"sf-{os.getpid()}"
    made.mkdir(0o755)
    monkeypatch.setenv("SECRET_AGENT_SOCK", str(made / "s.sock"))
    yield made
    for path in (*made.iterdir(), made):
        path.rmdir() if path.is_dir() else path.unlink()


@pytest.mark.root
def test_a_scope_of_another_user_where_only_root_could_put_it_is_used(trusted: Path) -> None:
    """What a mounted scope looks like in a container."""
    with server_of(STRANGER, trusted / "s.sock", scope="s-1") as server:
        with Connection.connect() as connection:
            connection.call("ls")
            assert connection.scope == "s-1"
        assert heard_by(server) == [b"hello", b"ls"]


@pytest.mark.root
def test_another_users_own_agent_is_asked_nothing_beyond_hello(trusted: Path) -> None:
    with server_of(STRANGER, trusted / "s.sock") as server:
        with Connection.connect() as connection, pytest.raises(NoAgentError, match="no scope"):
            connection.call("unlock", {"passphrase": b"canary"})
        assert heard_by(server) == [b"hello"]


@pytest.mark.root
@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o775, 0o757])
def test_a_server_of_another_user_where_others_could_put_it_is_told_nothing(
    trusted: Path, mode: int
) -> None:
    trusted.chmod(mode)
    with server_of(STRANGER, trusted / "s.sock", scope="s-1") as server:
        with pytest.raises(NoAgentError, match="others may write to") as raised:
            Connection.connect()
        assert raised.value.remedy == "unset SECRET_AGENT_SOCK"
        assert heard_by(server) == []


@pytest.mark.root
def test_a_folder_of_the_stranger_does_not_vouch_for_the_stranger(trusted: Path) -> None:
    os.chown(trusted, STRANGER, -1)
    with server_of(STRANGER, trusted / "s.sock", scope="s-1") as server:
        with pytest.raises(NoAgentError, match="others may write"):
            Connection.connect()
        assert heard_by(server) == []


def test_a_path_is_trusted_by_every_folder_on_it(folder: Path) -> None:
    assert untrusted_part("/proc/self/s") == "/proc/self/ is a link"
    assert untrusted_part("/no-such-folder/s") == "/no-such-folder/ cannot be looked at"
    # The folder of this test is in /tmp, which is everybody's.
    assert untrusted_part(str(folder / "s")) == "others may write to /tmp/"
    assert untrusted_part("/s") is None


def test_without_an_agent_the_command_that_starts_one_is_said(folder: Path) -> None:
    with pytest.raises(NoAgentError, match="no agent is running") as raised:
        Connection.connect()
    assert raised.value.remedy == "eval $(secret-agent start)"


def stale(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        os.fchmod(dead.fileno(), 0o600)
        dead.bind(str(path))


def test_a_stale_socket_is_told_from_a_missing_one(socket_path: Path) -> None:
    stale(socket_path)
    with pytest.raises(NoAgentError, match="nobody listens") as raised:
        Connection.connect()
    assert raised.value.remedy == "eval $(secret-agent start)"


def test_a_dead_socket_that_was_named_leads_to_no_other(
    folder: Path, socket_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scope that is over must not become the whole; the living agent is pointed to instead."""
    named = folder / "old.sock"
    stale(named)
    monkeypatch.setenv("SECRET_AGENT_SOCK", str(named))
    with FakeAgent(socket_path) as agent:
        with pytest.raises(NoAgentError, match="where SECRET_AGENT_SOCK points") as raised:
            Connection.connect()
        assert raised.value.remedy == "unset SECRET_AGENT_SOCK"
        assert agent.heard == []


def test_a_dead_socket_that_was_named_with_nothing_else_alive_says_start(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_AGENT_SOCK", str(folder / "gone" / "x.sock"))
    with pytest.raises(NoAgentError, match="there is no socket") as raised:
        Connection.connect()
    assert raised.value.remedy == "eval $(secret-agent start)"


@pytest.mark.parametrize("kind", ["directory", "fifo", "file", "dangling link"])
def test_what_is_no_socket_is_refused(folder: Path, socket_path: Path, kind: str) -> None:
    if kind == "directory":
        socket_path.mkdir(0o700)
    elif kind == "fifo":
        os.mkfifo(socket_path, 0o600)
    elif kind == "file":
        socket_path.touch(0o600)
    else:
        socket_path.symlink_to(folder / "nowhere")
    with pytest.raises(InvalidError):
        Connection.connect()


def test_a_named_file_that_is_no_socket_is_refused(folder: Path) -> None:
    (folder / "file").touch(0o600)
    with pytest.raises(NoAgentError):
        Connection.connect(str(folder / "file"))


def test_a_link_to_a_living_socket_is_not_followed_at_the_well_known_place(
    folder: Path, socket_path: Path
) -> None:
    with FakeAgent(folder / "real.sock") as agent:
        socket_path.symlink_to(folder / "real.sock")
        with pytest.raises(InvalidError, match="symbolic link"):
            Connection.connect()
        assert not agent.connected.is_set()


def test_a_running_process_is_not_stopped_and_a_missing_one_neither() -> None:
    assert not is_stopped(os.getpid())
    assert not is_stopped(0)
