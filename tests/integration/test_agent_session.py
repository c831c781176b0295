"""A live agent's session over the wire: prompts, shells, events, and what a scope hears of it."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from support.agent import PASSPHRASE, Agent
from support.peer import Peer


@contextmanager
def connected(agent: Agent) -> Iterator[Peer]:
    with agent.connect() as peer:
        peer.hello()
        yield peer


@pytest.fixture
def peer(unlocked: Agent) -> Iterator[Peer]:
    with connected(unlocked) as own:
        yield own


@contextmanager
def scope(agent: Agent, **body: Any) -> Iterator[Peer]:
    """A connection through a scope that is made for it."""
    path = agent.path / "scope.sock"
    with connected(agent) as maker, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen()
        maker.call("delegate", {"allow": ["app/*"]} | body, descriptors=(listener.fileno(),))
        with Peer(path) as inside:
            inside.hello()
            yield inside


def register(peer: Peer) -> int:
    """Register this process as a shell, which a shell's own start-up hook does; its pid."""
    assert peer.call("register", {"pid": os.getpid()})["shell"]["pid"] == os.getpid()
    return os.getpid()


# Prompts


def test_one_asks_and_its_answer_is_everybody_s(agent: Agent) -> None:
    with connected(agent) as asker, connected(agent) as first, connected(agent) as second:
        assert asker.call("prompt-claim") == {"prompt": True, "state": "new"}
        waiting = [(each, each.send("prompt-claim")) for each in (first, second)]
        asker.call("unlock", {"passphrase": PASSPHRASE, "create": True})
        for each, request in waiting:
            assert each.reply(request)["ok"] == {"prompt": False, "state": "unlocked"}
        assert first.call("prompt-claim") == {"prompt": False, "state": "unlocked"}


@pytest.mark.parametrize("how", ["says no", "goes away"])
def test_a_no_or_nothing_is_everybody_s_too(agent: Agent, how: str) -> None:
    with connected(agent) as asker, connected(agent) as waiting:
        asker.call("prompt-claim")
        request = waiting.send("prompt-claim")
        for _ in range(2):
            waiting.call("status")  # goes past the claim, which waits by now
        if how == "says no":
            asker.call("prompt-dismiss")
        else:
            asker.close()
        error = waiting.reply(request)["error"]
        assert (error["code"], error["message"]) == ("locked", "the prompt was dismissed")
        assert waiting.call("prompt-claim")["prompt"] is True


def test_a_no_of_one_who_does_not_ask_means_nothing(agent: Agent) -> None:
    with connected(agent) as asker, connected(agent) as other:
        asker.call("prompt-claim")
        other.call("prompt-dismiss")
        assert asker.call("unlock", {"passphrase": PASSPHRASE, "create": True})["created"]


# Shells


def test_the_last_registered_shell_to_leave_locks_and_ends_its_leases(
    unlocked: Agent, peer: Peer
) -> None:
    unlocked.put("app/db")
    pid = register(peer)
    assert peer.call("register", {"pid": pid})["shells"] == 1
    peer.call("events")
    lease = peer.call("get", {"name": "app/db"})["lease"]["id"]
    (shown,) = peer.call("leases")["leases"]
    assert shown["bound_pid"] == pid
    assert peer.call("unregister", {"pid": pid}) == {"shells": 0}
    events = [peer.next_event() for _ in range(2)]
    assert events[0]["body"]["lease"] == lease
    assert events[1] == {"event": "session-locked", "body": {"why": "the last shell is gone"}}
    assert peer.call("unregister", {"pid": pid}) == {"shells": 0}


def test_a_process_that_is_not_above_cannot_be_registered(unlocked: Agent, peer: Peer) -> None:
    for pid in (unlocked.pid, 2**22 + 1):
        error = peer.refused("register", {"pid": pid})
        assert error["code"] == "denied"
        assert "neither the asking process nor above it" in error["message"]
        assert peer.refused("unregister", {"pid": pid})["code"] == "denied"
    assert peer.call("status")["shells"] == 0


@pytest.mark.parametrize("does", ["keep", "stop"])
def test_the_end_of_the_last_shell_does_what_is_configured(does: str) -> None:
    with Agent() as agent:
        agent.stop()
        folder = agent.path / "config"
        (folder / "config.toml").write_text(f'[session]\non_last_shell = "{does}"\n')
        (folder / "config.toml").chmod(0o600)
        agent.start()
        agent.unlock()
        with connected(agent) as peer:
            pid = register(peer)
            peer.call("unregister", {"pid": pid})
            if does == "keep":
                assert peer.call("status")["state"] == "unlocked"
                return
            assert peer.is_closed()
        assert agent.process is not None
        assert agent.process.wait(20) == 0


