"""Promise 5: another uid, root included, and other namespaces are refused; a peer that is gone is
refused; a lease id is no
capability.
"""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from secret_agent_client.wire import encode
from support.agent import Agent
from support.peer import Peer
from support.real import need


def closed_without_a_word(agent: Agent, *command: str) -> bool:
    """Whether a client started by this command is closed before it is told anything."""
    code = (
        "import socket, sys; s = socket.socket(socket.AF_UNIX); s.settimeout(10);"
        "s.connect(sys.argv[1]); print(s.recv(1))"
    )
    done = subprocess.run(
        [*command, sys.executable, "-I", "-S", "-c", code, str(agent.socket)],
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout == b"b''\n"


def refusal_of(agent: Agent, *command: str) -> str:
    """Why a client started by this command was closed without a word, as the audit log tells."""
    with agent.connect() as listener:
        listener.hello()
        listener.call("events", {"audit": True})
        assert closed_without_a_word(agent, *command)
        while (body := listener.next_event()["body"])["event"] != "connection":
            pass
        return str(body["because"])


def test_a_process_in_another_user_namespace_is_refused(shared: Agent) -> None:
    """A container's root, mapped to our own uid, looks just like us (F6)."""
    unshare = need("unshare")
    probe = subprocess.run([unshare, "-Ur", "true"], capture_output=True, check=False)
    if probe.returncode != 0:
        pytest.skip("this kernel lets ordinary users make no user namespaces")
    assert "peer_namespace" in refusal_of(shared, unshare, "-Ur")


@pytest.mark.root
def test_another_uid_is_refused_even_where_the_socket_lets_it_in(shared: Agent) -> None:
    """Abuse case 2; OpenSSH's agent-getpeereid."""
    shared.path.chmod(0o755)
    shared.socket.chmod(0o666)
    as_nobody = (need("setpriv"), "--reuid=65534", "--clear-groups")
    try:
        assert "peer_uid: uid 65534" in refusal_of(shared, *as_nobody)
    finally:
        shared.socket.chmod(0o600)
        shared.path.chmod(0o700)


@pytest.mark.root
def test_root_is_refused_by_another_users_agent(tmp_path: Path) -> None:
    """CVE-2020-15257's shape: root is not the user."""
    tmp_path.chmod(0o755)
    home = Path(f"/tmp/sa-nobody-{os.getpid()}")
    home.mkdir(mode=0o700)
    os.chown(home, 65534, 65534)
    as_nobody = [need("setpriv"), "--reuid=65534", "--regid=65534", "--clear-groups"]
    agent = subprocess.Popen(
        [*as_nobody, sys.executable, "-m", "secret_agent", "--home", str(home), "--ready-fd", "1"],
        stdout=subprocess.PIPE,
        cwd="/",
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        assert agent.stdout is not None
        assert agent.stdout.read(3) == b"ok\n"
        with Peer(home / "agent.sock") as peer:
            assert peer.is_closed()
        agent.terminate()
        agent.wait(10)
        assert b"peer_uid: uid 0 is not the agent's" in (home / "audit.jsonl").read_bytes()
    finally:
        agent.kill()
        agent.wait(10)
        agent.communicate()
        subprocess.run(["rm", "-r", str(home)], check=True)


def test_a_connection_dies_with_the_process_that_made_it(shared: Agent) -> None:
    """Abuse case 3 (F2): a grandchild that holds the connection gets nothing through it."""
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        peer = Peer(shared.socket)
        peer.hello()
        if os.fork() == 0:
            ours.close()
            theirs.recv(1)
            os._exit(0 if peer.is_closed() else 1)
        os._exit(0)
    os.waitpid(child, 0)
    theirs.close()
    assert shared.call("status")["state"] == "unlocked"
    ours.send(b"x")
    ours.settimeout(20)
    assert ours.recv(1) == b""
    ours.close()


def test_exec_after_connect_is_seen(shared: Agent) -> None:
    """F4: same pid, same pidfd, another program."""
    shared.put("five/a")
    code = (
        "import os, socket, sys; sys.path[:0] = sys.argv[2:];"
        "from support.peer import Peer; p = Peer(sys.argv[1]); p.hello();"
        "p.call('get', {'name': 'five/a'});"
        "os.set_inheritable(p.socket.fileno(), True);"
        "os.dup2(p.socket.fileno(), 9);"
        "os.execv('/bin/sh', ['sh', '-c', 'cat <&0 >&9; cat <&9 >/dev/null & wait'])"
    )
    client = subprocess.Popen(
        [sys.executable, "-c", code, str(shared.socket), *sys.path], stdin=subprocess.PIPE
    )
    assert client.stdin is not None
    try:
        with shared.connect() as listener:
            listener.hello()
            listener.call("events", {"audit": True})
            client.stdin.write(encode({"id": 5, "verb": "get", "body": {"name": "five/a"}}))
            client.stdin.close()
            programs: list[str] = []
            while not programs or programs[-1].startswith("python"):
                body = listener.next_event()["body"]
                if body.get("secret") == "five/a" and body.get("action") == "read":
                    assert body["holder"]["pid"] == client.pid
                    programs.append(Path(body["holder"]["exe"]).name)
        assert programs[-1] in ("sh", "dash", "bash")
    finally:
        client.kill()
        client.wait()


def test_no_abstract_socket_of_ours_exists(shared: Agent) -> None:
    """Containerd's CVE-2020-15257: an abstract socket has no permissions."""
    names = [
        line.split()[7]
        for line in Path("/proc/net/unix").read_text().splitlines()[1:]
        if "@" in line
    ]
    assert not any("secret" in name or str(shared.path) in name for name in names)


def test_an_unknown_lease_and_anothers_read_alike(shared: Agent) -> None:
    """OpenBao GHSA-c36x-h252-g9x2: an id that leaked renewed and revoked."""
    shared.put("five/a")
    lease = shared.call("get", {"name": "five/a", "binding": "session"})["lease"]["id"]
    with shared.connect() as maker:
        maker.hello()
        listener = socket.socket(socket.AF_UNIX)
        path = shared.path / "scope.sock"
        listener.bind(str(path))
        listener.listen()
        maker.call("delegate", {"allow": ["five/*"]}, descriptors=(listener.fileno(),))
        listener.close()
        with Peer(path) as scoped:
            scoped.hello()
            theirs = scoped.refused("renew", {"lease": lease})
            unknown = scoped.refused("renew", {"lease": "l-0000000000000000"})
            assert theirs == unknown
            assert theirs["code"] == "not-found"
            assert scoped.call("leases")["leases"] == []
            assert scoped.call("release", {"leases": [lease]})["ended"] == []
            assert scoped.refused("revoke", {"leases": [lease]})["code"] == "invalid"
    assert lease in {each["id"] for each in shared.call("leases")["leases"]}
