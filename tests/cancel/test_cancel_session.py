"""Wherever opening or closing the session is given up, the store is open exactly when the session
is, nothing stays locked, and the next attempt succeeds.
"""

from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
import trio

from secret_agent import unlock as unlocking
from secret_agent.core import Agent
from secret_agent.store import Store
from secret_agent.unlock import change_passphrase
from secret_agent_client.errors import DeniedError, LockedError
from support.cancelling import Attempt, at_each_await
from support.core_agent import PASSPHRASE, get, put, running, settled, unlock

KEY = b"k" * 32


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[Agent]:
    async with running(tmp_path) as started:
        yield started


@pytest.fixture
def keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    """A keyring that holds a key."""
    for name in ("read_key", "read_or_make_key"):
        monkeypatch.setattr(unlocking, name, lambda _store: bytearray(KEY))


def _forget_keyring(store: Store) -> None:
    if "keyring" in store.key_slots:
        store.drop_key()


async def check_session(agent: Agent) -> None:
    await settled(agent)
    assert agent.store.is_open == (agent.session.state == "unlocked")
    assert not agent.unlocking.locked()


@pytest.mark.parametrize("how", ["passphrase", "keyring"])
async def test_a_new_store_is_made_or_not(agent: Agent, keyring: None, how: str) -> None:
    key, passphrase = how == "keyring", PASSPHRASE

    async def scenario(at: Attempt) -> None:
        await agent.lock("begin anew")
        for path in (agent.places.store, agent.places.witness):
            path.unlink(missing_ok=True)
        await at(lambda: unlock(agent, passphrase, keyring=key))
        await check_session(agent)
        await unlock(agent, passphrase, keyring=key)
        await put(agent, "one/a")
        assert (await get(agent, "one/a")).fields["value"].reveal() == b"value"

    assert await at_each_await(scenario) >= 2


@pytest.mark.parametrize("how", ["passphrase", "keyring"])
async def test_an_unlock_is_whole_or_nothing(agent: Agent, keyring: None, how: str) -> None:
    await unlock(agent, keyring=how == "keyring")

    async def scenario(at: Attempt) -> None:
        await agent.lock("begin anew")
        await at(lambda: unlock(agent, keyring=how == "keyring"))
        await check_session(agent)
        await unlock(agent, keyring=how == "keyring")
        assert agent.store.is_open

    assert await at_each_await(scenario) >= 2


async def test_taking_the_keyring_in_is_whole_or_nothing(agent: Agent, keyring: None) -> None:
    await unlock(agent)

    async def scenario(at: Attempt) -> None:
        await agent.store.call(_forget_keyring)
        await at(lambda: unlock(agent, keyring=True))
        await check_session(agent)
        assert agent.session.state == "unlocked"
        await agent.lock("to see what opens it")
        await unlock(agent)

    assert await at_each_await(scenario) >= 3


async def test_a_wrong_passphrase_that_is_given_up_opens_nothing(agent: Agent) -> None:
    await unlock(agent)

    async def wrong() -> None:
        with pytest.raises(DeniedError):
            await unlock(agent, b"wrong")

    async def scenario(at: Attempt) -> None:
        await agent.lock("begin anew")
        agent.session.next_try_at = 0.0
        await at(wrong)
        await check_session(agent)
        assert not agent.store.is_open

    assert await at_each_await(scenario) >= 2


async def test_after_a_change_of_passphrase_exactly_one_opens(agent: Agent) -> None:
    await unlock(agent, b"old")

    async def scenario(at: Attempt) -> None:
        await at(lambda: change_passphrase(agent, b"old", b"new"))
        await check_session(agent)
        await agent.lock("to see what opens it")
        opens = []
        for passphrase in (b"old", b"new"):
            agent.session.next_try_at = 0.0
            try:
                await unlock(agent, passphrase)
            except DeniedError:
                continue
            opens.append(passphrase)
            await agent.lock("to try the other one")
        assert len(opens) == 1
        agent.session.next_try_at = 0.0
        await unlock(agent, *opens)
        if opens == [b"new"]:
            await change_passphrase(agent, b"new", b"old")

    assert await at_each_await(scenario) >= 1


async def test_a_lock_is_done_though_nobody_waits_for_it(agent: Agent) -> None:
    async def scenario(at: Attempt) -> None:
        await unlock(agent)
        await put(agent, "one/a")
        await get(agent, "one/a")
        await at(lambda: agent.lock("a test"))
        assert agent.session.state == "locked"
        assert len(agent.book.table) == 0
        await check_session(agent)
        await unlock(agent)

    assert await at_each_await(scenario) >= 1


@pytest.mark.parametrize("begun", ["open", "prove", "enrol"])
async def test_a_lock_that_comes_while_the_session_is_being_opened_wins(
    agent: Agent, keyring: None, begun: str
) -> None:
    await unlock(agent)

    async def scenario(at: Attempt) -> None:
        if begun == "open":
            await agent.lock("begin anew")
        else:
            await unlock(agent)
        async with trio.open_nursery() as nursery:
            with suppress(LockedError):
                await at(
                    lambda: unlock(agent, keyring=begun == "enrol"),
                    instead=lambda: nursery.start_soon(agent.lock, "a lock in between"),
                )
        await check_session(agent)
        assert agent.session.state == ("locked" if at.reached else "unlocked")

    assert await at_each_await(scenario) >= 1
