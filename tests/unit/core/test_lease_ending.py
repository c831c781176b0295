"""A lease ends once, is told once, and its process is watched exactly as long as it has one."""

from collections.abc import Callable
from typing import Any

import pytest

from secret_agent.holder import open_pidfd
from secret_agent.leases.ending import LeaseBook, Opener
from secret_agent.leases.table import Lease, LeaseTable, Why
from secret_agent.model import ProcessKey
from secret_agent_client.errors import DeniedError
from support.holders import holder

ONE, TWO = ProcessKey(100, 7), ProcessKey(200, 7)


class Watched:
    """A watcher whose processes end when the test says so."""

    def __init__(self) -> None:
        self.callbacks: dict[ProcessKey, Callable[[ProcessKey], None]] = {}
        self.openers: list[Opener] = []
        self.gone: set[ProcessKey] = set()

    def watch(
        self,
        key: ProcessKey,
        callback: Callable[[ProcessKey], None],
        *,
        opener: Opener = open_pidfd,
    ) -> None:
        if key in self.gone:
            raise DeniedError("the process is gone")
        assert key not in self.callbacks, "one watch a process"
        self.callbacks[key] = callback
        self.openers.append(opener)

    def unwatch(self, key: ProcessKey, callback: Callable[[ProcessKey], None]) -> None:
        assert self.callbacks.pop(key) == callback

    def end(self, key: ProcessKey) -> None:
        self.callbacks[key](key)


class Told:
    """What was announced; at each announcement the lease is out of the table already."""

    def __init__(self) -> None:
        self.ends: list[tuple[str, Why]] = []
        self.table = LeaseTable()

    def __call__(self, lease: Lease, why: Why) -> None:
        assert lease.ended == why
        assert lease.id not in {each.id for each in self.table}
        self.ends.append((lease.id, why))


@pytest.fixture
def watched() -> Watched:
    return Watched()


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def book(watched: Watched, told: Told) -> LeaseBook:
    return LeaseBook(told.table, watched, announce=told)


def lease(name: str = "a", bound: ProcessKey | None = ONE, **more: Any) -> Lease:
    values: dict[str, Any] = {
        "secret": name,
        "stage": "",
        "version": 1,
        "fields": ("f",),
        "holder": holder(),
        "binding": "process" if bound else "session",
        "bound": bound,
        "scope": None,
        "channel": "library",
        "rule": None,
        "issued": 0.0,
        "expires": 10.0,
        "most_until": 10.0,
    }
    return Lease(**(values | more))


def own_pidfd(_key: ProcessKey) -> int:
    return -1


def test_a_process_is_watched_from_its_first_lease_to_its_last(
    book: LeaseBook, watched: Watched
) -> None:
    first, second = lease("a"), lease("b")
    for each in (first, second, lease("c", None)):
        book.begin(each, opener=own_pidfd)
    assert watched.openers == [own_pidfd]
    assert book.end([first], "released") == [first.id]
    assert list(watched.callbacks) == [ONE]
    book.end([second], "released")
    assert watched.callbacks == {}


def test_a_lease_ends_and_is_told_once(book: LeaseBook, told: Told) -> None:
    each = lease()
    book.begin(each, opener=own_pidfd)
    assert book.end([each, each], "revoked") == [each.id]
    assert book.end([each], "expired") == []
    assert told.ends == [(each.id, "revoked")]


def test_a_process_that_is_gone_gets_no_lease(book: LeaseBook, watched: Watched) -> None:
    watched.gone.add(ONE)
    with pytest.raises(DeniedError):
        book.begin(lease(), opener=own_pidfd)
    assert len(book.table) == 0
    assert watched.callbacks == {}


def test_the_end_of_a_process_ends_its_leases_and_no_other_s(
    book: LeaseBook, watched: Watched, told: Told
) -> None:
    own = [lease("a"), lease("b", binding="shell")]
    other = lease("c", TWO)
    for each in (*own, other):
        book.begin(each, opener=own_pidfd)
    watched.end(ONE)
    assert told.ends == [(own[0].id, "process-gone"), (own[1].id, "shell-gone")]
    assert list(book.table) == [other]
    assert list(watched.callbacks) == [TWO]


def test_what_is_over_ends_as_expired(book: LeaseBook, told: Told) -> None:
    early, late = lease("a", expires=5.0), lease("b", expires=9.0)
    for each in (early, late):
        book.begin(each, opener=own_pidfd)
    assert book.expire(4.9) == []
    assert book.expire(5.0) == [early.id]
    assert book.expire(100.0) == [late.id]
    assert {why for _, why in told.ends} == {"expired"}


def test_an_announcement_may_end_others(book: LeaseBook, told: Told) -> None:
    """Telling a listener may close it, which may end what it held."""
    first, second = lease("a"), lease("b")
    for each in (first, second):
        book.begin(each, opener=own_pidfd)

    def announce(each: Lease, why: Why) -> None:
        told(each, why)
        book.end([first, second], "released")

    book._announce = announce
    book.end([first, second], "revoked")
    assert told.ends == [(first.id, "revoked"), (second.id, "released")]
