"""Find rows, open them, and name the item whose seal does not fit.  Nothing here writes."""

from collections.abc import Container, Iterable, Iterator
from itertools import groupby

from secret_agent.store.diagnosis import Examiner, every_row
from secret_agent.store.ledger import Opened
from secret_agent.store.listing import Versioned
from secret_agent.store.records import Record
from secret_agent.store.rows import (
    PREFIX_SIZE,
    Meta,
    Row,
    key_of,
    open_fields,
    open_meta,
    prefix_of,
)
from secret_agent.store.seal import BrokenSealError
from secret_agent_client.errors import InvalidError

PAGE = 64  # rows with their values in memory at a time: 64 MiB where each is as large as can be


def row(opened: Opened, name: str, stage: str, version: int) -> Row | None:
    """The row of one version."""
    return opened.database.row(key_of(prefix_of(opened.keys, name, stage), version))


def newest_live(opened: Opened, name: str, stage: str) -> Row | None:
    """The row of the newest version that is not deleted."""
    prefix = prefix_of(opened.keys, name, stage)
    found = opened.database.newest(prefix)
    while found is not None and meta(opened, found).deleted:
        found = opened.database.newest(prefix, found.version)
    return found


def meta(opened: Opened, row: Row) -> Meta:
    """A row's metadata.  Raises InvalidError naming the item where it was altered."""
    try:
        return open_meta(opened.keys, opened.header.store_id, row)
    except BrokenSealError:
        raise altered(opened, row) from None


def record(opened: Opened, row: Row) -> Record:
    """A row with its values.  Raises InvalidError naming the item where it was altered."""
    found = meta(opened, row)
    try:
        fields = open_fields(opened.keys, opened.header.store_id, row)
    except BrokenSealError:
        raise altered(opened, row) from None
    return Record(
        name=found.name,
        stage=found.stage,
        version=row.version,
        type=found.type,
        fields=fields,
        created_at=found.created_at,
        by=found.by,
        note=found.note,
        expires_at=found.expires_at,
        rotate_due=found.rotate_due,
    )


def altered(opened: Opened, row: Row) -> InvalidError:
    """What to say of a row that does not open."""
    examiner = Examiner(opened.database, opened.keys, opened.header.store_id)
    return InvalidError(f"the store was altered: {examiner.explain_row(row)}")


def versions(opened: Opened, name: str, stage: str) -> list[Versioned]:
    """All versions of one secret in one stage, oldest first, without values.

    Raises InvalidError naming one that was altered.
    """
    rows = opened.database.under(prefix_of(opened.keys, name, stage))
    return [(row.version, meta(opened, row)) for row in rows]


def groups(opened: Opened) -> Iterator[list[Versioned]]:
    """The versions of each secret in each stage, oldest first, without rows that were altered."""
    return _grouped(opened, every_row(opened.database, bodies=False))


def groups_of(opened: Opened, name: str) -> Iterator[list[Versioned]]:
    """The same for the stages of one name."""
    return _grouped(opened, opened.database.under(opened.keys.name_tag(name)))


def page(
    opened: Opened, key: bytes, only: Container[tuple[str, str]] | None
) -> tuple[list[Record], bytes | None]:
    """The next records after a key that are not deleted, and the key to go on from."""
    rows = opened.database.after(key, PAGE)
    found = ((row, meta(opened, row)) for row in rows)
    live = [row for row, meta in found if not meta.deleted and _wanted(meta, only)]
    return [record(opened, row) for row in live], rows[-1].key if rows else None


def _wanted(meta: Meta, only: Container[tuple[str, str]] | None) -> bool:
    return only is None or (meta.name, meta.stage) in only


def _grouped(opened: Opened, rows: Iterable[Row]) -> Iterator[list[Versioned]]:
    for _, group in groupby(rows, key=lambda row: row.key[:PREFIX_SIZE]):
        found = [(row.version, meta_or_none(opened, row)) for row in group]
        intact = [(version, meta) for version, meta in found if meta is not None]
        if intact:
            yield intact


def meta_or_none(opened: Opened, row: Row) -> Meta | None:
    """A row's metadata, or None where it was altered."""
    try:
        return open_meta(opened.keys, opened.header.store_id, row)
    except BrokenSealError:
        return None
