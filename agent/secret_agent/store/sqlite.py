"""The SQLite file under the store: schema, durability, and the translation of its errors.
FORMAT.md section 2.

Rules that hold here: a transaction that was committed survives the death of the process and of the
power (WAL, synchronous=FULL); SQLite sees sealed texts, lookup tags and numbers, and never a name
or a value; temporary tables stay in memory; deleted content is overwritten; the schema of a file
that we open is exactly ours, or nothing of it is used. Only this file knows SQL.
"""

import sqlite3
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from hmac import compare_digest
from pathlib import Path
from urllib.parse import quote

from secret_agent.store.header import checksum
from secret_agent.store.rows import PREFIX_SIZE, Row, key_of
from secret_agent_client.errors import InvalidError, UnavailableError

APPLICATION_ID = 0x53414753  # "SAGS", what file(1) and we know a store by
MAX_CELL = (
    4 * 1024 * 1024
)  # bytes of one cell; four times the largest secret, so that no file can exhaust us
BUSY_S = 1.0  # how long to wait for another program that reads the file, such as a backup

_SCHEMA = {
    "part": "CREATE TABLE part (name TEXT PRIMARY KEY, body BLOB NOT NULL, sum BLOB NOT NULL)"
    " WITHOUT ROWID",
    "version": "CREATE TABLE version (key BLOB PRIMARY KEY, mark BLOB NOT NULL,"
    " meta BLOB NOT NULL, body BLOB NOT NULL) WITHOUT ROWID",
}
_ALWAYS = (
    "locking_mode=EXCLUSIVE",  # first of all: no shared-memory file, and no other process beside us
    "trusted_schema=OFF",
    "cell_size_check=ON",
    "temp_store=MEMORY",
    "mmap_size=0",  # an I/O error in a mapping would be a SIGBUS
)
_WRITABLE = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "fullfsync=ON",  # macOS: fsync(2) alone does not reach the platter
    "checkpoint_fullfsync=ON",
    "secure_delete=ON",
    "journal_size_limit=0",
)
_LAST_VERSION = (1 << 64) - 1

_PLAIN = {
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_IOERR: "the disk refused to read or write",
    sqlite3.SQLITE_READONLY: "the disk is read-only",
    sqlite3.SQLITE_CANTOPEN: "its folder cannot be used",
    sqlite3.SQLITE_BUSY: "another program has it open",
    sqlite3.SQLITE_LOCKED: "another program has it open",
    sqlite3.SQLITE_PERM: "its permissions forbid it",
    sqlite3.SQLITE_AUTH: "its permissions forbid it",
    sqlite3.SQLITE_NOMEM: "there is no memory left",
}
_DAMAGED = {
    sqlite3.SQLITE_CORRUPT: "its pages are damaged",
    sqlite3.SQLITE_NOTADB: "it is no SQLite file",
    sqlite3.SQLITE_TOOBIG: "a cell in it is larger than any that was written",
    sqlite3.SQLITE_SCHEMA: "its schema is damaged",
    sqlite3.SQLITE_FORMAT: "its pages are damaged",
}


