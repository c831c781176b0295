"""The embedded store: versions of secrets, sealed in one file.  What the rest of the agent calls.

    store = Store.unlock(path, passphrase, clock_wall=clock.wall, witness=state / "store.witness")
    store.put("payments/db", "", {"password": b"…"}, type="login", by="cli", merge=True)
    store.get("payments/db", "").fields["password"].reveal()
    store.close()

Rules that hold here: a write is durable when it returns, or it raised and did not happen; an item
whose seal does not fit is refused by name while the others are served; after `close` no key is left
and every call raises LockedError.  All of it blocks: call it from a worker thread.  It knows
nothing of holders, policy, leases or the wire.
"""

from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Self

from secret_agent.store import making, opening, reading, writing
from secret_agent.store.checks import (
    check_place,
    check_texts,
    check_times,
    check_values,
)
from secret_agent.store.diagnosis import Examiner, label
from secret_agent.store.header import Kind
from secret_agent.store.ledger import Ledger, Opened
from secret_agent.store.listing import summary, version_info
from secret_agent.store.records import Record, SecretInfo, VersionInfo
from secret_agent.store.rows import Meta
from secret_agent.store.seal import Buffer
from secret_agent_client.errors import NotFoundError

Infos = list[SecretInfo]
Place = tuple[str, str]
"""Name and stage."""

Versions = list[int]
History = list[VersionInfo]
ClockWall = Callable[[], float]


