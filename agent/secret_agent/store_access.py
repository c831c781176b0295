"""The embedded store as the agent uses it: one thread at a time, with deadlines, and a sealed
cache before it.

Rules: a value comes out of here as a SecretValue only; the store's keys exist exactly while the
session is unlocked, whoever is cancelled on the way; a lock that comes while the store is being
opened wins; what is written is on disk when the call returns, and what was given up before it began
is not written later; what was written is never served from an older cache entry.
"""

import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

import trio

from secret_agent.clock import Clock
from secret_agent.hardening import LockedPage
from secret_agent.session import locked_error
from secret_agent.threads import new_limiter, run_blocking
from secret_agent_client.errors import LockedError, SecretAgentError, UnavailableError
from secret_agent_client.value import SecretValue

if TYPE_CHECKING:  # importing the store costs its cryptography, which `start` need not wait for
    from secret_agent.sealed_memory import SealedCache
    from secret_agent.store.database import Store
    from secret_agent.store.records import SecretInfo, VersionInfo

T = TypeVar("T")

DEADLINE_S = 10.0  # for one read or write of a local file, waiting for one's turn included
OPEN_DEADLINE_S = 60.0  # key derivation and the check of every row of a large store

Opening = Literal["create", "create_with_key", "unlock", "unlock_with_key"]

Key = tuple[str, str, int]
"""(name, stage, version); version 0 is the newest."""

Place = tuple[str, str]
"""(name, stage)."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of one version of a secret, without its values."""

    name: str
    stage: str
    version: int
    type: str
    field_names: tuple[str, ...]
    expires_at: int | None


class StoreAccess:
    """The store behind its one door."""

    def __init__(self, path: Path, witness: Path, clock: Clock) -> None:
        self.path = path
        self._witness = witness
        self._clock = clock
        self._store: Store | None = None
        self.anchored: tuple[int, str] | None = None  # the audit head that the store last sealed
        self._cache: SealedCache[Key, Entry] | None = None
        self.locks = (
            0  # how often `forget` was called: tells an opening that a lock came in between
        )
        self._turn = trio.Lock()
        self._thread_turn = threading.Lock()  # holds even when a deadline left a thread behind
        self._closings: list[_Closing] = []  # what the next thread does first
        self._limiter = new_limiter(4)

    @property
    def exists(self) -> bool:
        """Whether something stands in the store's place; looked at without the store's imports."""
        return self.path.exists() or self.path.is_symlink()

    @property
    def is_open(self) -> bool:
        """Whether the store's keys are in memory."""
        return self._store is not None

    async def open(self, how: Opening, secret: bytes | bytearray, *, locks: int) -> None:
        """Open or make the store, proving it whole first; the session is not unlocked before.

        `locks`: what that was when the opening was asked for.  Raises DeniedError, InvalidError
        naming what was altered, UnavailableError; LockedError where a lock came since.
        """
        assert self._store is None, "a store is closed before another is opened"  # noqa: S101  # a bug
        store = await self._opened(how, secret)
        try:
            self._take_over(store, locks)
        except BaseException:
            await _shut(store)
            raise

    def _take_over(self, store: "Store", locks: int) -> None:
        from secret_agent.sealed_memory import KEY_SIZE, SealedCache

        self.check_not_locked_since(locks)
        self._cache = SealedCache(LockedPage(KEY_SIZE))
        self._store, self.anchored = store, store.anchored

    def check_not_locked_since(self, locks: int) -> None:
        """Raise LockedError where a lock came since `locks` was looked at."""
        if self.locks != locks:
            raise LockedError(
                "a lock came while the session was being unlocked", remedy="secret-agent unlock"
            )

    async def _opened(self, how: Opening, secret: bytes | bytearray) -> "Store":
        """An open store, which is closed again where nobody waits for it any more."""
        from secret_agent.store.database import Store

        opener: Callable[[], Store] = partial(
            getattr(Store, how),
            self.path,
            secret,
            clock_wall=self._clock.wall,
            witness=self._witness,
        )
        handover = _Handover()
        try:
            await self._call(lambda: handover.give(opener()), deadline_s=OPEN_DEADLINE_S)
        except BaseException:
            left = handover.leave()
            if left is not None:
                await _shut(left)
            raise
        return handover.take()

    async def close(self, anchor: tuple[int, str] | None) -> None:
        """Forget every value and key, after noting the audit head in the store.

        Its thread needs nobody's leave to begin, so that the keys go as soon as the store is free,
        also where the caller has stopped waiting.
        """
        store, self._store = self._store, None
        self.forget()
        if store is None:
            return

        closing = _Closing(store, anchor)
        self._closings.append(closing)

        def close() -> None:
            with self._in_turn():
                if closing.trouble is not None:
                    raise closing.trouble

        await run_blocking(close, deadline_s=DEADLINE_S, what="the store", limiter=new_limiter(1))

    @contextmanager
    def _in_turn(self) -> Iterator[None]:
        """A thread's turn at the store.  A lock gives its turns in no order, so whoever comes first
        closes what is to be closed: the next opening must not find the store in use.
        """
        with self._thread_turn:
            while self._closings:
                self._closings.pop(0).run()
            yield

    @property
    def trouble(self) -> str | None:
        """What is wrong with the open store that does not keep it from serving, or None."""
        if self._store is None or self._store.witness_is_kept:
            return None
        return "what was written last could not be remembered outside of the store"

    def forget(self) -> None:
        """Drop what is cached, at once and without waiting for the disk."""
        self.locks += 1
        if self._cache is not None:
            self._cache.wipe()
            self._cache = None

    async def entry(self, name: str, stage: str, version: int | None) -> Entry:
        """The version asked for, or the newest; its fields can be opened afterwards.  Raises
        NotFoundError.
        """
        key, cache = (name, stage, version or 0), self._cache
        cached = None if cache is None else cache.meta(key)
        if cached is not None:
            return cached
        record = await self.call(lambda store: store.get(name, stage, version))
        if cache is None or self._cache is not cache:
            raise locked_error("locked")
        entry = Entry(
            name, stage, record.version, record.type, tuple(record.fields), record.expires_at
        )
        cache.put(key, entry, record.fields)
        return entry

    def open_field(self, entry: Entry, version: int | None, field: str) -> SecretValue:
        """A field of an entry that was just asked for.  Raises KeyError when it is not cached any
        more.
        """
        if self._cache is None:
            raise locked_error("locked")
        return self._cache.open((entry.name, entry.stage, version or 0), field)

    async def write(
        self,
        name: str,
        stage: str,
        write: "Callable[[Store], T]",
        *,
        versions: tuple[int, ...] = (),  # noqa: ARG002  # every version is dropped, named or not
    ) -> T:
        """Change the versions of a secret; what was cached of it is forgotten, whatever becomes of
        the change.
        """
        return await self.change({(name, stage)}, write)

    async def change(
        self,
        places: Collection[Place],
        change: "Callable[[Store], T]",
        *,
        deadline_s: float = DEADLINE_S,
    ) -> T:
        """Change the versions of several secrets; the same holds for each of them."""
        try:
            return await self.call(change, deadline_s=deadline_s)
        finally:
            self._drop(places)

    async def call(self, use: "Callable[[Store], T]", *, deadline_s: float = DEADLINE_S) -> T:
        """What `use` returns of the open store, in a thread.  Raises LockedError."""
        store = self._store
        if store is None:
            raise locked_error("locked")

        def use_it() -> T:
            if self._store is not store:
                raise locked_error("locked")
            return use(store)

        return await self._call(use_it, deadline_s=deadline_s)

    async def infos(self) -> "list[SecretInfo]":
        return await self.call(lambda store: store.list())

    async def history(self, name: str, stage: str) -> "list[VersionInfo]":
        return await self.call(lambda store: store.history(name, stage))

    def _drop(self, places: Collection[Place]) -> None:
        if self._cache is not None:
            self._cache.drop_where(lambda key: key[:2] in places)

    async def _call(self, call: Callable[[], T], *, deadline_s: float) -> T:
        """What `call` returns.  Where nobody waits any more when its turn comes, it is not made: a
        write that was answered with an error must not happen later.
        """
        given_up: list[bool] = []

        def one_at_a_time() -> T:
            with self._in_turn():
                if given_up:
                    raise _too_slow(deadline_s)
                return call()

        with trio.move_on_after(deadline_s):
            try:
                async with self._turn:
                    return await run_blocking(
                        one_at_a_time,
                        deadline_s=deadline_s,
                        what="the store",
                        limiter=self._limiter,
                    )
            finally:
                given_up.append(True)
        raise _too_slow(deadline_s)


