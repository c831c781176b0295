"""Where in a policy's text a key stands: tomllib tells what a text means and not where.

It looks at lines, not at TOML: the text has been parsed already, so every header and key is where
it seems to be, except inside a
multi-line string, where a wrong line would be told for a right problem.
"""

import re
from dataclasses import dataclass

_HEADER = re.compile(r"\s*\[\[\s*rule\s*\]\]")
_SUBTABLE = re.compile(r"\s*\[\s*rule\s*\.\s*([A-Za-z_]+)\s*\]")
_OTHER = re.compile(r"\s*\[")


@dataclass(frozen=True, slots=True)
class Place:
    """A line and a column, from 1."""

    line: int
    column: int


def locate(text: str, rule: int | None, key: str) -> Place:
    """The place of a key ("effect", "holder.exe") in the rule of that number, from 0, or outside
    of all rules.

    Where the key itself is not found (it is missing, or inside an inline table that spans lines),
    its table or its
    rule's beginning.
    """
    table, _, name = key.rpartition(".")
    best = Place(1, 1)
    for line, inside, content in _lines(text):
        number, current = inside
        if number != rule:
            continue
        if _HEADER.match(content):
            best = Place(line, content.index("[") + 1)
        found = _find(content, name) if current == table else None
        if found is None and table and not current:
            found = _find_inline(content, table, name)
        if found is not None:
            return Place(line, found + 1)
    return best


def _lines(text: str) -> "list[tuple[int, tuple[int | None, str], str]]":
    """(line, (rule, table within it), content) of every line."""
    rule: int | None = None
    table = ""
    count = -1
    lines = []
    for line, content in enumerate(text.split("\n"), start=1):
        subtable = _SUBTABLE.match(content)
        if _HEADER.match(content):
            count += 1
            rule, table = count, ""
        elif subtable is not None:
            table = subtable[1]
        elif _OTHER.match(content) and "=" not in content:
            rule, table = None, ""
        lines.append((line, (rule, table), content))
    return lines


def _find(content: str, name: str) -> int | None:
    found = re.match(rf"""\s*(?P<key>"{re.escape(name)}"|{re.escape(name)})\s*[=.]""", content)
    return None if found is None else found.start("key")


def _find_inline(content: str, table: str, name: str) -> int | None:
    """The key within `table = { name = … }`, or the table's own key."""
    begin = _find(content, table)
    if begin is None:
        return None
    found = re.search(rf"""[{{,.]\s*(?P<key>"?{re.escape(name)}"?)\s*=""", content[begin:])
    return begin if found is None else begin + found.start("key")
