"""What the masker looks for, arranged so that one pass of a compiled expression finds all of it.

A pattern is one form of one value (encodings.py).  Trying hundreds of patterns at every byte would
be slow, and an alternation of whole patterns could not tell what has begun but not ended.  So each
pattern gives one **window**: WINDOW bytes out of its first HEAD bytes, the ones that ordinary text
holds most seldom at their beginning.  A window that is found says which patterns to compare, and
where; all else passes at the speed of `re`.  Because a window ends within the head, a pattern that
has begun is found as soon as HEAD of its bytes are there; what is shorter is looked up in `heads`.

Rules that hold here: pure, no I/O; nothing is printed and no pattern is ever shown.
"""

import re
from collections import Counter
from collections.abc import Iterable

from secret_agent_client.encodings import forms_of

WINDOW = 6  # bytes; the shortest pattern there is
HEAD = 14  # bytes from a pattern's beginning within which its window ends; more gains nothing
FIRM = 6  # bytes; a prefix that has come this far, or half its pattern, is not let go

_COMMON = b" etaoinsrhl\n"
_LOWER = b"dcumfpgwybvkxjqz"
_SIGNS = b"0123456789./-_:=,\"'()"
_NEVER = re.compile(b"(?!)")


class Patterns:
    """All patterns of one run; made once, shared by the maskers of its streams.

    search: finds the next window.  at: from a window to its (offset in pattern, pattern) pairs.
    heads: every proper prefix shorter than HEAD.  firm_heads: those that are not let go.
    """

    __slots__ = ("at", "firm_heads", "heads", "is_empty", "longest", "search")

    def __init__(self, patterns: Iterable[bytes]) -> None:
        every = frozenset(patterns)
        assert all(len(pattern) >= WINDOW for pattern in every), "too short"  # noqa: S101  # a bug of ours
        self.is_empty = not every
        self.longest = max(map(len, every), default=0)
        self.at = _windows(every)
        self.search = (re.compile(_trie(sorted(self.at))) if every else _NEVER).search
        self.heads = frozenset(
            pattern[:length] for pattern in every for length in range(1, min(HEAD, len(pattern)))
        )
        self.firm_heads = frozenset(
            pattern[:length]
            for pattern in every
            for length in range(min(FIRM, (len(pattern) + 1) // 2), min(HEAD, len(pattern)))
        )


def compile_patterns(values: Iterable[bytes]) -> Patterns:
    """The patterns of all forms of all values; values too short to be masked give none."""
    forms: set[bytes] = set()
    for value in values:
        forms |= forms_of(value)
    return Patterns(forms)


def _windows(patterns: frozenset[bytes]) -> dict[bytes, tuple[tuple[int, bytes], ...]]:
    firsts = _first_bytes(patterns)
    found: dict[bytes, list[tuple[int, bytes]]] = {}
    for pattern in patterns:
        offset = min(_offsets(pattern), key=lambda at: _cost(pattern[at : at + WINDOW], firsts))
        found.setdefault(pattern[offset : offset + WINDOW], []).append((offset, pattern))
    return {window: tuple(pairs) for window, pairs in found.items()}


def _first_bytes(patterns: Iterable[bytes]) -> frozenset[int]:
    """A small set of seldom bytes so that every pattern has a window that begins with one.

    `re` stops at each of them and at nothing else, so this set decides how quick the search is.
    Greedy: the best set is a covering problem, and nearly as good will do.
    """
    wanted = [frozenset(pattern[at] for at in _offsets(pattern)) for pattern in patterns]
    chosen: set[int] = set()
    while wanted:
        count = Counter(byte for bytes_ in wanted for byte in bytes_)
        best = max(count, key=lambda byte: (count[byte] / _weight(byte), byte))
        chosen.add(best)
        wanted = [bytes_ for bytes_ in wanted if best not in bytes_]
    return frozenset(chosen)


def _offsets(pattern: bytes) -> range:
    return range(min(HEAD, len(pattern)) - WINDOW + 1)


def _cost(window: bytes, firsts: frozenset[int]) -> tuple[bool, int, int]:
    """How bad a window is: one whose first byte was not chosen; then one of few different bytes
    (rulers, indentation); then one of common bytes.
    """
    return window[0] not in firsts, -len(set(window)), sum(map(_weight, window))


def _weight(byte: int) -> int:
    if byte in _COMMON:
        return 8
    if byte in _LOWER:
        return 6
    return 3 if byte in _SIGNS else 1


def _trie(words: list[bytes]) -> bytes:
    """An expression that matches one of the sorted words, all of one length, looking at each byte
    once: an alternation by first byte, whose branches are again tries.
    """
    groups: dict[int, list[bytes]] = {}
    for word in words:
        groups.setdefault(word[0], []).append(word[1:])
    branches = [
        re.escape(bytes([first])) + (_trie(rest) if rest[0] else b"")
        for first, rest in groups.items()
    ]
    return branches[0] if len(branches) == 1 else b"(?:" + b"|".join(branches) + b")"