class Database:
    """One open store file.  Not safe for several threads at once: its caller takes turns."""

    def __init__(self, path: Path, *, writable: bool = True) -> None:
        """Open a file that is there.  Raises InvalidError, UnavailableError."""
        self._path = path
        self.writable = writable
        with _explained(path):
            self._sqlite = _connect(path, writable=writable)
        try:
            with _explained(path):
                self._set_up()
        except BaseException:
            self._sqlite.close()
            raise

    def make_schema(self) -> None:
        """Fill an empty file."""
        with _explained(self._path):
            self._sqlite.execute(f"PRAGMA application_id={APPLICATION_ID}")
            for statement in _SCHEMA.values():
                self._sqlite.execute(statement)

    def check_schema(self) -> None:
        """Raise InvalidError where the file is not a store, or its schema is not exactly ours."""
        with _explained(self._path):
            (mark,) = self._sqlite.execute("PRAGMA application_id").fetchone()
            found = self._sqlite.execute("SELECT type, name, tbl_name, sql FROM sqlite_master")
            schema = {tuple(row) for row in found}
        if mark != APPLICATION_ID:
            raise InvalidError(f"{self._path} is not a store of secret-agent")
        ours = {
            (b"table", name.encode(), name.encode(), sql.encode()) for name, sql in _SCHEMA.items()
        }
        if schema != ours:
            raise InvalidError(f"the store {self._path} was altered: its schema is not ours")

    # parts: the header, the key slots, the tally

    def part(self, name: str) -> bytes | None:
        """A part's body.  Raises InvalidError naming the part where its checksum does not fit."""
        with _explained(self._path):
            found = self._sqlite.execute(
                "SELECT body, sum FROM part WHERE name=?", (name,)
            ).fetchone()
        if found is None:
            return None
        if not all(type(cell) is bytes for cell in found) or not compare_digest(
            checksum(found[0]), found[1]
        ):
            raise InvalidError(f"the store's {name} is damaged: its checksum does not fit")
        body: bytes = found[0]
        return body

    def part_names(self) -> set[str]:
        """The names of all parts that are there."""
        with _explained(self._path):
            found = self._sqlite.execute("SELECT name FROM part").fetchall()
        return {name.decode(errors="replace") for (name,) in found}

    def set_part(self, name: str, body: bytes) -> None:
        """Write a part, new or not."""
        with _explained(self._path):
            self._sqlite.execute(
                "INSERT INTO part VALUES (?,?,?) ON CONFLICT(name)"
                " DO UPDATE SET body=excluded.body, sum=excluded.sum",
                (name, body, checksum(body)),
            )

    def drop_part(self, name: str) -> None:
        """Remove a part."""
        with _explained(self._path):
            self._sqlite.execute("DELETE FROM part WHERE name=?", (name,))

    # versions

    def marks(self) -> Generator[tuple[bytes, bytes], None, None]:
        """(key, mark) of every row, in the order in which the table's tree holds them.

        Close it where you leave early: an open reading would hold up `scrub`.
        """
        with _explained(self._path):
            for pair in self._sqlite.execute("SELECT key, mark FROM version"):  # noqa: UP028  # see below
                # Not `yield from`: that would close the cursor of a database which may be closed.
                yield pair

    def row(self, key: bytes) -> Row | None:
        """One row by its key."""
        return self._first("SELECT key, mark, meta, body FROM version WHERE key=?", key)

    def newest(self, prefix: bytes, below: int = _LAST_VERSION) -> Row | None:
        """The row with the highest version under `below` of one secret in one stage."""
        return self._first(
            "SELECT key, mark, meta, body FROM version WHERE key>=? AND key<?"
            " ORDER BY key DESC LIMIT 1",
            key_of(prefix, 0),
            key_of(prefix, below),
        )

    def after(self, key: bytes, most: int, *, bodies: bool = True) -> list[Row]:
        """The next rows after a key, at most so many; b"" begins at the first.

        Without bodies the large part of each row is neither read nor returned.
        """
        body = "body" if bodies else "x''"
        with _explained(self._path):
            found = self._sqlite.execute(
                f"SELECT key, mark, meta, {body} FROM version WHERE key>?"  # noqa: S608  # one of two constants
                " ORDER BY key LIMIT ?",
                (key, most),
            ).fetchall()
        return [_row(cells) for cells in found]

    def under(self, prefix: bytes, *, bodies: bool = False) -> list[Row]:
        """All rows whose key begins so, oldest first."""
        body = "body" if bodies else "x''"
        pad = PREFIX_SIZE + 8 - len(prefix)
        with _explained(self._path):
            found = self._sqlite.execute(
                f"SELECT key, mark, meta, {body} FROM version WHERE key>=? AND key<=?"  # noqa: S608  # one of two constants
                " ORDER BY key",
                (prefix + bytes(pad), prefix + b"\xff" * pad),
            ).fetchall()
        return [_row(cells) for cells in found]

    def insert(self, row: Row) -> None:
        """Add a row."""
        with _explained(self._path):
            self._sqlite.execute("INSERT INTO version VALUES (?,?,?,?)", row)

    def set_meta(self, row: Row) -> None:
        """Replace a row's mark and metadata; its body stays as it is."""
        with _explained(self._path):
            self._sqlite.execute(
                "UPDATE version SET mark=?, meta=? WHERE key=?", (row.mark, row.meta, row.key)
            )

    def delete(self, key: bytes) -> None:
        """Remove a row."""
        with _explained(self._path):
            self._sqlite.execute("DELETE FROM version WHERE key=?", (key,))

    # transactions

    def begin(self) -> None:
        """Begin to write.  Raises UnavailableError on a read-only disk."""
        if not self.writable:
            raise UnavailableError(
                f"the store {self._path} cannot be written: the disk is read-only"
            )
        with _explained(self._path):
            self._sqlite.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """Make what was written since `begin` durable, all of it or nothing."""
        with _explained(self._path):
            self._sqlite.execute("COMMIT")

    def rollback(self) -> None:
        """Forget what was written since `begin`."""
        if self._sqlite.in_transaction:  # SQLite may have rolled back by itself, on a full disk
            with _explained(self._path):
                self._sqlite.execute("ROLLBACK")

    def scrub(self) -> None:
        """Bring the log into the file and empty it, so that what was overwritten is gone."""
        with _explained(self._path):
            (busy, _, _) = self._sqlite.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        assert not busy, "a reading of ours is open, and nobody else's can be"  # noqa: S101  # a bug of ours

    def close(self) -> None:
        """Close the file.  What was committed is safe whether or not this succeeds."""
        with suppress(sqlite3.Error):
            self._sqlite.close()

    def _set_up(self) -> None:
        self._sqlite.text_factory = bytes  # so that no cell can fail to decode
        self._sqlite.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_CELL)
        for pragma in _ALWAYS + (_WRITABLE if self.writable else ()):
            self._sqlite.execute("PRAGMA " + pragma)

    def _first(self, statement: str, *keys: bytes) -> Row | None:
        with _explained(self._path):
            found = self._sqlite.execute(statement, keys).fetchone()
        return None if found is None else _row(found)


