"""The blocking connection against servers that behave, hang, dribble, lie and go away."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from secret_agent_client.connection import BATCH, Connection
from secret_agent_client.errors import (
    DeniedError,
    InvalidError,
    LockedError,
    NoAgentError,
    UnavailableError,
)
from secret_agent_client.wire import encode
from support.fake_agent import GREETING, Answer, Body, FakeAgent, Talk

SOON_S = 0.05  # deadline of a call that is meant to fail
NEVER_S = 20.0  # a call that takes this long has hung


def echo(_talk: Talk, body: Body) -> Answer:
    return dict(body)


def test_a_call_is_answered_and_hello_went_ahead(socket_path: Path) -> None:
    with (
        FakeAgent(socket_path, {"status": {"state": "locked"}}) as agent,
        Connection.connect() as c,
    ):
        assert c.call("status") == {"state": "locked"}
        assert (c.agent_version, c.scope) == ("0.1.0", None)
        assert c.features == ("parts", "events", "descriptors")
        assert agent.verbs() == ["hello", "status"]


def test_hello_and_the_first_request_travel_together(socket_path: Path) -> None:
    """A server that reads once before it answers has both."""
    with socket.socket(socket.AF_UNIX) as listener:
        os.fchmod(listener.fileno(), 0o600)
        listener.bind(str(socket_path))
        listener.listen()

        def answer() -> None:
            with listener.accept()[0] as talk:
                assert talk.recv(65536).count(b"verb") == 2
                talk.sendall(encode({"id": 0, "ok": GREETING}) + encode({"id": 1, "ok": {}}))
                talk.recv(1)

        thread = threading.Thread(target=answer)
        thread.start()
        with Connection.connect() as connection:
            assert connection.call("status") == {}
        thread.join(NEVER_S)


def test_an_error_is_raised_as_its_class_and_the_connection_goes_on(socket_path: Path) -> None:
    answers: dict[str, Answer] = {"get": LockedError("locked", remedy="unlock"), "status": {}}
    with FakeAgent(socket_path, answers), Connection.connect() as connection:
        with pytest.raises(LockedError) as raised:
            connection.call("get", {"name": "a"})
        assert raised.value.remedy == "unlock"
        assert connection.call("status") == {}


def test_many_calls_keep_their_order_and_their_errors(socket_path: Path) -> None:
    def odd_ones_are_denied(_talk: Talk, body: Body) -> Answer:
        return DeniedError("odd") if body["n"] % 2 else {"n": body["n"]}

    with FakeAgent(socket_path, {"x": odd_ones_are_denied}), Connection.connect() as connection:
        answers = connection.call_many([("x", {"n": n}) for n in range(3 * BATCH + 1)])
    assert [a["n"] for a in answers[::2] if isinstance(a, dict)] == list(range(0, 3 * BATCH + 1, 2))
    assert all(isinstance(answer, DeniedError) for answer in answers[1::2])


def test_a_large_value_travels_in_parts_both_ways(socket_path: Path) -> None:
    value = os.urandom(700 * 1024)
    with FakeAgent(socket_path, {"x": echo}), Connection.connect() as connection:
        assert connection.call("x", {"v": value}) == {"v": value}


def test_what_is_too_large_for_the_wire_is_said_and_harms_nothing(socket_path: Path) -> None:
    with FakeAgent(socket_path, {"x": echo}), Connection.connect() as connection:
        with pytest.raises(InvalidError, match="the most is"):
            connection.call("x", {"v": bytes(2 << 20)})
        assert connection.call("x", {"v": 1}) == {"v": 1}


def test_descriptors_travel_with_their_request_and_stay_open_here(
    socket_path: Path, tmp_path: Path
) -> None:
    (tmp_path / "f").write_text("content")
    with (
        FakeAgent(socket_path, {"export": {}}) as agent,
        Connection.connect() as connection,
        (tmp_path / "f").open() as file,
    ):
        connection.call("export", {}, descriptors=(file.fileno(),))
        (received,) = agent.descriptors
        assert os.pread(received, 100, 0) == b"content"
        assert os.fstat(file.fileno()).st_size == 7


def test_events_between_replies_are_kept(socket_path: Path) -> None:
    def subscribe(talk: Talk, _body: Body) -> Answer:
        talk.event("session-locked", {"why": "locked"})
        return {"subscribed": True}

    with FakeAgent(socket_path, {"events": subscribe}), Connection.connect() as connection:
        connection.call("events")
        event = connection.next_event(NEVER_S)
        assert event == {"event": "session-locked", "body": {"why": "locked"}}
        assert connection.next_event(0.0) is None
        assert connection.next_event(SOON_S) is None


def test_the_end_of_the_agent_ends_the_waiting_for_events(socket_path: Path) -> None:
    with FakeAgent(socket_path, {"bye": None}), Connection.connect() as connection:
        with pytest.raises(NoAgentError, match="closed the connection"):
            connection.call("bye")
        with pytest.raises(NoAgentError):
            connection.next_event(None)


def test_a_silent_agent_is_an_error_at_the_deadline(socket_path: Path) -> None:
    with FakeAgent(socket_path), Connection.connect() as connection:
        with pytest.raises(UnavailableError, match=r"did not answer within 0\.05 s") as raised:
            connection.call("status", deadline_s=SOON_S)
        assert raised.value.remedy == "secret-agent doctor"


def test_after_a_deadline_the_connection_is_closed(socket_path: Path) -> None:
    """A late reply must not be taken for the next one's."""
    with FakeAgent(socket_path), Connection.connect() as connection:
        with pytest.raises(UnavailableError):
            connection.call("status", deadline_s=SOON_S)
        assert connection.fileno() == -1
        with pytest.raises(NoAgentError):
            connection.call("status", deadline_s=SOON_S)


