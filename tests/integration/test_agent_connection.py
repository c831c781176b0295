"""What a connection is told at its beginning, at its limits, and where something goes wrong."""

import os
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trio

from secret_agent.broker import Caller
from secret_agent.server.connection import MAX_DESCRIPTORS, Connection
from secret_agent.server.limits import PER_PROCESS, SLOW_AT_ONCE
from secret_agent_client.version import PROTOCOL
from secret_agent_client.wire import Decoder, encode
from support.agent import PASSPHRASE, Agent
from support.peer import Peer


@contextmanager
def connected(agent: Agent) -> Iterator[Peer]:
    with agent.connect() as peer:
        peer.hello()
        yield peer


# The beginning


def test_nothing_is_answered_before_hello_and_the_connection_ends(shared: Agent) -> None:
    with shared.connect() as peer:
        error = peer.refused("status")
        assert (error["code"], error["message"]) == (
            "invalid",
            "the first request of a connection is hello",
        )
        assert peer.is_closed()


@pytest.mark.parametrize("version", [0, PROTOCOL + 1, 1000])
def test_another_protocol_says_how_the_agent_is_replaced(shared: Agent, version: int) -> None:
    with shared.connect() as peer:
        error = peer.refused("hello", {"version": version})
        assert (error["code"], error["try"]) == (
            "unavailable",
            "secret-agent stop && secret-agent start",
        )
        assert f"speaks protocol {PROTOCOL}" in error["message"]
        assert f"protocol {version}" in error["message"]
        assert peer.is_closed()


def test_hello_and_a_request_can_come_in_one_piece(shared: Agent) -> None:
    with shared.connect() as peer:
        first = peer.send("hello", {"version": PROTOCOL})
        second = peer.send("status")
        assert peer.reply(first)["ok"]["agent"]
        assert peer.reply(second)["ok"]["state"] == "unlocked"
        assert peer.refused("hello", {"version": PROTOCOL})["code"] == "invalid"
        assert peer.call("status")["pid"] == shared.pid, "a second hello is no harm"


# Limits


def test_of_slow_requests_a_few_wait_and_the_others_are_told(agent: Agent) -> None:
    with connected(agent) as asker, connected(agent) as waiting:
        asker.call("prompt-claim")
        requests = [waiting.send("prompt-claim") for _ in range(SLOW_AT_ONCE)]
        error = waiting.refused("prompt-claim")
        assert error["code"] == "unavailable"
        assert f"{SLOW_AT_ONCE} slow requests" in error["message"]
        assert waiting.call("status")["state"] == "new", "what is not slow goes past them"
        asker.call("unlock", {"passphrase": PASSPHRASE, "create": True})
        replies = [waiting.next_message() for _ in requests]
        assert {each["id"] for each in replies if each} == set(requests)
        assert all(each and each["ok"]["prompt"] is False for each in replies)
        assert waiting.call("prompt-claim")["prompt"] is False, "there is room again"


def test_a_process_has_so_many_connections_and_then_no_more(shared: Agent) -> None:
    with ExitStack() as stack:
        peers = [stack.enter_context(connected(shared)) for _ in range(PER_PROCESS)]
        peers[0].call("events", {"audit": True})
        with shared.connect() as one_more:
            one_more.send("hello", {"version": PROTOCOL})
            assert one_more.next_message() is None, "closed without a word"
        assert peers[-1].call("status")["state"] == "unlocked"
        while (record := peers[0].next_event()["body"])["event"] != "connection":
            pass
        assert record["because"] == f"the process has {PER_PROCESS} connections already"
        peers[0].close()
        peers[1].call("status")
    with connected(shared) as again:
        assert again.call("status")["state"] == "unlocked"


def test_descriptors_that_nobody_asked_for_are_closed(shared: Agent) -> None:
    reader, writer = os.pipe()
    with connected(shared) as peer:
        assert "ok" in peer.ask("status", descriptors=(writer,) * MAX_DESCRIPTORS)
        os.close(writer)
        assert os.read(reader, 1) == b"", "no copy of the writing end is left"
        assert peer.refused("delegate", {"allow": ["a"]})["code"] == "invalid"
    os.close(reader)


