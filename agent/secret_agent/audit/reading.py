"""Read records back, a page at a time, without holding more than the page.  Blocking: called in a
thread, while another writes.

Lines that are no records are passed over: `verify` names them.  What a line is about is looked up
in its bytes first: quotes inside a text are escaped, so a key is where it seems to be, and most
lines need not be decoded.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secret_agent.audit.files import close_all, lines_of, open_all
from secret_agent.audit.record import MAX_LINE, decode, time_text
from secret_agent_client.references import glob_matches

_PLACE = re.compile(rb'"seq":(\d{1,15}),(?:"stage":"[^"]*",)?"time":"([^"]*)"')
_NEAR = 64 * 1024  # bytes: where a search by halves gives way to reading on
_LAST_SECOND = 253402300799  # of the year 9999


@dataclass(frozen=True, slots=True)
class _Wanted:
    after: int
    until: int | None
    since: bytes
    secret: str | None
    holder: int | None

    def passes(self, line: bytes) -> bool:
        """Whether the record may be wanted, by its place alone."""
        place = _PLACE.search(line)
        if place is None or place[2] < self.since:
            return False
        return self.after < int(place[1]) and (self.until is None or int(place[1]) <= self.until)

    def fits(self, record: dict[str, Any]) -> bool:
        if self.secret is not None and not glob_matches(self.secret, record.get("secret", "")):
            return False
        return self.holder is None or record.get("holder", {}).get("pid") == self.holder


def read(
    folder: Path,
    *,
    after: int | None = None,
    until: int | None = None,
    since: int | None = None,
    limit: int = 200,
    secret: str | None = None,
    holder: int | None = None,
) -> list[dict[str, Any]]:
    """Up to `limit` records, oldest first: behind a sequence number and up to another, from a Unix
    time on, of secrets that a glob matches, of a holder's pid.  Raises OSError.
    """
    if since is not None and since > _LAST_SECOND:
        return []
    wanted = _Wanted(after or 0, until, time_text(since or 0).encode(), secret, holder)
    found: list[dict[str, Any]] = []
    for line in _lines(folder, wanted.after):
        record = decode(line) if wanted.passes(line) else None
        if record is not None and wanted.fits(record):
            found.append(record)
            if len(found) >= limit:
                break
    return found


def _lines(folder: Path, after: int) -> Iterator[bytes]:
    """The lines that may stand behind a sequence number, and few before it."""
    opened = open_all(folder)
    try:
        descriptors = _from([descriptor for _, descriptor in opened], after)
        for number, descriptor in enumerate(descriptors):
            os.lseek(descriptor, _offset(descriptor, after) if number == 0 else 0, os.SEEK_SET)
            yield from lines_of(descriptor)
    finally:
        close_all(opened)


def _from(descriptors: list[int], after: int) -> list[int]:
    """The files that may hold what comes behind a sequence number."""
    for at in range(len(descriptors) - 1, 0, -1):
        first = _seq_at(descriptors[at], 0)
        if first is not None and first <= after + 1:
            return descriptors[at:]
    return descriptors


def _offset(descriptor: int, after: int) -> int:
    """Where a line begins that is not far before the first one behind a sequence number."""
    low, high = 0, os.fstat(descriptor).st_size
    while high - low > _NEAR:
        middle = (low + high) // 2
        newline = os.pread(descriptor, MAX_LINE, middle).find(b"\n")
        seq = _seq_at(descriptor, middle + newline + 1) if newline >= 0 else None
        if seq is None:
            break
        if seq <= after:
            low = middle + newline + 1
        else:
            high = middle
    return low


def _seq_at(descriptor: int, offset: int) -> int | None:
    """The sequence number of the line that begins at an offset, or None."""
    line = os.pread(descriptor, MAX_LINE, offset).partition(b"\n")[0]
    place = _PLACE.search(line)
    return None if place is None else int(place[1])