def test_an_agent_that_dribbles_does_not_stretch_the_deadline(socket_path: Path) -> None:
    enough = threading.Event()

    def dribble(talk: Talk, _body: Body) -> Answer:
        for byte in encode({"id": 1, "ok": {"x": "y" * 1000}}):
            talk.socket.sendall(bytes([byte]))
            if enough.wait(0.01):
                break
        return b""

    with FakeAgent(socket_path, {"status": dribble}), Connection.connect() as connection:
        begin = time.monotonic()
        with pytest.raises(UnavailableError, match="did not answer"):
            connection.call("status", deadline_s=0.1)
        took = time.monotonic() - begin
        enough.set()
    assert took < 2.0


def test_an_agent_that_reads_nothing_does_not_hold_a_sender(socket_path: Path) -> None:
    with (
        FakeAgent(socket_path, accepts=False),
        Connection.connect() as connection,
        pytest.raises(UnavailableError, match="did not take a request"),
    ):
        connection.call("set", {"v": bytes(1 << 20)}, deadline_s=SOON_S)


def fill(waiting: contextlib.ExitStack) -> None:
    """Dial until a backlog of nothing is full."""
    for _ in range(8):
        waiting.enter_context(Connection.connect(deadline_s=SOON_S))


def test_an_agent_that_lets_nobody_in_is_an_error_at_the_deadline(socket_path: Path) -> None:
    """A stopped agent's backlog fills up; connect() would then wait for ever."""
    with FakeAgent(socket_path, backlog=0, accepts=False):
        waiting = contextlib.ExitStack()
        with waiting, pytest.raises(UnavailableError, match="lets nobody in"):
            fill(waiting)


STOPPED = """
import os, socket, sys
s = socket.socket(socket.AF_UNIX); os.fchmod(s.fileno(), 0o600)
s.bind(sys.argv[1]); s.listen(); print("ready", flush=True); sys.stdin.read()
"""


def test_a_stopped_agent_is_named_with_the_command_that_continues_it(socket_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STOPPED, str(socket_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == b"ready\n"
        server.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, server.pid, os.WSTOPPED)
        try:
            with Connection.connect() as connection, pytest.raises(UnavailableError) as raised:
                connection.call("status", deadline_s=SOON_S)
            assert "is stopped" in raised.value.message
            assert raised.value.remedy == f"kill -CONT {server.pid}"
        finally:
            server.kill()


def test_what_an_agent_says_before_it_closes_is_heard(socket_path: Path) -> None:
    refusal: Body = {"id": None, "error": DeniedError("you may not").to_wire()}
    with socket.socket(socket.AF_UNIX) as listener:
        os.fchmod(listener.fileno(), 0o600)
        listener.bind(str(socket_path))
        listener.listen()
        connection = Connection.connect()
        talk, _ = listener.accept()
        talk.sendall(encode(refusal))
        talk.shutdown(socket.SHUT_RDWR)
        with talk, connection, pytest.raises(DeniedError, match="you may not"):
            connection.call("set", {"v": bytes(1 << 20)})


def test_garbage_closes_the_connection(socket_path: Path) -> None:
    with FakeAgent(socket_path, {"x": b"\xff" * 64}), Connection.connect() as connection:
        with pytest.raises(NoAgentError, match="no message"):
            connection.call("x")
        assert connection.fileno() == -1


def test_closing_twice_is_nothing(socket_path: Path) -> None:
    with FakeAgent(socket_path):
        connection = Connection.connect()
        connection.close()
        connection.close()


def test_a_connection_is_not_inherited_by_programs_that_are_run(socket_path: Path) -> None:
    with FakeAgent(socket_path), Connection.connect() as connection:
        assert not os.get_inheritable(connection.fileno())
