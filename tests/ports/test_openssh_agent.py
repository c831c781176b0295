"""OpenSSH's five regressions of its agent (regress/agent-*.sh), asked of ours.

Named after their files: getpeereid, timeout, ptrace, subprocess, restrict.  What each shows of
ssh-agent is said in its test; what is compared is the behaviour, not the program.
"""

import ctypes
import errno
import os
import select
import socket
import subprocess
import sys

import pytest

from support.agent import Agent, Home
from support.peer import Peer
from support.real import need

PTRACE_ATTACH = 16  # <linux/ptrace.h>


@pytest.mark.root
def test_agent_getpeereid_another_user_gets_nothing_from_an_open_socket(shared: Agent) -> None:
    """The socket is opened to all with chmod, and another user's `ssh-add -l` must fail."""
    shared.path.chmod(0o755)
    shared.socket.chmod(0o666)
    code = (
        "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]);"
        "print(s.recv(1))"
    )
    as_nobody = [need("setpriv"), "--reuid=65534", "--clear-groups"]
    try:
        done = subprocess.run(
            [*as_nobody, sys.executable, "-I", "-S", "-c", code, str(shared.socket)],
            capture_output=True,
            timeout=30,
            check=True,
        )
    finally:
        shared.socket.chmod(0o600)
        shared.path.chmod(0o700)
    assert done.stdout == b"b''\n"


def test_agent_timeout_what_was_given_for_a_time_is_over_after_it(shared: Agent) -> None:
    """A key is added for ten seconds, and after twenty the agent holds none."""
    shared.put("port/timeout")
    with shared.connect() as peer:
        peer.hello()
        peer.call("events")
        lease = peer.call("get", {"name": "port/timeout", "ttl_s": 1})["lease"]["id"]
        assert [each["id"] for each in peer.call("leases")["leases"]] == [lease]
        assert peer.next_event()["body"]["why"] == "expired"
        assert peer.call("leases")["leases"] == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may trace every process")
def test_agent_ptrace_its_own_user_cannot_attach_to_it(shared: Agent) -> None:
    """`gdb -p` by the agent's own user must say that it may not."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.ptrace(PTRACE_ATTACH, shared.pid, None, None) == -1
    assert ctypes.get_errno() == errno.EPERM
    for name in ("mem", "environ", "maps"):
        with pytest.raises(PermissionError), open(f"/proc/{shared.pid}/{name}", "rb") as file:  # noqa: PTH123  # of /proc
            file.read(1)


def test_agent_subprocess_it_ends_with_the_command_it_was_started_for(home: Home) -> None:
    """`ssh-agent CMD` must be gone once CMD is."""
    done = home.cli("start", "--", "sh", "-c", "echo $SECRET_AGENT_PID; exit 7")
    assert done.returncode == 7, done.stderr
    pid = int(done.stdout)
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    poll = select.poll()
    poll.register(pidfd)
    assert poll.poll(10_000)
    os.close(pidfd)


def test_agent_restrict_what_is_passed_on_can_do_what_it_says_and_no_more(shared: Agent) -> None:
    """A key restricted to a destination works there, in no cycle, for no other user or host."""
    allowed = shared.put("port/allowed")
    shared.put("port/other")
    listener = socket.socket(socket.AF_UNIX)
    path = shared.path / "restrict.sock"
    listener.bind(str(path))
    listener.listen()
    inner = socket.socket(socket.AF_UNIX)
    inner_path = shared.path / "inner.sock"
    inner.bind(str(inner_path))
    inner.listen()
    with shared.connect() as maker:
        maker.hello()
        maker.call("delegate", {"allow": ["port/allowed"]}, descriptors=(listener.fileno(),))
        with Peer(path) as hop:
            hop.hello()
            assert hop.call("get", {"name": "port/allowed"})["fields"]["value"] == allowed
            assert hop.refused("get", {"name": "port/other"})["code"] == "not-found"
            hop.call("delegate", {"allow": ["**"]}, descriptors=(inner.fileno(),))
        with Peer(inner_path) as second:
            second.hello()
            assert second.call("get", {"name": "port/allowed"})["fields"]["value"] == allowed
            assert second.refused("get", {"name": "port/other"})["code"] == "not-found"
            third = second.ask("delegate", {"allow": ["**"]}, descriptors=(inner.fileno(),))
            assert third["error"]["code"] == "denied"
    listener.close()
    inner.close()
