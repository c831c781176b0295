"""The rows and their tally, which change together or not at all.

Rules that hold here: every write runs inside `batch`, which seals a new tally in the same
transaction; what is in memory changes after the commit only, so that a write that failed has not
happened; the witness is told last. One lock makes callers take turns, also a caller whose deadline
passed and whose thread is still at work.
"""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from secret_agent.store import files
from secret_agent.store.header import Header, Slot, slots_digest
from secret_agent.store.keys import Keys
from secret_agent.store.rows import Row
from secret_agent.store.sqlite import Database
from secret_agent.store.tally import Tally, seal_tally, term_of
from secret_agent.store.witness import Sighting, Witness
from secret_agent_client.errors import LockedError, UnavailableError


@dataclass(slots=True)
class Opened:
    """What an unlocked store consists of."""

    database: Database
    header: Header
    keys: Keys
    tally: Tally
    sealed_tally: bytes
    slots: tuple[Slot, ...]
    witness: Witness | None
    lock: int | None  # the descriptor of the lock file


class Ledger:
    """Writes rows so that the tally always agrees."""

    def __init__(self, opened: Opened) -> None:
        self._opened: Opened | None = opened
        self._turn = threading.RLock()
        self._pending: Tally | None = None
        self._pending_slots: tuple[Slot, ...] = ()
        self._to_scrub = False
        self.witness_is_kept = opened.witness is not None

    @contextmanager
    def turn(self) -> Iterator[Opened]:
        """The store, for one caller at a time.  Raises LockedError after `close`."""
        with self._turn:
            if self._opened is None:
                raise LockedError("the store is locked", remedy="secret-agent unlock")
            yield self._opened

    @contextmanager
    def batch(self) -> Iterator[Opened]:
        """Make all writes inside one: durable together at its end, or none of them if it raises.

        Batches nest; the outermost one counts.
        """
        with self.turn() as opened:
            if self._pending is not None:
                yield opened
                return
            opened.database.begin()
            self._pending, self._pending_slots = opened.tally, opened.slots
            try:
                yield opened
                self._commit(opened)
            except BaseException:
                opened.database.rollback()
                raise
            finally:
                self._pending = None
                self._to_scrub, to_scrub = False, self._to_scrub
        if to_scrub:
            self._scrub()

    @property
    def tally(self) -> Tally:
        """The tally as it stands, with what the running batch has written so far."""
        with self.turn() as opened:
            return opened.tally if self._pending is None else self._pending

    def insert(self, row: Row) -> None:
        """Add a row."""
        with self.batch() as opened:
            opened.database.insert(row)
            self._pending = self._current().plus(self._term(row))

    def replace_meta(self, old: Row, new: Row) -> None:
        """Replace a row's metadata."""
        with self.batch() as opened:
            opened.database.set_meta(new)
            self._pending = self._current().minus(self._term(old)).plus(self._term(new))

    def delete(self, row: Row) -> None:
        """Remove a row for good; its place in the file is overwritten when the batch ends."""
        with self.batch() as opened:
            opened.database.delete(row.key)
            self._pending = self._current().minus(self._term(row))
            self._to_scrub = True

    def count_secrets(self, change: int) -> None:
        """Note that there are so many secrets more."""
        with self.batch():
            tally = self._current()
            self._pending = replace(tally, secrets=tally.secrets + change)

    def set_slots(self, slots: Iterable[Slot]) -> None:
        """Replace the key slots; the old ones are overwritten when the batch ends."""
        with self.batch() as opened:
            wanted = {slot.kind: slot for slot in slots}
            for old in self._pending_slots:
                if old.kind not in wanted:
                    opened.database.drop_part(old.kind)
            for slot in wanted.values():
                opened.database.set_part(slot.kind, slot.pack())
            self._pending_slots = tuple(wanted.values())
            self._pending = replace(self._current(), slots=slots_digest(wanted.values()))
            self._to_scrub = True

    def set_anchor(self, anchor: tuple[int, str]) -> None:
        """Seal the head of the audit log into the tally."""
        with self.batch():
            self._pending = replace(self._current(), anchor=anchor)

    def close(self) -> None:
        """Overwrite the keys, then close the files.  Afterwards every call raises LockedError."""
        with self._turn:
            opened, self._opened = self._opened, None
        if opened is not None:
            release(opened)

    def _current(self) -> Tally:
        assert self._pending is not None, "written outside of a batch"  # noqa: S101  # a bug of ours
        return self._pending

    def _term(self, row: Row) -> int:
        assert self._opened is not None, "written after close"  # noqa: S101  # a bug of ours
        return term_of(self._opened.keys.digest, row.key, row.mark)

    def _commit(self, opened: Opened) -> None:
        tally = self._current()
        if tally == opened.tally:  # nothing was written
            opened.database.rollback()
            return
        tally = replace(tally, generation=tally.generation + 1)
        sealed = seal_tally(opened.keys, opened.header.store_id, tally)
        opened.database.set_part("tally", sealed)
        opened.database.commit()
        opened.tally, opened.sealed_tally, opened.slots = tally, sealed, self._pending_slots
        self.witness_is_kept = save_sighting(opened)

    def _scrub(self) -> None:
        with self.turn() as opened:
            try:
                opened.database.scrub()
            except UnavailableError as error:
                raise UnavailableError(
                    "the change is made and durable, but what it replaced could not yet be"
                    f" overwritten in the file: {error.message}"
                ) from error


def save_sighting(opened: Opened, *, durable: bool = False) -> bool:
    """Tell the witness; whether it was kept.

    A witness that cannot be written must not turn a durable write into an error, and an older one
    is only weaker.
    """
    if opened.witness is None:
        return False
    tally = opened.tally
    sighting = Sighting.of(
        opened.header.store_id, tally.generation, opened.sealed_tally, tally.slots
    )
    try:
        opened.witness.save(sighting, durable=durable)
    except OSError:
        return False
    return True


def release(opened: Opened) -> None:
    """Overwrite the keys before anything that could hang on a disk; then close, the lock last."""
    opened.keys.forget()
    opened.database.close()
    if opened.witness is not None:
        opened.witness.close()
    files.unlock(opened.lock)
