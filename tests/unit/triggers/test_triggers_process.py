"""Ends of processes are told once, soon, and never missed in silence."""

import os
import select
import signal
import time

import pytest
import trio
import trio.testing

from secret_agent.holder import open_pidfd
from secret_agent.model import ProcessKey
from secret_agent.triggers.process import MAX_EVENTS, ProcessWatcher, wait_gone
from secret_agent_client.errors import DeniedError, UnavailableError
from support.puppets import kill, no_descriptors_left, open_files
from support.sleepers import Ends, Sleeper, ignore, is_zombie, sleepers

DEADLINE_S = 20.0
SOON_S = 0.25  # from SIGKILL to the callback; milliseconds on an idle machine


@pytest.fixture
async def watcher(nursery: trio.Nursery) -> ProcessWatcher:
    made = ProcessWatcher()
    await nursery.start(made.run)
    return made


async def test_a_sigkill_is_told_within_milliseconds(watcher: ProcessWatcher) -> None:
    ends = Ends()
    with sleepers(1) as (sleeper,):
        watcher.watch(sleeper.key, ends)
        killed_at = time.perf_counter()
        sleeper.process.kill()
        await ends.until(1)
        assert time.perf_counter() - killed_at < SOON_S
    assert ends.keys == [sleeper.key]
    assert len(watcher) == 0


async def test_an_ordinary_exit_is_told_before_anybody_reaps_it(watcher: ProcessWatcher) -> None:
    ends = Ends()
    with sleepers(1) as (sleeper,):
        watcher.watch(sleeper.key, ends)
        sleeper.let_go()
        await ends.until(1)
        assert is_zombie(sleeper)


@pytest.mark.slow
async def test_hundreds_at_once_are_each_told_once(watcher: ProcessWatcher) -> None:
    """More than one batch of events."""
    ends = Ends()
    count = MAX_EVENTS + 20
    with sleepers(count) as started:
        for sleeper in started:
            watcher.watch(sleeper.key, ends)
        assert len(watcher) == count
        before = open_files()
        for sleeper in started:
            sleeper.process.kill()
        await ends.until(count)
        assert open_files() == before - count
    assert sorted(key.pid for key in ends.keys) == sorted(one.process.pid for one in started)
    assert len(set(ends.keys)) == count


async def test_a_living_process_is_not_told(watcher: ProcessWatcher) -> None:
    ends = Ends()
    with sleepers(2) as (dies, lives):
        watcher.watch(lives.key, ends)
        watcher.watch(dies.key, ends)
        dies.process.kill()
        await ends.until(1)
        await trio.testing.wait_all_tasks_blocked()
        assert ends.keys == [dies.key]
        assert watcher.is_alive(lives.key)


def test_a_process_that_is_gone_is_refused() -> None:
    watcher = ProcessWatcher()
    sleeper = Sleeper()
    sleeper.let_go()
    kill(sleeper.process)
    with pytest.raises(DeniedError, match=rf"^process {sleeper.process.pid} is gone$"):
        watcher.watch(sleeper.key, print)
    assert len(watcher) == 0
    watcher.close()


def test_a_later_process_of_the_same_pid_is_refused() -> None:
    watcher = ProcessWatcher()
    with sleepers(1) as (sleeper,), pytest.raises(DeniedError, match="gone"):
        watcher.watch(ProcessKey(sleeper.key.pid, sleeper.key.start_time - 1), print)
    watcher.close()


def test_without_descriptors_left_the_watch_is_refused_and_not_missed() -> None:
    watcher = ProcessWatcher()
    with sleepers(1) as (sleeper,):
        with no_descriptors_left(), pytest.raises(UnavailableError, match="no file descriptors"):
            watcher.watch(sleeper.key, print)
        assert len(watcher) == 0
        watcher.watch(sleeper.key, print)
        assert watcher.is_alive(sleeper.key)
    watcher.close()