class Store:
    """One unlocked store."""

    def __init__(self, opened: Opened, clock_wall: ClockWall) -> None:
        self._ledger = Ledger(opened)
        self._clock_wall = clock_wall
        self.store_id = opened.header.store_id.hex()

    # making and opening

    @staticmethod
    def exists(path: Path) -> bool:
        """Whether something stands in the store's place."""
        return path.exists() or path.is_symlink()

    @staticmethod
    def slots(path: Path) -> frozenset[Kind]:
        """What a locked store can be unlocked with: "passphrase", "keyring" or both."""
        return opening.slots_of(path)

    @classmethod
    def create(
        cls,
        path: Path,
        passphrase: Buffer,
        *,
        clock_wall: ClockWall,
        witness: Path | None = None,
    ) -> Self:
        """Make a store that a passphrase opens.  Raises InvalidError where there is one already."""
        place = opening.Place(path, witness)
        created_at = int(clock_wall())
        return cls(
            making.create(place, "passphrase", passphrase, created_at=created_at), clock_wall
        )

    @classmethod
    def create_with_key(
        cls, path: Path, key: Buffer, *, clock_wall: ClockWall, witness: Path | None = None
    ) -> Self:
        """Make a store that a key of 32 bytes opens, which the OS keyring keeps."""
        place = opening.Place(path, witness)
        return cls(making.create(place, "keyring", key, created_at=int(clock_wall())), clock_wall)

    @classmethod
    def unlock(
        cls,
        path: Path,
        passphrase: Buffer,
        *,
        clock_wall: ClockWall,
        witness: Path | None = None,
    ) -> Self:
        """Open a store and prove it whole.

        Raises DeniedError (wrong passphrase), InvalidError (naming what was altered), NotFoundError
        (no store), UnavailableError (in use by another agent, or its disk refuses).
        """
        place = opening.Place(path, witness)
        return cls(opening.unlock(place, "passphrase", passphrase), clock_wall)

    @classmethod
    def unlock_with_key(
        cls, path: Path, key: Buffer, *, clock_wall: ClockWall, witness: Path | None = None
    ) -> Self:
        """Open a store with the key that the OS keyring keeps.  Raises as `unlock` does."""
        return cls(opening.unlock(opening.Place(path, witness), "keyring", key), clock_wall)

    def close(self) -> None:
        """Overwrite every key and close the file."""
        self._ledger.close()

    # writing

    def batch(self) -> AbstractContextManager[object]:
        """Make all writes inside it one: durable together at its end, or none if it raises."""
        return self._ledger.batch()

    def put(  # noqa: PLR0913  # what a version consists of; all but three by keyword
        self,
        name: str,
        stage: str,
        fields: Mapping[str, bytes],
        *,
        type: str,  # noqa: A002  # the record's own word
        by: str,
        note: str | None = None,
        expires_at: int | None = None,
        rotate_due: int | None = None,
        merge: bool = False,
        create_only: bool = False,
    ) -> VersionInfo:
        """Write a new version.

        With `merge` the fields go over those of the newest version, and a note of None keeps its
        note; without it they are all there is.  Raises InvalidError for what may not be stored, and
        with `create_only` for a secret that is there.
        """
        check_place(name, stage)
        check_texts(type=type, by=by, note=note)
        check_times(expires_at=expires_at, rotate_due=rotate_due)
        values = check_values(fields)
        now, names = int(self._clock_wall()), tuple(values)
        meta = Meta(name, stage, type, by, note, now, expires_at, rotate_due, names)
        with self._ledger.batch() as opened:
            return writing.put(
                self._ledger, opened, meta, values, merge=merge, create_only=create_only
            )

    def remove(self, name: str, stage: str, version: int | None = None, *, purge: bool) -> Versions:
        """Delete one version, or all of them; their numbers.

        Without `purge` they can be restored.  Raises NotFoundError where there is none to delete.
        """
        check_place(name, stage)
        remove = writing.purge if purge else writing.bury
        with self._ledger.batch() as opened:
            removed = remove(self._ledger, opened, name, stage, version)
            if not removed:
                raise _missing(name, stage, version)
        return removed

    def restore(self, name: str, stage: str, version: int, *, by: str = "") -> VersionInfo:
        """Write an old version's content, deleted or not, as a new version.  Raises NotFoundError.

        Without `by` the author stays the one of the old version.
        """
        check_place(name, stage)
        with self._ledger.batch() as opened:
            row = reading.row(opened, name, stage, version)
            if row is None:
                raise _missing(name, stage, version)
            return writing.restore(self._ledger, opened, row, by=by, now=int(self._clock_wall()))

    # reading

    def get(self, name: str, stage: str, version: int | None = None) -> Record:
        """A version with its values; the newest that is not deleted, unless one is named.

        Raises NotFoundError, and InvalidError naming the item where it was altered.
        """
        check_place(name, stage)
        with self._ledger.turn() as opened:
            if version is None:
                row = reading.newest_live(opened, name, stage)
            else:
                row = reading.row(opened, name, stage, version)
            if row is None:
                raise _missing(name, stage, version)
            if reading.meta(opened, row).deleted:
                raise NotFoundError(
                    f"version {version} of {label(name, stage)} was deleted",
                    remedy=f"secret-agent restore {name} --version {version}",
                )
            return reading.record(opened, row)

    def list(self) -> Infos:
        """Every secret in every stage, by name, without what was altered: `damage` names that."""
        with self._ledger.turn() as opened:
            found = (summary(group) for group in reading.groups(opened))
            infos = [info for info in found if info is not None]
        return sorted(infos, key=lambda info: (info.name, info.stage))

    def describe(self, name: str, stage: str) -> SecretInfo:
        """One secret in one stage.

        Raises NotFoundError where it is not, or all its versions are deleted.
        """
        check_place(name, stage)
        with self._ledger.turn() as opened:
            found = summary(reading.versions(opened, name, stage))
        if found is None:
            raise _missing(name, stage, None)
        return found

    def history(self, name: str, stage: str) -> History:
        """All versions, newest first, the deleted ones too.

        Raises NotFoundError where there is none.
        """
        check_place(name, stage)
        with self._ledger.turn() as opened:
            found = reading.versions(opened, name, stage)
        if not found:
            raise _missing(name, stage, None)
        return [version_info(version, meta) for version, meta in reversed(found)]

    def stages(self, name: str) -> Infos:
        """One entry for each stage in which a name has a version that is not deleted."""
        check_place(name, "")
        with self._ledger.turn() as opened:
            found = (summary(group) for group in reading.groups_of(opened, name))
            infos = [info for info in found if info is not None]
        return sorted(infos, key=lambda info: info.stage)

    def records(self, only: Container[Place] | None = None) -> Iterator[Record]:
        """Every version that is not deleted, a secret's oldest first, a few in memory at a time.

        `only`: the (name, stage) pairs to which to keep; None is all of them.

        Raises InvalidError at the first that was altered: a copy with holes would pass for a whole
        one.
        """
        key: bytes | None = b""
        while key is not None:
            with self._ledger.turn() as opened:
                found, key = reading.page(opened, key, only)
            yield from found

    def count(self) -> int:
        """How many secrets there are, each stage of a name counted."""
        return self._ledger.tally.secrets

    def damage(self) -> tuple[str, ...]:
        """Open every row; one sentence for each of the first that do not open.

        Takes time: for `doctor`.
        """
        with self._ledger.turn() as opened:
            return Examiner(opened.database, opened.keys, opened.header.store_id).damage()

    # keys

    def prove_passphrase(self, passphrase: Buffer) -> None:
        """Raise DeniedError unless this passphrase opens the store."""
        with self._ledger.turn() as opened:
            writing.prove_passphrase(opened, passphrase)

    def change_passphrase(self, old: Buffer, new: Buffer) -> None:
        """Wrap the data key anew; no secret is touched.

        Raises DeniedError for a wrong old passphrase.
        """
        with self._ledger.turn() as opened:
            writing.prove_passphrase(opened, old)
            writing.set_slot(self._ledger, opened, "passphrase", new)

    def enrol_passphrase(self, passphrase: Buffer) -> None:
        """Let a passphrase open a store that only a keyring's key opens."""
        with self._ledger.turn() as opened:
            writing.refuse_existing(opened, "passphrase")
            writing.set_slot(self._ledger, opened, "passphrase", passphrase)

    def enrol_key(self, key: Buffer) -> None:
        """Let a key of 32 bytes, kept by the OS keyring, open the store too, and no earlier one."""
        with self._ledger.turn() as opened:
            writing.set_slot(self._ledger, opened, "keyring", key)

    def drop_key(self) -> None:
        """Let the keyring's key open the store no more.

        Raises InvalidError where nothing else would.
        """
        with self._ledger.turn() as opened:
            writing.drop_slot(self._ledger, opened, "keyring")

    @property
    def key_slots(self) -> frozenset[Kind]:
        """What the store can be unlocked with."""
        with self._ledger.turn() as opened:
            return frozenset(slot.kind for slot in opened.slots)

    # the audit log's anchor, and what `doctor` asks

    def anchor(self, seq: int, digest: str) -> None:
        """Seal the head of the audit log, so that an older log is recognised."""
        self._ledger.set_anchor((seq, digest))

    @property
    def anchored(self) -> tuple[int, str] | None:
        """The head of the audit log that was sealed last."""
        return self._ledger.tally.anchor

    @property
    def generation(self) -> int:
        """How many writes the store has seen."""
        return self._ledger.tally.generation

    @property
    def witness_is_kept(self) -> bool:
        """Whether the last write was remembered outside, so that an older copy is recognised."""
        return self._ledger.witness_is_kept


def _missing(name: str, stage: str, version: int | None) -> NotFoundError:
    what = label(name, stage)
    if version is not None:
        return NotFoundError(
            f"{what} has no version {version}", remedy=f"secret-agent history {name}"
        )
    return NotFoundError(f"there is no secret {what}", remedy="secret-agent ls")