def test_an_agent_whose_log_cannot_be_written_can_still_be_stopped(unlocked: Agent) -> None:
    (unlocked.path / "audit.jsonl").rename(unlocked.path / "aside")
    (unlocked.path / "audit.new").mkdir()  # where the log would be begun anew
    with connected(unlocked) as peer:
        assert peer.refused("ls")["code"] == "unavailable"
        assert peer.call("stop") == {"ended": 0, "pending": 0}
        assert peer.is_closed()
    assert unlocked.process is not None
    unlocked.process.wait(20)
    unlocked.process = None
    assert not unlocked.socket.exists()


# Lifetimes and events


def test_an_unlock_tells_until_when_and_the_shorter_lifetime_holds(agent: Agent) -> None:
    assert agent.unlock()["locks_at"] is None
    longer = agent.call("unlock", {"passphrase": PASSPHRASE, "lifetime_s": 3600})
    shorter = agent.call("unlock", {"passphrase": PASSPHRASE, "lifetime_s": 60})
    assert shorter["locks_at"] < longer["locks_at"]
    assert agent.call("status")["locks_at"] == shorter["locks_at"]
    assert agent.unlock()["locks_at"] is None


def test_a_listener_hears_of_the_session_and_follows_the_log_where_it_asked(
    unlocked: Agent, peer: Peer
) -> None:
    with connected(unlocked) as plain:
        plain.call("events")
        peer.call("events")
        peer.call("events", {"audit": True})  # asking again adds to it
        unlocked.call("lock")
        unlocked.unlock()
        assert [plain.next_event()["event"] for _ in range(2)] == [
            "session-locked",
            "session-unlocked",
        ]
        plain.call("status")
        assert plain.events == []
        heard = [peer.next_event() for _ in range(5)]
    records = [each["body"]["action"] for each in heard if each["event"] == "audit"]
    assert sorted(records) == ["admin", "lock", "unlock"]


# What a scope hears


def test_through_a_scope_status_tells_of_the_scope_alone(unlocked: Agent) -> None:
    with scope(unlocked) as inside:
        shown = inside.call("status")
        assert set(shown) == {"version", "protocol", "pid", "state", "scope"}
        assert shown["scope"].startswith("s-")
        assert shown["state"] == "unlocked"
        assert inside.refused("events", {"audit": True})["code"] == "invalid"
        inside.call("events")
        assert inside.call("scopes") == {"scopes": []}
        unlocked.call("lock")
        assert inside.is_closed(), "a scope ends with the session"


def test_a_scope_of_one_stage_serves_that_stage(unlocked: Agent) -> None:
    for stage in ({}, {"stage": "prod"}):
        fields = {"value": str(stage).encode()}
        unlocked.call("set", {"name": "app/db", "fields": fields} | stage)
    with scope(unlocked, stage="prod") as inside:
        got = inside.call("get", {"name": "app/db"})
        assert (got["stage"], got["fields"]["value"]) == ("prod", b"{'stage': 'prod'}")
        assert got["reference"] == "secret://app/db?stage=prod"
        listed = inside.call("ls")["secrets"]
        assert [each["stage"] for each in listed] == ["prod"]
        assert inside.call("describe", {"name": "app/db"})["stages"] == ["prod"]
        assert inside.refused("get", {"name": "app/db", "stage": "dev"})["code"] == "not-found"


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"allow": []}, "at least one glob"),
        ({"ttl_s": 0}, "at least 1"),
        ({"max_uses": 0}, "at least 1"),
        ({"allow": ["App/*"]}, "glob"),
    ],
)
def test_a_scope_that_is_none_is_refused_and_its_socket_given_back(
    unlocked: Agent, peer: Peer, body: dict[str, Any], told: str
) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(unlocked.path / "scope.sock"))
        (unlocked.path / "scope.sock").chmod(0o600)
        listener.listen()
        asked = {"allow": ["app/*"]} | body
        error = peer.ask("delegate", asked, descriptors=(listener.fileno(),))["error"]
        assert error["code"] == "invalid"
        assert told in error["message"]
    assert peer.call("scopes") == {"scopes": []}
    with socket.socket(socket.AF_UNIX) as client, pytest.raises(ConnectionRefusedError):
        client.connect(str(unlocked.path / "scope.sock"))


# Policy, asked about others


def test_a_policy_is_explained_for_another_holder(peer: Peer) -> None:
    asked = {"name": "app/db", "as": ["uid=12345", "tty=none", "exe=/usr/bin/make"]}
    explained = peer.call("policy-explain", asked)
    assert explained["decision"]["effect"] == "deny"
    assert peer.call("policy-explain", {"name": "app/db"})["decision"]["effect"] == "allow"
    for wrong in ("uid", "uid=x", "uid=-1", "colour=red"):
        assert (
            peer.refused("policy-explain", {"name": "app/db", "as": [wrong]})["code"] == "invalid"
        )
    assert peer.refused("policy-explain", {"name": "app/db", "action": "eat"})["code"] == "invalid"
