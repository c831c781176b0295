"""The changes that a store knows, each inside a batch of the ledger."""

from dataclasses import replace

from secret_agent.store import reading
from secret_agent.store.checks import check_whole
from secret_agent.store.diagnosis import label
from secret_agent.store.header import Kind, Slot, open_slot, slot_key
from secret_agent.store.ledger import Ledger, Opened
from secret_agent.store.listing import version_info
from secret_agent.store.making import new_slot
from secret_agent.store.records import Record, VersionInfo
from secret_agent.store.rows import Meta, Row, key_of, prefix_of, reseal_meta, seal_row, wipe_fields
from secret_agent.store.seal import Buffer, wipe
from secret_agent_client.errors import InvalidError, NotFoundError
from secret_agent_client.value import SecretValue

Values = dict[str, SecretValue]


def put(  # all but four by keyword
    ledger: Ledger,
    opened: Opened,
    meta: Meta,
    values: Values,
    *,
    merge: bool,
    create_only: bool,
) -> VersionInfo:
    """Write the next version, with `merge` over what the newest one holds; the values are wiped."""
    live = reading.newest_live(opened, meta.name, meta.stage)
    if live is not None and create_only:
        raise InvalidError(f"{label(meta.name, meta.stage)} is there already")
    if live is not None and merge:
        meta, values = _merged(reading.record(opened, live), meta, values)
    check_whole(values)
    return _add(ledger, opened, meta, values, is_new=live is None)


def restore(ledger: Ledger, opened: Opened, row: Row, *, by: str, now: int) -> VersionInfo:
    """Write what a row holds as the next version."""
    old = reading.meta(opened, row)
    meta = replace(old, by=by or old.by, created_at=now, deleted=False, next_version=0)
    values = reading.record(opened, row).fields
    live = reading.newest_live(opened, meta.name, meta.stage)
    return _add(ledger, opened, meta, values, is_new=live is None)


def bury(ledger: Ledger, opened: Opened, name: str, stage: str, version: int | None) -> list[int]:
    """Mark one version, or all, as deleted; the numbers of those that were not yet.

    Raises InvalidError for an altered one.
    """
    rows = _rows(opened, name, stage)
    live = [(row, meta) for row, meta in rows if meta is None or not meta.deleted]
    chosen = [pair for pair in live if version in (None, pair[0].version)]
    for row, meta in chosen:
        if meta is None:
            raise reading.altered(opened, row)
        new = reseal_meta(opened.keys, opened.header.store_id, row, replace(meta, deleted=True))
        ledger.replace_meta(row, new)
    _lose(ledger, before=len(live), after=len(live) - len(chosen))
    return [row.version for row, _ in chosen]


def purge(ledger: Ledger, opened: Opened, name: str, stage: str, version: int | None) -> list[int]:
    """Remove the rows of one version, or of all, altered ones too; their numbers."""
    rows = _rows(opened, name, stage)
    chosen = [pair for pair in rows if version in (None, pair[0].version)]
    kept = [pair for pair in rows if pair not in chosen]
    for row, _ in chosen:
        ledger.delete(row)
    if chosen and kept and chosen[-1] is rows[-1]:
        _remember_number(ledger, opened, kept[-1], _number_after(*chosen[-1]))
    _lose(ledger, before=_live(rows), after=_live(kept))
    return [row.version for row, _ in chosen]


def set_slot(ledger: Ledger, opened: Opened, kind: Kind, secret: Buffer) -> None:
    """Add a slot, or replace the one of its kind."""
    slot = new_slot(kind, secret, opened.keys.data_key, opened.header)
    ledger.set_slots([*(old for old in opened.slots if old.kind != kind), slot])


def drop_slot(ledger: Ledger, opened: Opened, kind: Kind) -> None:
    """Remove a slot.  Raises NotFoundError where it is not, InvalidError where it is the last."""
    _slot(opened, kind)
    kept = [old for old in opened.slots if old.kind != kind]
    if not kept:
        raise InvalidError(f"the {kind} slot is the only way into the store")
    ledger.set_slots(kept)


def refuse_existing(opened: Opened, kind: Kind) -> None:
    """Raise InvalidError where there is such a slot."""
    if any(slot.kind == kind for slot in opened.slots):
        raise InvalidError(f"the store has a {kind} already", remedy="secret-agent passwd")


def prove_passphrase(opened: Opened, passphrase: Buffer) -> None:
    """Raise DeniedError unless this passphrase opens the store."""
    slot = _slot(opened, "passphrase")
    kek = slot_key(slot, passphrase)
    try:
        wipe(open_slot(slot, kek, opened.header))
    finally:
        wipe(kek)


def _merged(base: Record, meta: Meta, values: Values) -> tuple[Meta, Values]:
    merged = base.fields | values
    note = base.note if meta.note is None else meta.note
    return replace(meta, note=note, field_names=tuple(merged)), merged


def _add(
    ledger: Ledger, opened: Opened, meta: Meta, values: Values, *, is_new: bool
) -> VersionInfo:
    """`is_new`: the secret has no other version that is not deleted."""
    prefix = prefix_of(opened.keys, meta.name, meta.stage)
    version = _next_version(opened, prefix)
    key = key_of(prefix, version)
    ledger.insert(seal_row(opened.keys, opened.header.store_id, key, meta, values))
    wipe_fields(values.values())
    if is_new:
        ledger.count_secrets(1)
    return version_info(version, meta)


def _slot(opened: Opened, kind: Kind) -> Slot:
    for slot in opened.slots:
        if slot.kind == kind:
            return slot
    raise NotFoundError(f"the store has no {kind} slot")


def _next_version(opened: Opened, prefix: bytes) -> int:
    newest = opened.database.newest(prefix)
    return 1 if newest is None else _number_after(newest, reading.meta(opened, newest))


def _rows(opened: Opened, name: str, stage: str) -> list[tuple[Row, Meta | None]]:
    """The rows of a secret in a stage, oldest first; without metadata where that was altered."""
    rows = opened.database.under(prefix_of(opened.keys, name, stage))
    return [(row, reading.meta_or_none(opened, row)) for row in rows]


def _live(rows: list[tuple[Row, Meta | None]]) -> int:
    return sum(meta is None or not meta.deleted for _, meta in rows)


def _lose(ledger: Ledger, *, before: int, after: int) -> None:
    if before and not after:
        ledger.count_secrets(-1)


def _number_after(row: Row, meta: Meta | None) -> int:
    """The least number that the version after this one may have."""
    return max(row.version + 1, 0 if meta is None else meta.next_version)


def _remember_number(
    ledger: Ledger, opened: Opened, newest: tuple[Row, Meta | None], number: int
) -> None:
    """A purged version's number is not given again: `?version=3` would then mean another value."""
    row, meta = newest
    if meta is not None:
        new = reseal_meta(
            opened.keys, opened.header.store_id, row, replace(meta, next_version=number)
        )
        ledger.replace_meta(row, new)
