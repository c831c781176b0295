"""Watching processes where their ends, callbacks and descriptors come together at once."""

import os

import pytest
import trio
import trio.testing

from secret_agent.holder import open_pidfd
from secret_agent.model import ProcessKey
from secret_agent.triggers.process import ProcessWatcher
from secret_agent_client.errors import DeniedError
from support.sleepers import Ends, kill_together, pidfd_at, sleepers


@pytest.fixture
async def watcher(nursery: trio.Nursery) -> ProcessWatcher:
    made = ProcessWatcher()
    await nursery.start(made.run)
    return made


async def test_an_unwatched_process_is_not_told(watcher: ProcessWatcher) -> None:
    ends, other = Ends(), Ends()
    with sleepers(2) as (unwatched, watched):
        watcher.watch(unwatched.key, ends)
        watcher.watch(watched.key, other)
        kill_together([unwatched])
        watcher.unwatch(unwatched.key, ends)  # ended, and not delivered yet
        watched.process.kill()
        await other.until(1)
        await trio.testing.wait_all_tasks_blocked()
        assert ends.keys == []


async def test_a_callback_may_unwatch_another_of_the_same_batch(watcher: ProcessWatcher) -> None:
    """Whichever comes first takes the other out: one of the two is told, and only one."""
    told: list[ProcessKey] = []
    with sleepers(2) as started:

        def first_takes_all(key: ProcessKey) -> None:
            told.append(key)
            for sleeper in started:
                watcher.unwatch(sleeper.key)

        for sleeper in started:
            watcher.watch(sleeper.key, first_takes_all)
        kill_together(started)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert len(told) == 1
    assert len(watcher) == 0


async def test_a_descriptor_used_again_within_a_batch_is_not_mistaken(
    watcher: ProcessWatcher,
) -> None:
    """The first callback closes the second one's pidfd, and a living process gets its number."""
    told: list[ProcessKey] = []
    never = Ends()
    with sleepers(3) as (first, second, lives):

        def replace(key: ProcessKey) -> None:
            told.append(key)
            other = second if key == first.key else first
            number = watcher._by_key[other.key].pidfd
            watcher.unwatch(other.key)
            watcher.watch(lives.key, never, opener=lambda key: pidfd_at(number, key))

        for sleeper in (first, second):
            watcher.watch(sleeper.key, replace)
        kill_together([first, second])
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert len(told) == 1
        assert never.keys == []
        assert watcher.is_alive(lives.key)
        lives.process.kill()
        await never.until(1)


async def test_a_callback_may_watch_again(watcher: ProcessWatcher) -> None:
    ends = Ends()
    with sleepers(2) as (dies, next_one):

        def move_on(_: ProcessKey) -> None:
            with pytest.raises(DeniedError):
                watcher.watch(dies.key, ends)
            watcher.watch(next_one.key, ends)

        watcher.watch(dies.key, move_on)
        dies.process.kill()
        await trio.testing.wait_all_tasks_blocked(0.01)
        next_one.process.kill()
        await ends.until(1)
        assert ends.keys == [next_one.key]


async def test_a_copied_pidfd_leaves_the_set_although_another_copy_lives(
    watcher: ProcessWatcher,
) -> None:
    """Closing removes a descriptor from an epoll set only with its last copy."""
    ends, other = Ends(), Ends()
    with sleepers(2) as (sleeper, marker):
        held = open_pidfd(sleeper.key)
        watcher.watch(sleeper.key, ends, opener=lambda _: os.dup(held))
        watcher.unwatch(sleeper.key, ends)
        watcher.watch(marker.key, other)
        kill_together([sleeper, marker])
        await other.until(1)
        await trio.testing.wait_all_tasks_blocked()
        assert ends.keys == []
        os.close(held)


async def test_what_ended_before_the_watcher_runs_is_told_once_it_does(
    nursery: trio.Nursery,
) -> None:
    watcher, ends = ProcessWatcher(), Ends()
    with sleepers(1) as (sleeper,):
        watcher.watch(sleeper.key, ends)
        kill_together([sleeper])
        assert not watcher.is_alive(sleeper.key)
        nursery.start_soon(watcher.run)
        await ends.until(1)
