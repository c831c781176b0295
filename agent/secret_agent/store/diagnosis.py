"""What is wrong with a store whose tally or seals do not fit: the slow and exact look, taken only
then.

Rules that hold here: it opens rows to learn whether they open, and hands out names and version
numbers, never a value.
"""

from collections.abc import Iterable, Iterator
from contextlib import closing

from secret_agent.store.keys import Keys
from secret_agent.store.rows import Row, open_fields, open_meta, wipe_fields
from secret_agent.store.seal import BrokenSealError
from secret_agent.store.sqlite import Database
from secret_agent.store.tally import Count, Tally

MOST_NAMED = 8  # rows; a store with more broken rows than that needs no longer list
PAGE = 64  # rows in memory at a time

Place = tuple[bytes, bytes]
"""Key and mark of a row: where a text belongs, and the seal that fits it."""


class Examiner:
    """Looks at the rows of one open store."""

    def __init__(self, database: Database, keys: Keys, store_id: bytes) -> None:
        self._database = database
        self._keys = keys
        self._store_id = store_id

    def explain_count(self, tally: Tally, count: Count) -> str:
        """Why the rows do not add up to the tally."""
        broken = self._broken_rows()
        found = self._describe_all(broken)
        missing = tally.rows - count.rows
        if missing > 0:
            found.append(f"rows are missing: {missing} of the {tally.rows} that were written")
        if missing < 0:
            found.append(
                f"rows were added: {-missing} more than the {tally.rows} that were written"
            )
        return "; ".join(found) or "a row was put back from an older copy"

    def explain_row(self, row: Row) -> str:
        """Why one row does not open; no other is named, which the reader may not know of."""
        with closing(self._database.marks()) as places:
            if self._home_of(row, places) is not None:
                return f"{self._label(row)} was swapped: it holds what belongs to another"
        part = "fields were" if self._meta_opens(row) else "metadata was"
        return f"{self._label(row)}: its {part} altered"

    def damage(self) -> tuple[str, ...]:
        """One sentence for each of the first rows that do not open."""
        return tuple(self._describe_all(self._broken_rows()))

    def _broken_rows(self) -> list[Row]:
        broken = []
        for row in every_row(self._database):
            if not (self._meta_opens(row) and self._body_opens(row)):
                broken.append(row)
                if len(broken) == MOST_NAMED:
                    break
        return broken

    def _describe_all(self, broken: list[Row]) -> list[str]:
        return [self._describe(row) for row in broken]

    def _describe(self, row: Row) -> str:
        with closing(self._database.marks()) as places:
            home = self._home_of(row, places)
        if home is None:
            return self.explain_row(row)
        return f"{self._label(row)} was swapped: it holds what belongs to {self._label(home)}"

    def _home_of(self, row: Row, places: Iterable[Place]) -> Row | None:
        """The row to which the texts of this one belong, moved with or without their seal."""
        for key, mark in places:
            if key == row.key:
                continue
            for candidate in (row._replace(key=key), row._replace(key=key, mark=mark)):
                if self._meta_opens(candidate) or self._body_opens(candidate):
                    return self._database.row(key)
        return None

    def _label(self, row: Row | None) -> str:
        assert row is not None, "a place without a row"  # noqa: S101  # a bug of ours
        try:
            meta = open_meta(self._keys, self._store_id, row)
        except BrokenSealError:
            return f"the row {row.key[:4].hex()}… version {row.version}"
        return f"{label(meta.name, meta.stage)} version {row.version}"

    def _meta_opens(self, row: Row) -> bool:
        try:
            open_meta(self._keys, self._store_id, row)
        except BrokenSealError:
            return False
        return True

    def _body_opens(self, row: Row) -> bool:
        try:
            wipe_fields(open_fields(self._keys, self._store_id, row).values())
        except BrokenSealError:
            return False
        return True


def every_row(database: Database, *, bodies: bool = True) -> Iterator[Row]:
    """All rows in order of their keys, a few in memory at a time."""
    key = b""
    while page := database.after(key, PAGE, bodies=bodies):
        yield from page
        key = page[-1].key


def label(name: str, stage: str) -> str:
    """How a secret is called in a message."""
    return f"{name} in stage {stage}" if stage else name
