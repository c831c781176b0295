"""The tally: what the table of versions must add up to, sealed.  FORMAT.md section 6.

Every row contributes a term, a keyed hash of its key and its mark; the digest is the sum of all
terms modulo 2**256.  So one write changes it in constant time, and one pass over keys and marks,
without opening a row, tells whether any row was dropped, added, moved, altered in its mark, or put
back from an older copy.  The texts themselves are bound by the tags in the mark and are checked
when a row is opened.

Rules that hold here: pure, no I/O, no clock.  The sum is secret (it is sealed) and its terms come
from a keyed hash, which is what makes a sum as good as a list: Clarke et al., "Incremental Multiset
Hash Functions", ASIACRYPT 2003, section 5. Whoever puts back the whole file, tally included, is met
by the witness, not here.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Self

from secret_agent.store.keys import LABEL, Keys
from secret_agent.store.rows import KEY_SIZE, MARK_SIZE
from secret_agent.store.seal import BrokenSealError, Sealed
from secret_agent_client.codec import pack, unpack
from secret_agent_client.errors import InvalidError

MODULUS = 1 << 256


@dataclass(frozen=True, slots=True)
class Tally:
    """What was true of the store after its last write."""

    rows: int = 0
    secrets: int = 0  # names in a stage that have a version that is not deleted
    generation: int = 0  # how many writes there were
    digest: int = 0
    slots: bytes = b""  # digest over all key slots
    anchor: tuple[int, str] | None = None  # head of the audit log: sequence number, digest

    def plus(self, term: int) -> "Tally":
        """With one more row."""
        return replace(self, rows=self.rows + 1, digest=(self.digest + term) % MODULUS)

    def minus(self, term: int) -> "Tally":
        """With one row less."""
        return replace(self, rows=self.rows - 1, digest=(self.digest - term) % MODULUS)


@dataclass(frozen=True, slots=True)
class Count:
    """What one pass over the rows found."""

    rows: int
    digest: int

    @classmethod
    def of(cls, digest_key: bytearray, pairs: Iterable[tuple[bytes, bytes]]) -> Self:
        """Count (key, mark) pairs that come in the order of their keys.

        Raises InvalidError where they do not: then the table's tree was altered, and looking a row
        up could miss it although it is there.
        """
        rows, digest, before = 0, 0, b""
        hashed, number = hashlib.blake2b, int.from_bytes
        for key, mark in pairs:
            if type(mark) is not bytes or type(key) is not bytes:
                raise InvalidError("the store was altered: a row has a cell of another type")
            if len(key) != KEY_SIZE or len(mark) != MARK_SIZE or key <= before:
                raise InvalidError("the store was altered: a row stands where it cannot be found")
            before = key
            rows += 1
            digest += number(hashed(key + mark, key=digest_key, digest_size=32).digest(), "big")
        return cls(rows, digest % MODULUS)


def term_of(digest_key: bytearray, key: bytes, mark: bytes) -> int:
    """A row's share of the digest."""
    hashed = hashlib.blake2b(key + mark, key=digest_key, digest_size=32)
    return int.from_bytes(hashed.digest(), "big")


def agrees(tally: Tally, count: Count) -> bool:
    """Whether the table is what the tally says."""
    return (tally.rows, tally.digest) == (count.rows, count.digest)


def seal_tally(keys: Keys, store_id: bytes, tally: Tally) -> bytes:
    """The tally as it stands in the file."""
    body: dict[str, Any] = {
        "rows": tally.rows,
        "secrets": tally.secrets,
        "generation": tally.generation,
        "digest": tally.digest.to_bytes(32, "big"),
        "slots": tally.slots,
        "anchor": None if tally.anchor is None else list(tally.anchor),
    }
    return keys.tally.seal(pack(body), _aad(store_id)).pack()


def open_tally(keys: Keys, store_id: bytes, packed: bytes) -> Tally:
    """Raises InvalidError naming the tally where its seal does not fit."""
    try:
        plain = keys.tally.open(Sealed.unpack(packed), _aad(store_id))
    except BrokenSealError:
        raise InvalidError("the store's tally was altered: its seal does not fit") from None
    # The seal has vouched for these bytes: what does not fit from here on is a bug, not an attack.
    found: Any = unpack(plain)
    anchor = found["anchor"]
    return Tally(
        rows=found["rows"],
        secrets=found["secrets"],
        generation=found["generation"],
        digest=int.from_bytes(found["digest"], "big"),
        slots=found["slots"],
        anchor=None if anchor is None else (anchor[0], anchor[1]),
    )


def _aad(store_id: bytes) -> bytes:
    return LABEL + b"tally" + store_id