class _Closing:
    """A store that is to be closed, by whichever thread has the next turn."""

    def __init__(self, store: "Store", anchor: tuple[int, str] | None) -> None:
        self._store, self._anchor = store, anchor
        self.trouble: SecretAgentError | None = None  # what kept the audit head from being noted

    def run(self) -> None:
        try:
            if self._anchor is not None:
                self._store.anchor(*self._anchor)
        except SecretAgentError as error:
            self.trouble = error
        finally:
            self._store.close()


class _Handover:
    """Passes an opened store from a thread to the task that waits for it.

    Somebody owns it at every moment: a store that nobody owned would keep its keys and its lock.
    """

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._waits = True
        self._store: Store | None = None

    def give(self, store: "Store") -> None:
        """By the thread: the store goes over, or is closed where nobody waits any more."""
        with self._turn:
            if self._waits:
                self._store = store
                return
        store.close()

    def leave(self) -> "Store | None":
        """By the task: it waits no longer; the store that came all the same."""
        with self._turn:
            self._waits = False
            store, self._store = self._store, None
        return store

    def take(self) -> "Store":
        """By the task, after the thread has ended well."""
        store = self.leave()
        assert store is not None, "give comes first"  # noqa: S101  # a bug of ours
        return store


async def _shut(store: "Store") -> None:
    """Close a store that is not to be served, whatever else is being cancelled."""
    with trio.CancelScope(shield=True):
        await run_blocking(store.close, deadline_s=DEADLINE_S, what="the store")


def _too_slow(deadline_s: float) -> UnavailableError:
    return UnavailableError(f"the store did not answer within {deadline_s:g} s")