def _connect(path: Path, *, writable: bool) -> sqlite3.Connection:
    if not writable and _has_log(path):
        raise UnavailableError(
            f"the store {path} was not closed in order and its disk is read-only:"
            " it can be opened once the disk can be written"
        )
    mode = "mode=rw" if writable else "mode=ro&immutable=1"
    return sqlite3.connect(
        f"file:{quote(str(path))}?{mode}",
        uri=True,
        timeout=BUSY_S,
        isolation_level=None,  # we say BEGIN ourselves
        check_same_thread=False,  # worker threads take turns under the ledger's lock
    )


def _has_log(path: Path) -> bool:
    log = path.with_name(path.name + "-wal")
    return log.exists() and log.stat().st_size > 0


def _row(cells: tuple[object, ...]) -> Row:
    if not all(type(cell) is bytes for cell in cells):
        raise InvalidError("the store was altered: a row has a cell of another type")
    return Row(*cells)  # type: ignore[arg-type]  # the line above has looked at each


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into ours.  They name statements and columns and never a bound value."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF
        if code in _PLAIN:
            raise UnavailableError(
                f"the store {path} cannot be used: {_PLAIN[code]}; what was acknowledged is safe"
            ) from error
        if code in _DAMAGED:
            raise InvalidError(f"the store {path} is damaged: {_DAMAGED[code]}") from error
        raise
