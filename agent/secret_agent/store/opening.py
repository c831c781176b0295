"""Open a store and prove it whole before anything is served from it.  FORMAT.md section 8.

The order of an opening is the order of trust: the file's owner and mode, the schema, the bounds of
the header, the key, the tally, the slots, every row's mark, and last the witness.  Each step names
what it finds.  Whatever fails, every key is overwritten and every file closed.
"""

import shlex
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from secret_agent.store import files, witness
from secret_agent.store.diagnosis import Examiner
from secret_agent.store.header import (
    KINDS,
    Header,
    Kind,
    Slot,
    open_slot,
    parse_header,
    parse_slot,
    slot_key,
    slots_digest,
)
from secret_agent.store.keys import Keys
from secret_agent.store.ledger import Opened, save_sighting
from secret_agent.store.seal import Buffer, wipe
from secret_agent.store.sqlite import Database
from secret_agent.store.tally import Count, agrees, open_tally
from secret_agent_client.errors import DeniedError, InvalidError, NotFoundError, UnavailableError


@dataclass(frozen=True, slots=True)
class Place:
    """Where a store lives: its file, and the witness outside of it, where there is one."""

    path: Path
    witness: Path | None = None


def unlock(place: Place, kind: Kind, secret: Buffer) -> Opened:
    """Open a store.

    Raises NotFoundError where there is none or it has no such slot, DeniedError for a wrong
    passphrase or key, InvalidError naming what was altered, UnavailableError where it is in use or
    its disk refuses.
    """
    try:
        files.check_private(place.path)
    except NotFoundError:
        raise NotFoundError(
            f"there is no store at {place.path}", remedy="secret-agent unlock"
        ) from None
    files.check_folder(place.path.parent)
    writable = files.is_writable(place.path)
    lock = files.lock(place.path, writable=writable)
    try:
        if writable:
            files.remove_draft(place.path)
        return open_with(place, kind, lambda slot: slot_key(slot, secret), lock)
    except BaseException:
        files.unlock(lock)
        raise


def open_with(
    place: Place, kind: Kind, kek_of: Callable[[Slot], bytearray], lock: int | None
) -> Opened:
    """Open a store whose lock is held, with what gives a slot its key-encryption key."""
    database = Database(place.path, writable=files.is_writable(place.path))
    keys: Keys | None = None
    try:
        database.check_schema()
        header, slots = _read_head(database)
        keys = Keys(_data_key(place, kind, kek_of, header, slots), header.store_id)
        sealed = _needed(database, "tally")
        tally = open_tally(keys, header.store_id, sealed)
        opened = Opened(database, header, keys, tally, sealed, slots, None, lock)
        _prove(place, opened)
        opened.witness = _open_witness(place, keys)
    except BaseException:
        if keys is not None:
            keys.forget()
        database.close()
        raise
    save_sighting(opened, durable=True)
    return opened


def slots_of(path: Path) -> frozenset[Kind]:
    """Which kinds of slots a store has, without opening it.  Raises as `unlock` does."""
    files.check_private(path)
    lock = files.lock(path, writable=files.is_writable(path))
    try:
        database = Database(path, writable=files.is_writable(path))
        try:
            database.check_schema()
            return frozenset(slot.kind for slot in _read_head(database)[1])
        finally:
            database.close()
    finally:
        files.unlock(lock)


def _read_head(database: Database) -> tuple[Header, tuple[Slot, ...]]:
    names = database.part_names()
    if unknown := names - {"header", "tally", *KINDS}:
        raise InvalidError(f"the store was altered: it has {len(unknown)} parts that are not ours")
    header = parse_header(_needed(database, "header"))
    bodies = ((kind, database.part(kind)) for kind in KINDS)
    return header, tuple(parse_slot(kind, body) for kind, body in bodies if body is not None)


def _needed(database: Database, name: str) -> bytes:
    body = database.part(name)
    if body is None:
        raise InvalidError(f"the store was altered: its {name} is missing")
    return body


def _data_key(
    place: Place,
    kind: Kind,
    kek_of: Callable[[Slot], bytearray],
    header: Header,
    slots: tuple[Slot, ...],
) -> bytearray:
    slot = next((slot for slot in slots if slot.kind == kind), None)
    if slot is None:
        raise NotFoundError(f"the store has no {kind} slot", remedy="secret-agent unlock")
    kek = kek_of(slot)
    try:
        return open_slot(slot, kek, header)
    except DeniedError as error:
        raise DeniedError(error.message + _hint(place, header, slots)) from None
    finally:
        wipe(kek)


def _hint(place: Place, header: Header, slots: tuple[Slot, ...]) -> str:
    """What the witness knows about a header under which a passphrase failed.

    A header whose salt or parameters were altered makes every passphrase wrong; without the witness
    that looks the same as a mistyped one.
    """
    seen = None if place.witness is None else witness.read_unchecked(place.witness)
    if seen is None or (seen.store_id, seen.slots) == (header.store_id, slots_digest(slots)):
        return ""
    return ", whose header is not the one that this machine last saw: an older copy, or altered"


def _prove(place: Place, opened: Opened) -> None:
    """Raise InvalidError unless slots, rows and witness are what the tally says."""
    tally, keys = opened.tally, opened.keys
    if slots_digest(opened.slots) != tally.slots:
        raise InvalidError(
            "the store was altered: a key slot was put back, removed or added behind the tally"
        )
    with closing(opened.database.marks()) as marks:
        count = Count.of(keys.digest, marks)
    if not agrees(tally, count):
        examiner = Examiner(opened.database, keys, opened.header.store_id)
        raise InvalidError(
            f"the store was altered: {examiner.explain_count(tally, count)}",
            remedy=_set_aside(place.path),
        )
    if place.witness is not None:
        found = witness.Sighting.of(
            opened.header.store_id, tally.generation, opened.sealed_tally, tally.slots
        )
        witness.check(place.witness, keys.witness, found)


def _open_witness(place: Place, keys: Keys) -> witness.Witness | None:
    """A state folder that cannot be written keeps nobody out: then there is no witness."""
    if place.witness is None:
        return None
    try:
        files.make_folder(place.witness.parent)
        return witness.Witness(place.witness, keys.witness)
    except UnavailableError:
        return None


def _set_aside(path: Path) -> str:
    return f"mv {shlex.quote(str(path))} {shlex.quote(f'{path}.damaged')}"
