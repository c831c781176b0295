"""Make a new store.

Rules that hold here: the file is written beside its place, made durable, and linked into it only
then, so that a store is there whole or not at all; nothing that stands in its place is ever
overwritten.
"""

import os
import shlex
from pathlib import Path

from secret_agent.store import files, witness
from secret_agent.store.header import (
    STORE_ID_SIZE,
    Header,
    Kind,
    Slot,
    blank_slot,
    fill_slot,
    slot_key,
    slots_digest,
)
from secret_agent.store.keys import Keys, random_key
from secret_agent.store.ledger import Opened
from secret_agent.store.opening import Place, open_with
from secret_agent.store.seal import Buffer, wipe
from secret_agent.store.sqlite import Database
from secret_agent.store.tally import Tally, seal_tally
from secret_agent_client.errors import InvalidError, UnavailableError


def create(place: Place, kind: Kind, secret: Buffer, *, created_at: int) -> Opened:
    """Make a store and open it.

    Raises InvalidError where there is one already, or where the witness remembers one;
    UnavailableError where the disk refuses.
    """
    files.make_folder(place.path.parent)
    lock = files.lock(place.path, writable=True)
    try:
        _check_absent(place)
        header = Header(os.urandom(STORE_ID_SIZE), created_at)
        blank = blank_slot(kind)
        kek = slot_key(blank, secret)
        try:
            _write(place.path, header, blank, kek)
            return open_with(place, kind, lambda _: bytearray(kek), lock)
        finally:
            wipe(kek)
    except BaseException:
        files.unlock(lock)
        raise


def new_slot(kind: Kind, secret: Buffer, data_key: Buffer, header: Header) -> Slot:
    """Wrap the data key for one more passphrase or key."""
    blank = blank_slot(kind)
    kek = slot_key(blank, secret)
    try:
        return fill_slot(blank, kek, data_key, header)
    finally:
        wipe(kek)


def _check_absent(place: Place) -> None:
    if os.path.lexists(place.path):
        raise InvalidError(f"there is a store at {place.path} already")
    seen = None if place.witness is None else witness.read_unchecked(place.witness)
    if seen is not None:
        raise InvalidError(
            f"the store {place.path} is missing, and this machine last saw it at write"
            f" {seen.generation}; to begin anew, forget it",
            remedy=f"rm {shlex.quote(str(place.witness))}",
        )


def _write(path: Path, header: Header, blank: Slot, kek: Buffer) -> None:
    files.remove_draft(path)  # of an agent that died while it made one: the lock is ours
    draft = files.draft_of(path)
    files.make_private(draft)
    try:
        _fill(draft, header, blank, kek)
        os.link(draft, path)  # unlike rename, it never replaces
        files.sync_folder(path.parent)
    except OSError as error:
        raise UnavailableError(
            f"the store {path} cannot be made: {(error.strerror or 'unknown error').lower()}"
        ) from None
    finally:
        files.remove_draft(path)


def _fill(draft: Path, header: Header, blank: Slot, kek: Buffer) -> None:
    keys = Keys(random_key(), header.store_id)
    database = Database(draft)
    try:
        slot = fill_slot(blank, kek, keys.data_key, header)
        tally = Tally(generation=1, slots=slots_digest([slot]))
        database.begin()
        database.make_schema()
        database.set_part("header", header.pack())
        database.set_part(slot.kind, slot.pack())
        database.set_part("tally", seal_tally(keys, header.store_id, tally))
        database.commit()
        database.scrub()  # all of it is in the one file that gets linked, and is synced there
    finally:
        keys.forget()
        database.close()