def test_who_hangs_up_before_the_reply_disturbs_nobody(shared: Agent) -> None:
    shared.call("set", {"name": "large/a", "fields": {"value": b"x" * 500_000}})
    for _ in range(5):
        peer = shared.connect()
        peer.hello()
        for _ in range(5):
            peer.send("get", {"name": "large/a"})
        peer.close()
    with connected(shared) as peer:
        assert len(peer.call("get", {"name": "large/a"})["fields"]["value"]) == 500_000


@pytest.mark.skipif(os.geteuid() == 0, reason="root's agent may look at every process")
def test_a_process_that_cannot_be_looked_at_is_not_served(shared: Agent) -> None:
    code = (
        "import ctypes, sys; sys.path[:0] = sys.argv[2:];"
        "ctypes.CDLL(None).prctl(4, 0, 0, 0, 0);"  # PR_SET_DUMPABLE
        "from support.peer import Peer; p = Peer(sys.argv[1]); p.send('hello', {'version': 1});"
        "print(p.next_message())"
    )
    with connected(shared) as listening:
        listening.call("events", {"audit": True})
        command = [sys.executable, "-c", code, str(shared.socket), *sys.path]
        done = subprocess.run(command, capture_output=True, check=True, text=True)
        assert done.stdout == "None\n"
        record = listening.next_event()["body"]
    assert (record["event"], record["outcome"]) == ("connection", "deny")
    assert "not dumpable" in record["because"]


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root sets the limits of the agent")
def test_without_descriptors_who_is_connected_is_served_and_the_others_once_there_are_some(
    unlocked: Agent,
) -> None:
    value = unlocked.put("one/a")
    before = resource.prlimit(unlocked.pid, resource.RLIMIT_NOFILE)
    with connected(unlocked) as peer:
        peer.call("get", {"name": "one/a"})
        open_now = len(list(Path(f"/proc/{unlocked.pid}/fd").iterdir()))
        for spare in range(8):  # from none at all to enough for half of what a connection takes
            limit = (open_now + spare, before[1])
            resource.prlimit(unlocked.pid, resource.RLIMIT_NOFILE, limit)
            with unlocked.connect() as late:
                with suppress(BrokenPipeError):  # where it was closed at once
                    late.send("hello", {"version": PROTOCOL})
                for verb in ("workdir", "register", "doctor", "audit-verify"):
                    reply = peer.ask(verb)
                    assert "ok" in reply or reply["error"]["code"] in ("unavailable", "internal")
                resource.prlimit(unlocked.pid, resource.RLIMIT_NOFILE, before)
                late.next_message()  # an answer, or the end where it was closed before
                assert peer.call("get", {"name": "one/a"})["fields"]["value"] == value
    with connected(unlocked) as again:
        assert again.call("get", {"name": "one/a"})["fields"]["value"] == value


# Inside


async def test_a_bug_is_reported_and_told_as_no_more_than_one() -> None:
    """What it was about stays inside; the connection goes on."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)  # the socket's own name for it
    reported: list[BaseException] = []

    async def status(_connection: Connection, _caller: Caller, _body: dict[str, Any]) -> Any:
        raise ZeroDivisionError("canary")

    class Somebody:
        def identify(self, *, scope: str | None) -> Any:
            return None

        open_pidfd = None

    connection = Connection(
        theirs,
        Somebody(),  # type: ignore[arg-type]  # who it is does not matter here
        {"status": status},
        scope=None,
        report_bug=reported.append,
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.run)
        with trio.socket.from_stdlib_socket(ours) as client:
            await client.send(
                encode({"id": 1, "verb": "hello", "body": {"version": PROTOCOL}})
                + encode({"id": 2, "verb": "status"})
                + encode({"id": 3, "verb": "status"})
            )
            decoder = Decoder()
            replies: list[dict[str, Any]] = []
            while len(replies) < 3:
                decoder.feed(await client.recv(65536))
                while (message := decoder.next()) is not None:
                    replies.append(message)
    errors = [each["error"] for each in replies[1:]]
    assert {(each["code"], each["message"]) for each in errors} == {
        ("internal", "status failed inside the agent")
    }
    assert [type(each) for each in reported] == [ZeroDivisionError] * 2
