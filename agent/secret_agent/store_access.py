"""The embedded store as the agent uses it: one thread at a time, with deadlines, and a sealed
cache before it.

Rules: a value comes out of here as a SecretValue only; the store's keys exist exactly while the
session is unlocked; what is
written is on disk when the call returns; what was written is never served from an older cache
entry.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

import trio

from secret_agent.clock import Clock
from secret_agent.session import locked_error
from secret_agent.threads import new_limiter, run_blocking
from secret_agent_client.value import SecretValue

if TYPE_CHECKING:  # importing the store costs its cryptography, which `start` need not wait for
    from secret_agent.sealed_memory import SealedCache
    from secret_agent.store.database import Store
    from secret_agent.store.records import SecretInfo, VersionInfo

T = TypeVar("T")

DEADLINE_S = 10.0  # for one read or write of a local file
OPEN_DEADLINE_S = 60.0  # key derivation and the check of every row of a large store

Opening = Literal["create", "create_with_key", "unlock", "unlock_with_key"]

Key = tuple[str, str, int]
"""(name, stage, version); version 0 is the newest."""


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
        self._turn = trio.Lock()
        self._thread_turn = threading.Lock()  # holds even when a deadline left a thread behind
        self._limiter = new_limiter(4)

    @property
    def exists(self) -> bool:
        """Whether something stands in the store's place; looked at without the store's imports."""
        return self.path.exists() or self.path.is_symlink()

    async def open(self, how: Opening, secret: bytes | bytearray) -> None:
        """Open or make the store, proving it whole first; the session is not unlocked before.

        Raises DeniedError, InvalidError naming what was altered, UnavailableError.
        """
        from secret_agent.sealed_memory import SealedCache
        from secret_agent.store.database import Store

        opener = getattr(Store, how)
        opening = partial(
            opener, self.path, secret, clock_wall=self._clock.wall, witness=self._witness
        )
        store: Store = await self._call(opening, deadline_s=OPEN_DEADLINE_S, needs_store=False)
        self._store, self.anchored = store, store.anchored
        self._cache = SealedCache()

    async def close(self, anchor: tuple[int, str] | None) -> None:
        """Forget every value and key, after noting the audit head in the store."""
        store, self._store = self._store, None
        self.forget()
        if store is None:
            return

        def close() -> None:
            try:
                if anchor is not None:
                    store.anchor(*anchor)
            finally:
                store.close()

        await self._call(close, needs_store=False)

    @property
    def trouble(self) -> str | None:
        """What is wrong with the open store that does not keep it from serving, or None."""
        if self._store is None or self._store.witness_is_kept:
            return None
        return "what was written last could not be remembered outside of the store"

    def forget(self) -> None:
        """Drop what is cached, at once and without waiting for the disk."""
        if self._cache is not None:
            self._cache.wipe()
            self._cache = None

    async def entry(self, name: str, stage: str, version: int | None) -> Entry:
        """The version asked for, or the newest; its fields can be opened afterwards.  Raises
        NotFoundError.
        """
        key = (name, stage, version or 0)
        cached = None if self._cache is None else self._cache.meta(key)
        if cached is not None:
            return cached
        record = await self.call(lambda store: store.get(name, stage, version))
        entry = Entry(
            name, stage, record.version, record.type, tuple(record.fields), record.expires_at
        )
        if self._cache is None:
            raise locked_error("locked")
        self._cache.put(key, entry, dict(record.fields))
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
        versions: tuple[int, ...] = (),
    ) -> T:
        """Change the versions of a secret; what was cached of it is forgotten before and after."""
        self._drop(name, stage, versions)
        try:
            return await self.call(write)
        finally:
            self._drop(name, stage, versions)

    async def call(self, use: "Callable[[Store], T]", *, deadline_s: float = DEADLINE_S) -> T:
        """What `use` returns of the open store, in a thread.  Raises LockedError."""
        store = self._store
        if store is None:
            raise locked_error("locked")
        return await self._call(partial(use, store), deadline_s=deadline_s)

    async def infos(self) -> "list[SecretInfo]":
        return await self.call(lambda store: store.list())

    async def history(self, name: str, stage: str) -> "list[VersionInfo]":
        return await self.call(lambda store: store.history(name, stage))

    def _drop(self, name: str, stage: str, versions: tuple[int, ...]) -> None:
        if self._cache is not None:
            for version in (0, *versions):
                self._cache.drop((name, stage, version))

    async def _call(
        self, call: Callable[[], T], *, deadline_s: float = DEADLINE_S, needs_store: bool = True
    ) -> T:
        def one_at_a_time() -> T:
            with self._thread_turn:
                if needs_store and self._store is None:
                    raise locked_error("locked")
                return call()

        async with self._turn:
            return await run_blocking(
                one_at_a_time, deadline_s=deadline_s, what="the store", limiter=self._limiter
            )
