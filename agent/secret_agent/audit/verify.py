"""Walk the whole chain and name the first bad record, and what was done to it: edited, removed,
reordered, duplicated, rewritten, torn or truncated.

The chain alone shows everything but a cut at its end and a rewriting from its beginning: those show
only against an anchor, the head as somebody else remembers it (the store does; an export may).
Blocking: called in a thread, while another writes.
"""

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secret_agent.audit.files import CURRENT, close_all, lines_of, open_all
from secret_agent.audit.record import GENESIS, decode, digest_of

_SEQ = re.compile(rb'"seq":(\d{1,15}),')
_Line = tuple[str, int, bytes]  # file, number within it, content


@dataclass(frozen=True, slots=True)
class Bad:
    """Where the chain breaks, and how."""

    file: str
    line: int
    seq: int | None
    what: str

    def as_json(self) -> dict[str, Any]:
        return {"file": self.file, "line": self.line, "seq": self.seq, "what": self.what}


@dataclass(frozen=True, slots=True)
class Verified:
    """What a walk found: how many records fit, the digest of the last of them, the first that does
    not.
    """

    records: int
    head: str
    first_bad: Bad | None

    @property
    def ok(self) -> bool:
        return self.first_bad is None


def verify(
    folder: Path, *, anchors: Iterable[tuple[int, str]] = (), until: int | None = None
) -> Verified:
    """Walk the chain of a folder, against (sequence number, digest) pairs that must be in it.

    until: the last record that is known to be on disk; what stands behind it may be half written.
    Raises OSError.
    """
    opened = open_all(folder)
    try:
        walk = _Walk(_by_number(anchors), _lines(opened))
        bad = walk.to(until)
    finally:
        close_all(opened)
    return Verified(walk.records, walk.digest, bad)


def _lines(opened: list[tuple[Path, int]]) -> Iterator[_Line]:
    for path, descriptor in opened:
        os.lseek(descriptor, 0, os.SEEK_SET)
        for number, line in enumerate(lines_of(descriptor), start=1):
            yield path.name, number, line


def _by_number(anchors: Iterable[tuple[int, str]]) -> dict[int, set[str]]:
    """Every digest that somebody remembers of a record: two that differ cannot both fit."""
    remembered: dict[int, set[str]] = {}
    for seq, digest in anchors:
        if seq > 0:
            remembered.setdefault(seq, set()).add(digest)
    return remembered


class _Walk:
    def __init__(self, anchors: dict[int, set[str]], lines: Iterator[_Line]) -> None:
        self.records = 0
        self.seq = 0
        self.digest = GENESIS
        self._anchors = anchors
        self._lines = lines
        self._late: Bad | None = None  # a beginning that is not the first record, unless pruned
        self._place = (CURRENT, 0)

    def to(self, until: int | None) -> Bad | None:
        """Take every line; what is wrong with the first bad one, or with the chain as a whole."""
        for file, number, line in self._lines:
            if until is not None and self.seq >= until:
                break
            self._place = (file, number)
            bad = self._step(line)
            if bad is not None:
                return bad
        return self._late or self._cut()

    def _step(self, line: bytes) -> Bad | None:
        if not line.endswith(b"\n"):
            return self._bad(None, "torn: the line has no end")
        record, digests = decode(line), digest_of(line[:-1])
        if record is None or digests is None:
            return self._bad(None, "edited: the line is no record")
        seq: int = record["seq"]
        if digests[0] != digests[1]:
            return self._bad(seq, "edited: its digest does not fit its content")
        bad = self._order(seq, str(record.get("prev")))
        if bad is not None:
            return bad
        self._note_pruning(record)
        self.records += 1
        self.seq, self.digest = seq, digests[0]
        if self._anchors.pop(seq, {self.digest}) != {self.digest}:
            return self._bad(seq, "rewritten: another record is known to have stood here")
        return None

    def _order(self, seq: int, prev: str) -> Bad | None:
        """Whether the record may follow the one before it."""
        wanted = self.seq + 1
        if self.records == 0:
            if (seq, prev) != (1, GENESIS):
                self._late = self._bad(seq, f"removed: the records before {seq} are missing")
            return None
        if seq < wanted:
            return self._bad(seq, f"duplicated: it stands where record {wanted} belongs")
        if seq > wanted:
            return self._bad(seq, self._gap(wanted, seq))
        if prev != self.digest:
            return self._bad(seq, "rewritten: it does not continue the record before it")
        return None

    def _gap(self, wanted: int, seq: int) -> str:
        """What a record that comes too early means, by what still comes.  Uses up the lines."""
        later = {int(found[1]) for _, _, line in self._lines if (found := _SEQ.search(line))}
        if seq in later:
            return f"duplicated: it stands where record {wanted} belongs"
        if wanted in later:
            return f"reordered: it stands before record {wanted}"
        return f"removed: records {wanted} to {seq - 1} are missing"

    def _note_pruning(self, record: dict[str, Any]) -> None:
        """A chain may begin late where it says itself that its beginning was pruned."""
        if (record.get("event"), record.get("action")) != ("audit", "prune"):
            return
        pruned = record.get("pruned")
        if self._late is not None and type(pruned) is int and pruned + 1 >= (self._late.seq or 0):
            self._late = None

    def _cut(self) -> Bad | None:
        missing = max((seq for seq in self._anchors if seq > self.seq), default=None)
        if missing is None:
            return None
        return self._bad(self.seq + 1, f"truncated: the log once reached record {missing}")

    def _bad(self, seq: int | None, what: str) -> Bad:
        return Bad(*self._place, seq, what)
