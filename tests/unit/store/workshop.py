"""What the tests of the store share: a place for one, and tools to tamper with it.

Rules that hold here: tampering goes through SQLite alone, as somebody with the file would do it,
and mends the checksums that need no key.
"""

import hashlib
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from secret_agent.store import Store
from secret_agent_client.codec import pack, unpack

PASSPHRASE = b"correct horse"
NOW = 1_767_225_600

Cells = tuple[bytes, bytes, bytes, bytes]
"""key, mark, meta, body of a row."""


class Workshop:
    """One store's place, and a clock that a test sets."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "data" / "store.db"
        self.witness = folder / "state" / "store.witness"
        self.now = float(NOW)

    def create(self, passphrase: bytes = PASSPHRASE) -> Store:
        return Store.create(
            self.path, passphrase, clock_wall=lambda: self.now, witness=self.witness
        )

    def unlock(self, passphrase: bytes = PASSPHRASE) -> Store:
        return Store.unlock(
            self.path, passphrase, clock_wall=lambda: self.now, witness=self.witness
        )

    @contextmanager
    def created(self) -> Iterator[Store]:
        with closing(self.create()) as store:
            yield store

    @contextmanager
    def unlocked(self, passphrase: bytes = PASSPHRASE) -> Iterator[Store]:
        with closing(self.unlock(passphrase)) as store:
            yield store

    def fill(self, **values: str) -> None:
        """A new store with a secret `app/NAME` for each keyword, whose `password` is its value."""
        with self.created() as store:
            for name, value in values.items():
                put(store, f"app/{name}", value.encode())

    # as somebody with the file would do it

    @contextmanager
    def sql(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            yield connection

    def rows(self) -> list[Cells]:
        """All rows, in the order in which they were written where each is of another secret."""
        with self.sql() as connection:
            return connection.execute("SELECT key, mark, meta, body FROM version").fetchall()

    def set_cell(self, key: bytes, column: str, value: object) -> None:
        with self.sql() as connection:
            connection.execute(f"UPDATE version SET {column}=? WHERE key=?", (value, key))  # noqa: S608  # a column of ours

    def part(self, name: str) -> dict[str, Any]:
        with self.sql() as connection:
            (body,) = connection.execute("SELECT body FROM part WHERE name=?", (name,)).fetchone()
        found = unpack(body)
        assert isinstance(found, dict)
        return found

    def set_part(self, name: str, body: bytes, *, sum_: bytes | None = None) -> None:
        checksum = hashlib.sha256(body).digest() if sum_ is None else sum_
        with self.sql() as connection:
            connection.execute(
                "INSERT INTO part VALUES (?,?,?) ON CONFLICT(name)"
                " DO UPDATE SET body=excluded.body, sum=excluded.sum",
                (name, body, checksum),
            )

    def change_part(self, name: str, **changes: object) -> None:
        self.set_part(name, pack(self.part(name) | changes))

    def copy(self, name: str) -> Path:
        """A copy of the closed store beside it."""
        to = self.path.with_name(name)
        shutil.copy2(self.path, to)
        return to

    def put_back(self, copy: Path) -> None:
        shutil.copy2(copy, self.path)

    def key_of(self, name: str, version: int = 1, stage: str = "") -> bytes:
        """The key under which a version stands, which only the store's own key can tell."""
        with self.unlocked() as store, store._ledger.turn() as opened:
            prefix = opened.keys.name_tag(name) + opened.keys.stage_tag(name, stage)
            return prefix + version.to_bytes(8, "big")


def put(store: Store, name: str, value: bytes = b"value", **more: Any) -> int:
    """Write a version with one field, `password`; its number."""
    usual: dict[str, Any] = {"type": "login", "by": "me"}
    stage = more.pop("stage", "")
    return store.put(name, stage, {"password": value}, **(usual | more)).version


def value_of(store: Store, name: str, stage: str = "", version: int | None = None) -> bytes:
    return store.get(name, stage, version).fields["password"].reveal()


def flip(data: bytes, at: int = 0) -> bytes:
    """The data with one bit changed."""
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)


Tamper = Callable[[Workshop], None]
