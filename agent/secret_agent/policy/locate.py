"""Where in a TOML text each key and value stands: tomllib tells what a text means and not where.

The text has been parsed already, so what is scanned here is valid TOML 1.0 and the scanner need not
refuse anything; it walks all of it once.  Every path that tomllib's tables have gets a place:
`("rule", 0, "holder", "exe", 1)` is the second item of `exe` in the `holder` of the first rule.
"""

import re
import tomllib
from bisect import bisect_right
from itertools import count
from typing import NamedTuple

Path = tuple[str | int, ...]

_BLANK = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR = re.compile(r"[^,\]}#\n]+")
_STRING = re.compile(
    r'"""(?:[^"\\]|\\.|"{1,2}(?!"))*"{3,5}|'
    r"'''(?:[^']|'{1,2}(?!'))*'{3,5}|"
    r'"(?:[^"\\]|\\.)*"|'
    r"'[^']*'",
    re.DOTALL,
)


class Place(NamedTuple):
    """A line and a column, from 1."""

    line: int
    column: int


class Places:
    """The places of one text."""

    def __init__(self, text: str) -> None:
        self._starts = [0, *(found.end() for found in re.finditer("\n", text))]
        self._offsets = _Scanner(text).scan()

    def of(self, path: Path) -> Place:
        """The place of a path; of one that is not there, that of the table it would be in."""
        while path and path not in self._offsets:
            path = path[:-1]
        offset = self._offsets.get(path, 0)
        line = bisect_right(self._starts, offset) - 1
        return Place(line + 1, offset - self._starts[line] + 1)

    @property
    def paths(self) -> frozenset[Path]:
        return frozenset(self._offsets)


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._offsets: dict[Path, int] = {}
        self._counts: dict[Path, int] = {}  # tables so far of each array of tables

    def scan(self) -> dict[Path, int]:
        base: Path = ()
        self._skip()
        while self._at < len(self._text):
            if self._text[self._at] == "[":
                base = self._header()
            else:
                self._pair(base)
            self._skip()
        return self._offsets

    def _header(self) -> Path:
        """`[a.b]` or `[[a.b]]`: the path of the table that follows."""
        begin = self._at
        brackets = 2 if self._text.startswith("[[", begin) else 1
        self._at += brackets
        parts = self._key()
        self._at = self._text.index("]", self._at) + brackets
        path: Path = ()
        for number, (part, _) in enumerate(parts, start=1):
            path = (*path, part)
            self._offsets.setdefault(path, begin)
            if number == len(parts) and brackets == 2:
                self._counts[path] = self._counts.get(path, 0) + 1
            if path in self._counts:
                path = (*path, self._counts[path] - 1)
                self._offsets.setdefault(path, begin)
        return path

    def _pair(self, base: Path) -> None:
        """`a.b = value`."""
        path = base
        for part, offset in self._key():
            path = (*path, part)
            self._offsets.setdefault(path, offset)
        self._at = self._text.index("=", self._at) + 1
        self._value(path)

    def _key(self) -> list[tuple[str, int]]:
        """The parts of a dotted key, each with its offset; behind it stands `=` or `]`."""
        parts = []
        while True:
            self._skip()
            offset = self._at
            found = _STRING.match(self._text, offset) or _BARE_KEY.match(self._text, offset)
            assert found is not None, "the text is valid TOML"  # noqa: S101  # tomllib has read it
            self._at = found.end()
            parts.append((_unquoted(found[0]), offset))
            self._skip()
            if self._text[self._at] != ".":
                return parts
            self._at += 1

    def _value(self, path: Path) -> None:
        self._skip()
        opening = self._text[self._at]
        if opening == "[":
            self._array(path)
        elif opening == "{":
            self._inline_table(path)
        else:
            kind = _STRING if opening in "\"'" else _SCALAR
            found = kind.match(self._text, self._at)
            assert found is not None, "the text is valid TOML"  # noqa: S101  # tomllib has read it
            self._at = found.end()

    def _array(self, path: Path) -> None:
        self._at += 1
        self._skip()
        numbers = count()
        while self._text[self._at] != "]":
            item = (*path, next(numbers))
            self._offsets[item] = self._at
            self._value(item)
            self._comma()
        self._at += 1

    def _inline_table(self, path: Path) -> None:
        self._at += 1
        self._skip()
        while self._text[self._at] != "}":
            self._pair(path)
            self._comma()
        self._at += 1

    def _comma(self) -> None:
        self._skip()
        if self._text[self._at] == ",":
            self._at += 1
            self._skip()

    def _skip(self) -> None:
        """Go past blanks, ends of lines and comments."""
        found = _BLANK.match(self._text, self._at)
        assert found is not None, "nothing is a blank too"  # noqa: S101  # of the expression
        self._at = found.end()


def _unquoted(key: str) -> str:
    """A key as tomllib has it: an escape in it is rare enough to ask tomllib."""
    if key[0] not in "\"'":
        return key
    if "\\" not in key:
        return key[1:-1]
    return next(iter(tomllib.loads(f"{key} = 0")))
