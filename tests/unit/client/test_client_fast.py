"""The short path of `get`: what it prints, what it leaves to the long way, what it never does."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secret_agent_client.errors import LockedError, NotFoundError, UnavailableError
from secret_agent_client.exchange import Exchange
from secret_agent_client.fast import CLIENT, HELLO
from secret_agent_client.fast_status import document
from support.agent import SOURCES
from support.fake_agent import Answer, Body, FakeAgent, got

VALUE = bytes(range(256))


def get(*words: str, stdout: int = subprocess.PIPE) -> "subprocess.CompletedProcess[bytes]":
    return run("get", *words, stdout=stdout)


def run(*words: str, stdout: int = subprocess.PIPE) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [sys.executable, "-m", "secret_agent_client", *words],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": SOURCES, "CI": "true"},
        timeout=30,
        check=False,
    )


def test_its_hello_is_the_hello_of_the_exchange() -> None:
    assert Exchange(client=CLIENT).hello() == HELLO


def test_the_value_is_written_byte_for_byte(socket_path: Path) -> None:
    with FakeAgent(socket_path, {"get": got(password=VALUE)}) as agent:
        done = get("a/b")
    assert (done.returncode, done.stdout, done.stderr) == (0, VALUE, b"")
    body = {"name": "a/b", "binding": "shell", "channel": "stdout"}
    assert agent.heard[1:] == [("get", body)]


def test_a_newline_follows_on_a_terminal_only(socket_path: Path) -> None:
    leader, follower = pty.openpty()
    with FakeAgent(socket_path, {"get": got(password=b"v")}):
        assert get("a/b", stdout=follower).returncode == 0
    os.close(follower)
    assert os.read(leader, 100) == b"v\r\n"
    os.close(leader)


def test_all_of_a_reference_is_understood(socket_path: Path) -> None:
    with FakeAgent(socket_path, {"get": got(x=b"v")}) as agent:
        assert get("secret://a/b#x?version=2&stage=test").stdout == b"v"
    asked = agent.heard[1][1]
    assert (asked["field"], asked["version"], asked["stage"]) == ("x", 2, "test")


def test_a_value_in_parts_is_whole(socket_path: Path) -> None:
    value = os.urandom(500 * 1024)
    with FakeAgent(socket_path, {"get": got(password=value)}):
        assert get("a/b").stdout == value


def test_an_error_is_told_and_not_asked_for_again(socket_path: Path) -> None:
    refusal = NotFoundError("there is no secret a/b", remedy="secret-agent ls")
    with FakeAgent(socket_path, {"get": refusal}) as agent:
        done = get("a/b")
    assert done.returncode == 5
    assert done.stderr == b"secret-agent: there is no secret a/b\n  try: secret-agent ls\n"
    assert agent.verbs().count("get") == 1


def test_a_locked_session_is_left_to_the_long_way(socket_path: Path) -> None:
    answers: dict[str, Answer] = {"get": LockedError("locked", remedy="secret-agent unlock")}
    with FakeAgent(socket_path, answers):
        done = get("a/b")
    assert (done.returncode, done.stdout) == (3, b"")
    assert b"try: secret-agent unlock" in done.stderr


ELSEWHERE: dict[str, tuple[Sequence[str], int]] = {
    "no reference": ((), 2),
    "two references": (("a/b", "c/d"), 2),
    "an unknown option": (("--nonsense",), 2),
    "a name that cannot be one": (("Canary/B",), 2),
    "no agent": (("a/b",), 6),
}


@pytest.mark.parametrize(("words", "status"), ELSEWHERE.values(), ids=ELSEWHERE)
def test_everything_else_is_left_to_the_long_way(
    folder: Path, words: Sequence[str], status: int
) -> None:
    done = get(*words)
    assert (done.returncode, done.stdout) == (status, b"")
    assert done.stderr.startswith(b"secret-agent: ")
    assert b"Canary" not in done.stderr
    assert folder.is_dir()


def test_a_reader_that_goes_away_is_no_error_with_words(socket_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with FakeAgent(socket_path, {"get": got(password=b"v")}):
        done = get("a/b", stdout=writer)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_full_disk_is_said(socket_path: Path) -> None:
    with FakeAgent(socket_path, {"get": got(password=b"v")}), Path("/dev/full").open("wb") as full:
        done = get("a/b", stdout=full.fileno())
    assert done.returncode == 1
    assert done.stderr == b"secret-agent: stdout cannot be written: no space left on device\n"


STATUS: Body = {
    "version": "0.1.0",
    "pid": 7,
    "unlocked_at": None,
    "store": {"path": '/ü/"\\x\x1b', "secrets": 0},
    "providers": [{"name": "store", "mounts": ["**"], "empty": [], "none": {}}],
    "ok": True,
    "bad": False,
}


def test_a_status_is_the_document_of_the_long_way(socket_path: Path) -> None:
    with FakeAgent(socket_path, {"status": STATUS}):
        short = run("status", "--json")
        long = run("--json", "status")
    assert (short.returncode, short.stderr) == (0, b"")
    assert short.stdout == long.stdout
    assert json.loads(short.stdout) == STATUS


def test_a_status_that_fails_is_a_document_too(socket_path: Path) -> None:
    with FakeAgent(socket_path, {"status": UnavailableError("broken")}) as agent:
        done = run("status", "--json")
    assert done.returncode == 7
    assert json.loads(done.stdout)["error"]["message"] == "broken"
    assert agent.verbs().count("status") == 1


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**64) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_the_short_json_is_that_of_the_standard_library(value: object) -> None:
    assert document(value) == json.dumps(value, indent=2)


def test_what_a_status_never_holds_is_a_bug() -> None:
    with pytest.raises(TypeError, match="bytes is not in a status"):
        document({"x": b"canary"})


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-"])
def test_a_value_never_goes_to_the_socket_that_took_a_closed_stdouts_place(
    socket_path: Path, closed: str
) -> None:
    with FakeAgent(socket_path, {"get": got(password=b"canary-value")}) as agent:
        done = subprocess.run(
            ["sh", "-c", f'"$0" -m secret_agent_client get a/b {closed}', sys.executable],
            capture_output=True,
            env={**os.environ, "PYTHONPATH": SOURCES},
            timeout=30,
            check=False,
        )
    assert (done.returncode == 0) == (">&-" not in closed.replace("2>&-", ""))
    assert done.stdout == (b"canary-value" if done.returncode == 0 else b"")
    assert set(agent.verbs()) == {"hello", "get"}
