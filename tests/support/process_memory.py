"""How often some bytes stand in the memory of another process; for root.

Every page that the process may write is read; what is shared with a file is not.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

CHUNK = 1 << 20  # bytes read at once


def copies_in(pid: int, needles: Mapping[str, bytes]) -> dict[str, int]:
    """How often each of the needles is found; the process goes on meanwhile."""
    longest = max(map(len, needles.values()))
    found = dict.fromkeys(needles, 0)
    memory = os.open(f"/proc/{pid}/mem", os.O_RDONLY)
    try:
        for start, end in _writable(pid):
            for chunk in _chunks(memory, start, end, longest - 1):
                _count(chunk, needles, found)
    finally:
        os.close(memory)
    return found


def _count(chunk: tuple[bytes, int], needles: Mapping[str, bytes], found: dict[str, int]) -> None:
    """Count what begins in the chunk's own part, not in what the next one begins with again."""
    data, own = chunk
    for name, needle in needles.items():
        at = data.find(needle)
        while 0 <= at < own:
            found[name] += 1
            at = data.find(needle, at + 1)


def _chunks(memory: int, start: int, end: int, overlap: int) -> Iterator[tuple[bytes, int]]:
    """(bytes, how many of them are not in the next chunk too)."""
    for at in range(start, end, CHUNK):
        own = min(CHUNK, end - at)
        try:
            data = os.pread(memory, min(CHUNK + overlap, end - at), at)
        except OSError:  # a guard page, or one that was given back meanwhile
            continue
        yield data, own


def _writable(pid: int) -> Iterable[tuple[int, int]]:
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        span, access, *_ = line.split()
        if access.startswith("rw"):
            start, _, end = span.partition("-")
            yield int(start, 16), int(end, 16)
