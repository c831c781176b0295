"""The key in the OS keyring, against a real gnome-keyring on a session bus of its own."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from keyring.backends.SecretService import Keyring

from secret_agent.keyring_key import SERVICE
from secret_agent.store import Store
from support.agent import PASSPHRASE, Agent, Home
from support.session_bus import SessionBus, session_bus

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def bus() -> Iterator[SessionBus]:
    with session_bus() as running, running.gnome_keyring(b"login password"):
        yield running


@contextmanager
def agent_on(bus: SessionBus) -> Iterator[Agent]:
    with Agent(env={"DBUS_SESSION_BUS_ADDRESS": bus.address}) as started:
        yield started


@pytest.fixture
def agent(bus: SessionBus) -> Iterator[Agent]:
    with agent_on(bus) as started:
        yield started


@pytest.fixture
def kept(bus: SessionBus, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The keyring as another program of the session sees it."""
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", bus.address)
    return Keyring()  # type: ignore[no-untyped-call]  # as the package has it


def entry(agent: Home, kept: Any) -> str:
    text = kept.get_password(SERVICE, str(agent.path / "store.db"))
    assert isinstance(text, str)
    return text


def unlock(agent: Home, *more: str) -> int:
    return agent.cli("unlock", "--keyring", *more).returncode


def test_a_new_store_is_made_with_the_keyring_and_opened_again_by_it(
    agent: Agent, kept: Any
) -> None:
    made = agent.cli("unlock", "--keyring", check=True)
    assert b"a new store is made" in made.stderr
    agent.plant(entry(agent, kept).encode())
    value = agent.put("one/a")
    for _ in range(2):
        agent.call("lock")
        assert agent.call("status")["state"] == "locked"
        reply = agent.call("unlock", {"keyring": True})
        assert (reply["created"], reply["how"], reply["state"]) == (False, "keyring", "unlocked")
        assert agent.cli("get", "one/a").stdout == value
    agent.stop()
    assert Store.slots(agent.path / "store.db") == {"keyring"}
    agent.start()
    assert unlock(agent) == 0
    assert agent.cli("get", "one/a").stdout == value


def test_a_passphrase_s_store_takes_the_keyring_in_only_after_an_unlock(
    agent: Agent, kept: Any
) -> None:
    agent.unlock()
    value = agent.put("one/a")
    agent.call("lock")
    refused = agent.cli("unlock", "--keyring")
    assert refused.returncode == 3
    assert b"unlock with the passphrase, and then once more" in refused.stderr
    agent.unlock()
    assert unlock(agent) == 0
    agent.plant(entry(agent, kept).encode())
    agent.call("lock")
    assert unlock(agent) == 0
    assert agent.cli("get", "one/a").stdout == value
    agent.call("lock")
    agent.unlock()
    assert agent.cli("get", "one/a").stdout == value


def test_taking_the_keyring_in_is_decided_recorded_and_prolongs_nothing(agent: Agent) -> None:
    """A program that may read now must not give itself a longer session by it."""
    locks_at = agent.unlock(lifetime_s=3600)["locks_at"]
    before = agent.call("status")["audit"]["records"]
    reply = agent.call("unlock", {"keyring": True, "lifetime_s": 36000})
    assert (reply["locks_at"], reply["state"]) == (locks_at, "unlocked")
    records = agent.call("audit-show", {"after": before})["records"]
    assert ("admin", "allow") in {(record["action"], record["outcome"]) for record in records}
    longer = agent.call("unlock", {"keyring": True, "lifetime_s": 36000})
    assert longer["locks_at"] > locks_at


def test_a_store_of_the_keyring_alone_can_be_given_a_passphrase(agent: Agent) -> None:
    assert unlock(agent) == 0
    with agent.connect() as peer:
        peer.hello()
        error = peer.refused("passwd", {"old": b"any", "new": PASSPHRASE})
        assert "has no passphrase yet" in error["message"]
        assert peer.refused("passwd", {"old": b"", "new": b""})["code"] == "invalid"
        assert peer.call("passwd", {"old": b"", "new": PASSPHRASE}) == {}
        assert peer.refused("passwd", {"old": b"any", "new": b"x"})["code"] == "denied"
        assert peer.refused("passwd", {"old": b"", "new": b"x"})["code"] == "invalid"
    agent.call("lock")
    assert agent.unlock()["how"] == "passphrase"


def test_the_key_of_a_store_that_was_put_aside_is_not_replaced(agent: Agent, kept: Any) -> None:
    """A new store in its place takes the same key, so that the old one can still be opened."""
    assert unlock(agent) == 0
    value = agent.put("one/a")
    agent.call("lock")
    first = entry(agent, kept)
    aside = agent.path / "aside"
    aside.mkdir(mode=0o700)
    for part in [*agent.path.glob("store.db*"), agent.path / "store.witness"]:
        shutil.move(part, aside)
    assert agent.call("unlock", {"keyring": True, "create": True})["created"]
    agent.call("lock")
    assert entry(agent, kept) == first
    for part in list(agent.path.glob("store.*")):
        part.unlink()
    for part in aside.iterdir():
        shutil.move(part, agent.path)
    assert unlock(agent) == 0
    assert agent.cli("get", "one/a").stdout == value


def test_another_key_is_denied_and_makes_the_next_try_wait(agent: Agent, kept: Any) -> None:
    assert unlock(agent) == 0
    agent.call("lock")
    store = str(agent.path / "store.db")
    kept.set_password(SERVICE, store, "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=")
    assert unlock(agent) == 4
    records = agent.call("audit-show", {})["records"]
    assert any(record.get("because") == "wrong keyring" for record in records)
    kept.set_password(SERVICE, store, "no key at all")
    done = agent.cli("unlock", "--keyring")
    assert done.returncode == 2
    assert b"is not a key of ours" in done.stderr
    assert b"no key at all" not in done.stderr


def test_a_locked_keyring_is_named_and_everything_else_is_served() -> None:
    with session_bus() as bus, bus.gnome_keyring(b"login password"), agent_on(bus) as agent:
        assert unlock(agent) == 0
        agent.call("lock")
        bus.lock_keyring()
        done = agent.cli("unlock", "--keyring")
        assert done.returncode == 7
        assert b"the OS keyring is locked" in done.stderr
        assert agent.call("status")["state"] == "locked"
