"""Opening the session: one attempt at a time, wrong ones ever slower, a keyring beside the rest."""

import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
import trio.testing

from secret_agent import unlock as module
from secret_agent.core import Agent
from secret_agent.session import FIRST_DELAY_S, MAX_DELAY_S
from secret_agent.unlock import change_passphrase
from secret_agent_client.errors import (
    DeniedError,
    InvalidError,
    LockedError,
    UnavailableError,
    UsageError,
)
from support.core_agent import SetClock, records, running, unlock

SHORT_S = 0.05


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[Agent]:
    async with running(tmp_path) as started:
        yield started


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> list[bytearray]:
    """A keyring: the keys that it gave out, and a new one made where it is asked for one."""
    given: list[bytearray] = []

    def make(_store: Path) -> bytearray:
        given.append(bytearray(b"k" * 32))
        return given[-1]

    def read(store: Path) -> bytearray | None:
        return make(store) if given else None

    monkeypatch.setattr(module, "read_or_make_key", make)
    monkeypatch.setattr(module, "read_key", read)
    return given


def clock_of(agent: Agent) -> SetClock:
    assert isinstance(agent.clock, SetClock)
    return agent.clock


async def test_nothing_to_open_with_is_a_misuse(agent: Agent) -> None:
    for passphrase in (b"", None):
        with pytest.raises(UsageError, match="at least one byte"):
            await unlock(agent, passphrase)  # type: ignore[arg-type]  # what a client may leave out


@pytest.mark.parametrize("keyring", [False, True])
async def test_a_store_is_made_only_where_that_was_asked_for(
    agent: Agent, kept: list[bytearray], *, keyring: bool
) -> None:
    with pytest.raises(LockedError, match="there is no store yet"):
        await unlock(agent, keyring=keyring, create=False)
    assert str(agent.session.state) == "new"
    assert not agent.store.exists
    assert kept == []
    assert await unlock(agent, keyring=keyring) == (True, "keyring" if keyring else "passphrase")
    assert agent.session.state == "unlocked"


async def test_wrong_ones_wait_ever_longer_and_a_right_one_ends_that(
    agent: Agent, mock_clock: trio.testing.MockClock
) -> None:
    await unlock(agent, b"right")
    await agent.lock("a test")
    delay = 0.0
    for expected in (FIRST_DELAY_S, 1.0, 2.0, 4.0, 8.0, MAX_DELAY_S, MAX_DELAY_S):
        begun = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_denied, agent)
            if delay:
                await trio.testing.wait_all_tasks_blocked()
                mock_clock.jump(delay)
        assert trio.current_time() - begun == pytest.approx(delay, abs=0.01)
        delay = agent.session.next_try_at - agent.clock.boot()
        assert delay == expected
    clock_of(agent).moved += delay
    await unlock(agent, b"right")
    assert (agent.session.failures, agent.session.next_try_at) == (0, 0.0)
    denied = [each for each in await records(agent) if each["outcome"] == "deny"]
    assert {(each["event"], each["because"]) for each in denied} == {
        ("session", "wrong passphrase")
    }
    assert all("holder" in each for each in denied)


async def _denied(agent: Agent) -> None:
    with pytest.raises(DeniedError):
        await unlock(agent, b"wrong")


async def test_a_wrong_one_while_it_is_open_is_denied_and_locks_nothing(agent: Agent) -> None:
    await unlock(agent, b"right")
    await _denied(agent)
    assert agent.session.state == "unlocked"
    assert agent.session.failures == 1


async def test_a_right_one_while_it_is_open_begins_its_lifetime_anew(agent: Agent) -> None:
    await unlock(agent, lifetime_s=100)
    clock_of(agent).moved += 60
    await unlock(agent, lifetime_s=100)
    assert agent.session.locks_at == agent.clock.boot() + 100


async def test_a_session_that_is_overdue_is_locked_before_it_is_opened_again(agent: Agent) -> None:
    """No timer has fired yet: what was granted before its end must end all the same."""
    await unlock(agent, lifetime_s=100)
    before = agent.store._store
    clock_of(agent).moved += 100
    await unlock(agent)
    assert agent.session.state == "unlocked"
    assert agent.store._store is not before
    assert any(each.get("because") == "lifetime over" for each in await records(agent))


async def test_the_next_one_waits_its_turn_and_opens_nothing_twice(agent: Agent) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(unlock, agent)
    made = [each for each in await records(agent) if each["action"] == "unlock"]
    assert len(made) == 5
    assert agent.store.is_open


async def test_a_keyring_that_hangs_answers_at_its_deadline_and_holds_nobody_up(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    monkeypatch.setattr(module, "read_or_make_key", lambda _store: go_on.wait())
    monkeypatch.setattr(module, "DEADLINE_S", SHORT_S)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            for _ in range(4):  # more than it has threads
                nursery.start_soon(_keyring_unavailable, agent)
            await trio.testing.wait_all_tasks_blocked()
            assert await unlock(agent) == (True, "passphrase")
    go_on.set()


async def _keyring_unavailable(agent: Agent) -> None:
    with pytest.raises(UnavailableError) as caught:
        await unlock(agent, keyring=True)
    assert caught.value.message == f"the OS keyring did not answer within {SHORT_S:g} s"


async def test_the_keyring_s_key_is_overwritten_when_it_was_used_or_not(
    agent: Agent, kept: list[bytearray]
) -> None:
    await unlock(agent, keyring=True)
    await unlock(agent, keyring=True)
    await agent.lock("a test")
    kept.append(bytearray())
    await unlock(agent, keyring=True)
    assert [each for each in kept if each.strip(b"\0")] == []


async def test_a_key_that_the_store_does_not_know_says_what_to_do(
    agent: Agent, kept: list[bytearray]
) -> None:
    await unlock(agent)
    await agent.lock("a test")
    with pytest.raises(LockedError, match="the keyring has no key of this store"):
        await unlock(agent, keyring=True)
    kept.append(bytearray())
    with pytest.raises(LockedError, match="the store does not know the keyring's key"):
        await unlock(agent, keyring=True)
    assert agent.session.failures == 0, "nothing was wrong, only missing"


async def test_where_policy_denies_it_no_key_is_entered(
    agent: Agent, kept: list[bytearray], tmp_path: Path
) -> None:
    await unlock(agent)
    policy = agent.places.policy
    policy.write_text(
        'version = 1\n[[rule]]\nid = "no"\neffect = "deny"\nsecrets = ["**"]\nactions = ["admin"]\n'
    )
    policy.chmod(0o600)
    with pytest.raises(DeniedError):
        await unlock(agent, keyring=True)
    assert agent.session.failures == 0
    assert await agent.store.call(lambda store: store.key_slots) == {"passphrase"}


async def test_a_new_passphrase_has_a_byte_and_needs_the_old_one(agent: Agent) -> None:
    await unlock(agent, b"old")
    with pytest.raises(InvalidError, match="at least one byte"):
        await change_passphrase(agent, b"old", b"")
    with pytest.raises(DeniedError):
        await change_passphrase(agent, b"wrong", b"new")
    assert agent.session.failures == 1
    clock_of(agent).moved += 60
    await change_passphrase(agent, b"old", b"new")
    await agent.lock("a test")
    assert await unlock(agent, b"new") == (False, "passphrase")


async def test_locked_no_passphrase_is_changed(agent: Agent) -> None:
    await unlock(agent)
    await agent.lock("a test")
    with pytest.raises(LockedError):
        await change_passphrase(agent, b"old", b"new")