def test_an_epoll_set_that_is_full_refuses_the_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    """fs.epoll.max_user_watches cannot be reached by a test, so the set plays full."""

    class Full:
        closed = False

        def register(self, *_: object) -> None:
            raise OSError(28, "")  # ENOSPC, epoll_ctl(2)

        def close(self) -> None:
            pass

    monkeypatch.setattr(select, "epoll", Full)
    watcher = ProcessWatcher()
    with sleepers(1) as (sleeper,):
        before = open_files()
        with pytest.raises(UnavailableError, match="max_user_watches"):
            watcher.watch(sleeper.key, print)
        assert open_files() == before
    watcher.close()


def test_a_process_watched_twice_takes_one_descriptor() -> None:
    watcher = ProcessWatcher()
    with sleepers(1) as (sleeper,):
        before = open_files()
        watcher.watch(sleeper.key, print)
        watcher.watch(sleeper.key, ignore)
        assert open_files() == before + 1
        watcher.unwatch(sleeper.key, print)
        assert watcher.is_alive(sleeper.key)
        watcher.unwatch(sleeper.key, ignore)
        assert not watcher.is_alive(sleeper.key)
        assert open_files() == before
    watcher.close()


async def test_registrations_are_counted_and_the_callback_called_once(
    watcher: ProcessWatcher,
) -> None:
    ends = Ends()
    with sleepers(1) as (sleeper,):
        for _ in range(4):
            watcher.watch(sleeper.key, ends)
        watcher.unwatch(sleeper.key, ends)
        watcher.unwatch(sleeper.key)
        assert len(watcher) == 1
        sleeper.process.kill()
        await ends.until(1)
        await trio.testing.wait_all_tasks_blocked()
        assert ends.keys == [sleeper.key]


async def test_each_callback_is_told(watcher: ProcessWatcher) -> None:
    first, second, gone = Ends(), Ends(), Ends()
    with sleepers(1) as (sleeper,):
        for ends in (first, gone, second):
            watcher.watch(sleeper.key, ends)
        watcher.unwatch(sleeper.key, gone)
        sleeper.process.kill()
        await first.until(1)
        await second.until(1)
        assert gone.keys == []


def test_to_unwatch_what_is_not_watched_does_nothing() -> None:
    watcher = ProcessWatcher()
    with sleepers(1) as (sleeper,):
        watcher.unwatch(sleeper.key)
        watcher.watch(sleeper.key, print)
        watcher.unwatch(sleeper.key, ignore)
        assert len(watcher) == 1
    watcher.close()


async def test_a_cancelled_watcher_closes_all_it_holds() -> None:
    with sleepers(3) as started:
        before = open_files()
        watcher = ProcessWatcher()
        async with trio.open_nursery() as nursery:
            await nursery.start(watcher.run)
            for sleeper in started:
                watcher.watch(sleeper.key, print)
            nursery.cancel_scope.cancel()
        assert open_files() == before
        assert len(watcher) == 0
        watcher.close()


async def test_a_callback_that_raises_ends_the_run() -> None:
    """A bug: the agent goes down with it rather than serve on without hearing of ends."""
    watcher = ProcessWatcher()

    def broken(_: ProcessKey) -> None:
        raise ZeroDivisionError

    with sleepers(1) as (sleeper,):
        watcher.watch(sleeper.key, broken)
        sleeper.process.kill()
        with trio.fail_after(DEADLINE_S), pytest.raises(ZeroDivisionError):
            await watcher.run()


async def test_wait_gone_returns_at_the_end_of_the_process() -> None:
    with sleepers(1) as (sleeper,):
        pidfd = open_pidfd(sleeper.key)
        with trio.move_on_after(0) as not_yet:
            await wait_gone(pidfd)
        assert not_yet.cancelled_caught
        sleeper.process.send_signal(signal.SIGTERM)
        with trio.fail_after(DEADLINE_S):
            await wait_gone(pidfd)
        os.close(pidfd)
