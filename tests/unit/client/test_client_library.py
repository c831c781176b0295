"""The library for blocking programs: values that do not show, leases that are given back."""

from pathlib import Path
from typing import Any

import pytest

import secret_agent_client
from secret_agent_client import LockedError, NoAgentError, NotFoundError, SecretValue
from support.fake_agent import Answer, Body, FakeAgent, Talk, got


def test_a_value_comes_as_one_that_does_not_show_itself(socket_path: Path) -> None:
    with FakeAgent(socket_path, {"get": got(password=b"canary")}) as agent:
        with secret_agent_client.connect() as client:
            value = client.get("a/b#password?version=3&stage=test", ttl_s=5, reason="why")
        assert isinstance(value, SecretValue)
        assert "canary" not in repr(value)
        assert value.reveal() == b"canary"
        assert agent.heard[-1] == (
            "get",
            {
                "name": "a/b",
                "field": "password",
                "version": 3,
                "stage": "test",
                "ttl_s": 5,
                "reason": "why",
                "binding": "process",
                "channel": "library",
            },
        )


def test_a_lease_is_given_back_with_its_block_and_its_values_are_wiped(socket_path: Path) -> None:
    answers: dict[str, Any] = {"get": got(password=b"pw", username=b"me"), "release": {}}
    with FakeAgent(socket_path, answers) as agent, secret_agent_client.connect() as client:
        with client.lease("a/b") as lease:
            assert (lease.version, lease.ttl_s) == (3, 60)
            assert lease.value.reveal() == b"pw"
            held = lease.fields["username"]
            assert agent.heard[-1][1]["all"] is True
        assert agent.heard[-1] == ("release", {"leases": [lease.id]})
        assert len(held) == 0
        assert lease.fields == {}


def test_a_lease_of_one_field_is_that_field(socket_path: Path) -> None:
    answers: dict[str, Any] = {"get": got(url=b"u"), "release": {}}
    with FakeAgent(socket_path, answers) as agent, secret_agent_client.connect() as client:
        with client.lease("a/b#url") as lease:
            assert lease.value.reveal() == b"u"
        assert "all" not in agent.heard[1][1]


def test_a_lease_is_given_back_when_its_block_fails_and_the_failure_stands(
    socket_path: Path,
) -> None:
    answers: dict[str, Any] = {"get": got(password=b"pw"), "release": NotFoundError("over")}
    with FakeAgent(socket_path, answers) as agent, secret_agent_client.connect() as client:
        with pytest.raises(KeyError, match="mine"), client.lease("a/b"):
            raise KeyError("mine")
        assert agent.verbs()[-1] == "release"


def test_a_block_survives_an_agent_that_went_away(socket_path: Path) -> None:
    answers: dict[str, Any] = {"get": got(password=b"pw"), "release": None}
    with (
        FakeAgent(socket_path, answers),
        secret_agent_client.connect() as client,
        client.lease("a/b"),
    ):
        pass


def test_of_two_blocks_with_one_lease_the_last_gives_it_back(socket_path: Path) -> None:
    answers: dict[str, Any] = {"get": got(password=b"pw"), "release": {}}
    with FakeAgent(socket_path, answers) as agent, secret_agent_client.connect() as client:
        with client.lease("a/b"):
            with client.lease("a/b"):
                pass
            assert "release" not in agent.verbs()
        assert agent.verbs().count("release") == 1
        with client.lease("a/b"):
            client.get("a/b")
        assert agent.verbs().count("release") == 1, "what get() gave is still held"


def test_a_lease_does_not_show_its_values(socket_path: Path) -> None:
    answers: dict[str, Any] = {"get": got(password=b"canary"), "release": {}}
    with (
        FakeAgent(socket_path, answers),
        secret_agent_client.connect() as client,
        client.lease("a/b") as lease,
    ):
        assert "canary" not in repr(lease)


def test_renewing_takes_over_the_new_end(socket_path: Path) -> None:
    renewed = {"id": "l-1", "expires_at": "2030-01-02T00:00:00Z", "ttl_s": 90}
    answers: dict[str, Any] = {"get": got(password=b"p"), "renew": renewed, "release": {}}
    with FakeAgent(socket_path, answers) as agent, secret_agent_client.connect() as client:
        with client.lease("a/b") as lease:
            client.renew(lease)
            client.renew(lease, ttl_s=90)
            assert (lease.expires_at, lease.ttl_s) == ("2030-01-02T00:00:00Z", 90)
        renewals = [body for verb, body in agent.heard if verb == "renew"]
        assert renewals == [{"lease": lease.id}, {"lease": lease.id, "ttl_s": 90}]


def test_events_come_as_they_are_and_end_with_the_timeout(socket_path: Path) -> None:
    def subscribe(talk: Talk, _body: Body) -> Answer:
        talk.event("lease-ended", {"lease": "l-1", "why": "expired"})
        talk.event("session-locked", {"why": "locked"})
        return {"subscribed": True}

    with FakeAgent(socket_path, {"events": subscribe}), secret_agent_client.connect() as client:
        names = [event["event"] for event in client.events(timeout_s=0.05)]
    assert names == ["lease-ended", "session-locked"]


def test_a_locked_session_is_an_error_and_no_prompt(socket_path: Path) -> None:
    with FakeAgent(socket_path, {"get": LockedError("locked")}) as agent:
        with secret_agent_client.connect() as client, pytest.raises(LockedError):
            client.get("a/b")
        assert agent.verbs() == ["hello", "get"]


def test_a_path_may_be_given(folder: Path) -> None:
    with FakeAgent(folder / "other.sock", {"get": got(password=b"p")}):
        with secret_agent_client.connect(str(folder / "other.sock")) as client:
            assert client.get("a/b").reveal() == b"p"
        with pytest.raises(NoAgentError):
            secret_agent_client.connect()


def test_the_public_face_is_what_is_listed() -> None:
    for name in secret_agent_client.__all__:
        assert getattr(secret_agent_client, name) is not None
    assert dir(secret_agent_client) == sorted(secret_agent_client.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = secret_agent_client.nothing
