"""Walk the whole chain and name the first bad record: edited, removed, reordered, duplicated, torn
or cut off.

The chain alone shows everything but a cut at its end and a rewriting from its beginning: those
show only against an anchor,
the head as somebody else remembers it (the store does; an export may).  Blocking: called in a
thread.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secret_agent.audit.files import files_of, lines_of
from secret_agent.audit.record import GENESIS, decode, digest_of

_PRUNED = re.compile(r"up to record (\d+)\Z")


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


def verify(folder: Path, *, anchors: Iterable[tuple[int, str]] = ()) -> Verified:
    """Walk the chain of a folder, against (sequence number, digest) pairs that must be in it."""
    walk = _Walk({seq: digest for seq, digest in anchors if seq > 0})
    for path in files_of(folder):
        for number, line in enumerate(lines_of(path), start=1):
            bad = walk.step(path.name, number, line)
            if bad is not None:
                return Verified(walk.records, walk.digest, bad)
    return Verified(walk.records, walk.digest, walk.end())


class _Walk:
    def __init__(self, anchors: dict[int, str]) -> None:
        self.records = 0
        self.seq = 0
        self.digest = GENESIS
        self._anchors = anchors
        self._first: Bad | None = None  # a beginning that is not the first record, unless pruned
        self._place = ("audit.jsonl", 0)

    def step(self, file: str, number: int, line: bytes) -> Bad | None:
        """Take the next line; what is wrong with it, or None."""
        self._place = (file, number)
        if not line.endswith(b"\n"):
            return self._bad(None, "torn: the line has no end")
        record, digests = decode(line), digest_of(line[:-1])
        if record is None or digests is None:
            return self._bad(None, "edited: the line is no record")
        seq = record["seq"]
        if digests[0] != digests[1]:
            return self._bad(seq, "edited: its digest does not fit its content")
        what = self._order(seq, str(record.get("prev")))
        if what is not None:
            return self._bad(seq, what)
        self._note_pruning(record)
        self.records += 1
        self.seq, self.digest = seq, digests[0]
        wanted = self._anchors.pop(seq, None)
        if wanted is not None and wanted != self.digest:
            return self._bad(seq, "rewritten: another record stood here when the store last looked")
        return None

    def end(self) -> Bad | None:
        """What is wrong with the chain as a whole, or None."""
        if self._first is not None:
            return self._first
        missing = sorted(seq for seq in self._anchors if seq > self.seq)
        if missing:
            what = f"truncated: the log once reached record {missing[-1]}"
            return self._bad(self.seq + 1, what)
        return None

    def _order(self, seq: int, prev: str) -> str | None:
        if self.records == 0:
            if (seq, prev) != (1, GENESIS):
                self._first = self._bad(seq, f"removed: the records before {seq} are missing")
            return None
        if seq == self.seq + 1 and prev == self.digest:
            return None
        if seq <= self.seq:
            return "reordered or duplicated: its number came before"
        if seq > self.seq + 1:
            return f"removed: records {self.seq + 1} to {seq - 1} are missing"
        return "rewritten: it does not continue the record before it"

    def _note_pruning(self, record: dict[str, Any]) -> None:
        """A chain may begin late where it says itself that its beginning was pruned."""
        if record.get("event") == "audit" and record.get("action") == "prune" and self._first:
            pruned = _PRUNED.search(str(record.get("because")))
            if pruned is not None and int(pruned[1]) + 1 >= (self._first.seq or 0):
                self._first = None

    def _bad(self, seq: int | None, what: str) -> Bad:
        return Bad(*self._place, seq, what)
