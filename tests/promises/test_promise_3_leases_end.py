"""Promise 3: lock, expiry, revoke, the death of a process, shell or agent each end every lease
they should, at once.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from support.agent import Agent
from support.peer import Peer

AT_MOST_S = 1.0  # from the event to the end of its leases
HOLD = (
    "import sys; sys.path[:0] = sys.argv[2:];"
    "from support.peer import Peer; p = Peer(sys.argv[1]); p.hello();"
    "print(p.call('get', {'name': 'three/a', 'binding': %r})['lease']['id'], flush=True);"
    "sys.stdin.read()"
)


class Holding:
    """A process of its own that holds a lease until it is told to end."""

    def __init__(self, agent: Agent, binding: str = "process", *, under: str | None = None) -> None:
        code = HOLD % binding
        command = [sys.executable, "-c", code, str(agent.socket), *sys.path]
        if under is not None:
            command = [under, "-c", '"$@"; :', under, *command]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=agent.path, text=True
        )
        assert self.process.stdout is not None
        self.lease = self.process.stdout.readline().strip()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()
        self.process.kill()
        self.process.wait()


@pytest.fixture
def ends(shared: Agent) -> Iterator[Callable[[str], float]]:
    """Wait for the end of a lease as the audit log tells it; seconds that it took."""
    shared.put("three/a")
    listener = shared.connect()
    listener.hello()
    listener.call("events", {"audit": True})

    def wait(lease: str) -> float:
        begin = time.monotonic()
        while True:
            event = listener.next_event()
            body = event["body"]
            if event["event"] == "audit" and body.get("lease") == lease and body["action"] == "end":
                return time.monotonic() - begin

    yield wait
    listener.close()


def alive(agent: Agent) -> set[str]:
    return {lease["id"] for lease in agent.call("leases")["leases"]}


def test_sigkill_of_the_process_ends_its_lease(shared: Agent, ends: Callable[[str], float]) -> None:
    holding = Holding(shared)
    try:
        assert holding.lease in alive(shared)
        holding.kill()
        assert ends(holding.lease) < AT_MOST_S
        assert holding.lease not in alive(shared)
    finally:
        holding.close()


def test_sigkill_of_the_shell_ends_the_leases_bound_to_it(
    shared: Agent, ends: Callable[[str], float]
) -> None:
    holding = Holding(shared, "shell", under="/bin/sh")
    try:
        (shown,) = [each for each in shared.call("leases")["leases"] if each["id"] == holding.lease]
        assert shown["bound_pid"] == holding.process.pid
        assert shown["holder"]["pid"] != holding.process.pid
        holding.kill()
        assert ends(holding.lease) < AT_MOST_S
    finally:
        holding.close()


def test_a_lease_of_the_session_outlives_its_process(shared: Agent) -> None:
    holding = Holding(shared, "session")
    holding.close()
    assert holding.lease in alive(shared)


@pytest.mark.parametrize("how", ["id", "glob", "holder", "all"])
def test_revocation_by_each_criterion(shared: Agent, how: str) -> None:
    shared.put("three/a")
    with shared.connect() as peer:
        peer.hello()
        lease = peer.call("get", {"name": "three/a"})["lease"]["id"]
        bodies: dict[str, dict[str, Any]] = {
            "id": {"leases": [lease]},
            "glob": {"secret": "three/*"},
            "holder": {"holder": os.getpid()},
            "all": {"all": True},
        }
        peer.call("events")
        assert lease in peer.call("revoke", bodies[how])["ended"]
        event = peer.next_event()
        assert (event["event"], event["body"]["lease"]) == ("lease-ended", lease)
        assert event["body"]["why"] == "revoked"
        assert lease not in alive(shared)


def test_an_expired_lease_is_told_to_its_holder(shared: Agent) -> None:
    shared.put("three/a")
    with shared.connect() as peer:
        peer.hello()
        peer.call("events")
        lease = peer.call("get", {"name": "three/a", "ttl_s": 1})["lease"]
        assert lease["ttl_s"] == 1
        event = peer.next_event()
        assert event["body"] == {"lease": lease["id"], "secret": "three/a", "why": "expired"}
        error = peer.refused("renew", {"lease": lease["id"]})
        assert error["code"] == "not-found"


def test_locking_ends_a_thousand_leases_at_once_and_tells(unlocked: Agent) -> None:
    with unlocked.connect() as peer:
        peer.hello()
        fields = {f"f{number}": b"x" for number in range(50)}
        for number in range(20):
            peer.call("set", {"name": f"three/n{number}", "fields": fields})
        for number in range(1000):
            peer.call("get", {"name": f"three/n{number % 20}", "field": f"f{number // 20}"})
        peer.call("events")
        assert peer.call("status")["leases"]["active"] == 1000
        begin = time.monotonic()
        assert unlocked.call("lock")["ended"] == 1000
        ended = 0
        while (event := peer.next_event())["event"] != "session-locked":
            ended += event["body"]["why"] == "locked"
        assert ended == 1000
        assert time.monotonic() - begin < AT_MOST_S
        assert peer.refused("get", {"name": "three/n1"})["code"] == "locked"
        assert peer.refused("ls")["code"] == "locked"


def test_the_end_of_the_agent_is_told_and_closes(unlocked: Agent) -> None:
    unlocked.put("three/a")
    with unlocked.connect() as peer:
        peer.hello()
        peer.call("get", {"name": "three/a"})
        peer.call("events")
        unlocked.call("stop")
        told = []
        while (message := peer.next_message()) is not None:
            told.append((message["event"], message["body"].get("why")))
    assert ("lease-ended", "stopped") in told
    assert ("agent-stopping", None) in told
    assert unlocked.process is not None
    unlocked.process.wait(10)
    assert not unlocked.socket.exists()


def test_the_death_of_the_agent_closes_every_connection(unlocked: Agent) -> None:
    with unlocked.connect() as peer:
        peer.hello()
        unlocked.kill()
        assert peer.is_closed()


def test_sigterm_is_an_orderly_end(unlocked: Agent) -> None:
    unlocked.put("three/a")
    with unlocked.connect() as peer:
        peer.hello()
        peer.call("get", {"name": "three/a"})
        assert unlocked.stop() == 0
    text = (unlocked.path / "audit.jsonl").read_text()
    assert '"because":"stopped"' in text
    assert '"action":"stop"' in text.splitlines()[-1]


def test_the_last_registered_shell_to_go_locks(unlocked: Agent) -> None:
    register = [sys.executable, "-c", REGISTER, str(unlocked.socket), *sys.path]
    shell = subprocess.Popen(
        ["/bin/sh", "-c", '"$@"; read wait', "sh", *register],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert shell.stdout is not None
    assert shell.stdout.readline().strip() == str(shell.pid).encode()
    with unlocked.connect() as peer:
        peer.hello()
        peer.call("events")
        assert peer.call("status")["shells"] == 1
        shell.send_signal(signal.SIGKILL)
        assert peer.next_event() == {
            "event": "session-locked",
            "body": {"why": "the last shell is gone"},
        }
    assert shell.stdin is not None
    shell.stdin.close()
    shell.stdout.close()
    shell.wait()


REGISTER = (
    "import sys; sys.path[:0] = sys.argv[2:];"
    "from support.peer import Peer; p = Peer(sys.argv[1]); p.hello();"
    "print(p.call('register')['shell']['pid'], flush=True)"
)


def test_idleness_and_lifetime_lock_without_a_request() -> None:
    with Agent("--lifetime", "1") as agent:
        agent.unlock()
        with agent.connect() as peer:
            peer.hello()
            peer.call("events")
            assert peer.next_event()["body"]["why"] == "lifetime over"
            assert peer.call("status")["state"] == "locked"


def test_a_peer_hears_of_its_own_leases_only(shared: Agent) -> None:
    shared.put("three/a")
    holding = Holding(shared)
    try:
        with Peer(shared.socket) as peer:
            peer.hello()
            peer.call("events")
            peer.call("revoke", {"leases": [holding.lease]})
            own = peer.call("get", {"name": "three/a"})["lease"]["id"]
            peer.call("revoke", {"leases": [own]})
            assert peer.next_event()["body"]["lease"] == own
    finally:
        holding.close()
