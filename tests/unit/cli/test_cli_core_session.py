"""One prompt where it is due, none where it is not, and everybody learns how it ended."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from secret_agent_client.cli import session
from secret_agent_client.cli.prompts import DismissedError
from secret_agent_client.cli.session import call_many_unlocked, call_unlocked
from secret_agent_client.connection import Connection
from secret_agent_client.errors import DeniedError, LockedError, NotFoundError
from support.fake_agent import Answer, Body, FakeAgent, Talk

ARGS = Namespace(no_input=False)
LOCKED = LockedError("the session is locked", remedy="secret-agent unlock")
RIGHT = b"right"


class Locked:
    """A locked agent with one passphrase."""

    def __init__(self, state: str = "locked", *, prompt: bool = True) -> None:
        self.state = state
        self.prompt = prompt

    def answers(self) -> dict[str, Any]:
        return {
            "status": lambda *_: {"state": self.state},
            "prompt-claim": self.claim,
            "prompt-dismiss": {},
            "unlock": self.unlock,
            "get": lambda *_: {"got": True} if self.state == "unlocked" else LOCKED,
            "set": lambda *_: {"set": True} if self.state == "unlocked" else LOCKED,
        }

    def claim(self, _talk: Talk, _body: Body) -> Answer:
        if not self.prompt:
            self.state = "unlocked"
        return {"prompt": self.prompt}

    def unlock(self, _talk: Talk, body: Body) -> Answer:
        if body["passphrase"] != RIGHT:
            return DeniedError("wrong")
        self.state = "unlocked"
        return {"created": body["create"], "state": "unlocked"}


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> list[bytes | BaseException]:
    """What the person types, prompt by prompt; an exception is what the prompt raises."""
    answers: list[bytes | BaseException] = []

    def read(_text: str, *, confirm: bool = False) -> bytearray:
        assert confirm in (True, False)
        answer = answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return bytearray(answer)

    monkeypatch.setattr(session, "may_prompt", lambda _args: True)
    monkeypatch.setattr(session, "read_passphrase", read)
    return answers


Typed = list[bytes | BaseException]


def test_an_open_session_asks_nothing(socket_path: Path, typed: Typed) -> None:
    with FakeAgent(socket_path, Locked("unlocked").answers()) as agent, Connection.connect() as c:
        assert call_unlocked(c, ARGS, "get", {"name": "a"}) == {"got": True}
        assert agent.verbs() == ["hello", "get"]
    assert typed == []


def test_a_locked_session_asks_once_and_asks_again_for_what_was_wanted(
    socket_path: Path, typed: Typed
) -> None:
    typed += [RIGHT]
    with FakeAgent(socket_path, Locked().answers()) as agent, Connection.connect() as c:
        assert call_unlocked(c, ARGS, "get", {"name": "a"}) == {"got": True}
        assert agent.verbs() == ["hello", "get", "status", "prompt-claim", "unlock", "get"]
        assert agent.heard[4][1] == {"passphrase": RIGHT, "create": False}


def test_a_wrong_passphrase_is_asked_for_again_three_times_at_most(
    socket_path: Path, typed: Typed
) -> None:
    typed += [b"no", b"no", RIGHT]
    with FakeAgent(socket_path, Locked().answers()), Connection.connect() as c:
        assert call_unlocked(c, ARGS, "get", {"name": "a"}) == {"got": True}
    typed += [b"no", b"no", b"no", RIGHT]
    socket_path.unlink()
    with FakeAgent(socket_path, Locked().answers()) as agent, Connection.connect() as c:
        with pytest.raises(DeniedError):
            call_unlocked(c, ARGS, "get", {"name": "a"})
        assert agent.verbs()[-1] == "prompt-dismiss"
    assert typed == [RIGHT]


@pytest.mark.parametrize("how", [DismissedError("empty"), KeyboardInterrupt()], ids=["empty", "^C"])
def test_a_prompt_that_is_dismissed_is_told_to_the_agent(
    socket_path: Path, typed: Typed, how: BaseException
) -> None:
    typed += [how]
    with FakeAgent(socket_path, Locked().answers()) as agent, Connection.connect() as c:
        with pytest.raises(type(how)):
            call_unlocked(c, ARGS, "get", {"name": "a"})
        assert agent.verbs()[-2:] == ["prompt-claim", "prompt-dismiss"]


def test_where_somebody_elses_prompt_succeeded_nobody_is_asked_here(
    socket_path: Path, typed: Typed
) -> None:
    with FakeAgent(socket_path, Locked(prompt=False).answers()) as agent, Connection.connect() as c:
        assert call_unlocked(c, ARGS, "get", {"name": "a"}) == {"got": True}
        assert "unlock" not in agent.verbs()
    assert typed == []


def test_where_nobody_may_be_asked_the_agents_own_error_goes_up(socket_path: Path) -> None:
    args = Namespace(no_input=True)
    with FakeAgent(socket_path, Locked().answers()) as agent, Connection.connect() as c:
        with pytest.raises(LockedError) as raised:
            call_unlocked(c, args, "get", {"name": "a"})
        assert raised.value.remedy == "secret-agent unlock"
        assert agent.verbs() == ["hello", "get"]


def test_a_store_is_made_for_a_command_that_writes_only(socket_path: Path, typed: Typed) -> None:
    with FakeAgent(socket_path, Locked("new").answers()) as agent, Connection.connect() as c:
        with pytest.raises(LockedError):
            call_unlocked(c, ARGS, "get", {"name": "a"})
        assert "prompt-claim" not in agent.verbs()
        typed += [RIGHT]
        assert call_unlocked(c, ARGS, "set", {"name": "a"}) == {"set": True}
        assert ("unlock", {"passphrase": RIGHT, "create": True}) in agent.heard


def test_of_many_those_that_were_locked_are_asked_again(socket_path: Path, typed: Typed) -> None:
    typed += [RIGHT]
    lock = Locked()
    answers = {**lock.answers(), "ls": NotFoundError("none")}
    requests: Sequence[tuple[str, Body | None]] = [("get", {"n": 1}), ("ls", None), ("get", {})]
    with FakeAgent(socket_path, answers) as agent, Connection.connect() as c:
        first, second, third = call_many_unlocked(c, ARGS, requests)
        assert (first, third) == ({"got": True}, {"got": True})
        assert isinstance(second, NotFoundError)
        assert agent.verbs().count("prompt-claim") == 1
        assert agent.verbs().count("ls") == 1
