"""`inject`: find references in a template and put values where they stand; pure, bytes to bytes.

    {{ secret://NAME#FIELD }}            the value's bytes, as they are
    {{ secret://NAME#FIELD | FILTER }}   json, shell, url or base64 of them
    "secret://NAME#FIELD"                the value between the same quotes; '…' likewise

Rules that hold here (T31):

* all references are found and checked before any value is asked for: a bad one names its line and
  column, and nothing is filled;
* a value that would end its quotes, or mean something else between them, is refused: in braces it
  goes in as it is, and a filter quotes it;
* other braces, and references that stand bare, belong to somebody else and are left alone;
* nothing here echoes a piece of the template, which may hold values of its own.

The grammar is told in client/REFERENCES.md.
"""

import base64
import json
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import quote

from secret_agent_client.errors import InvalidError
from secret_agent_client.references import Reference, parse_reference
from secret_agent_client.value import SecretValue

MAX_TEMPLATE = 16 * 1024 * 1024  # bytes
MAX_SLOTS = 10_000  # places to fill in one template

_FOUND = re.compile(
    rb"""\{\{[ \t]*(?P<braced>secret://[^{}\n]*)(?P<close>\}\})?"""
    rb"""|(?P<quote>["'])(?P<quoted>secret://[^"'\n]*)(?P=quote)"""
    rb"""|(?P<loose>secret://)"""
)


@dataclass(frozen=True, slots=True)
class Slot:
    """A place to fill: bytes begin..end of the template.  quote: `"` or `'` around it, or ''."""

    begin: int
    end: int
    reference: Reference
    filter: str
    quote: str
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed template.  loose: lines with a reference that stands bare and is left alone."""

    data: bytes
    slots: tuple[Slot, ...]
    loose: tuple[int, ...]

    @property
    def references(self) -> tuple[Reference, ...]:
        """Each reference once, in the order of first use."""
        return tuple(dict.fromkeys(slot.reference for slot in self.slots))


def parse_template(data: bytes) -> Template:
    """Find every place to fill.  Raises InvalidError naming line and column of a bad one."""
    if len(data) > MAX_TEMPLATE:
        raise InvalidError(f"the template has more than {MAX_TEMPLATE} bytes")
    slots: list[Slot] = []
    loose: list[int] = []
    line, line_start, counted = 1, 0, 0
    for found in _FOUND.finditer(data):
        line += data.count(b"\n", counted, found.start())
        line_start = max(line_start, data.rfind(b"\n", counted, found.start()) + 1)
        counted = found.start()
        if found["loose"] is not None:
            loose.append(line)
        else:
            slots.append(_slot(found, line, found.start() - line_start + 1))
        if len(slots) > MAX_SLOTS:
            raise InvalidError(f"the template has more than {MAX_SLOTS} references")
    return Template(data, tuple(slots), tuple(dict.fromkeys(loose)))


def fill(template: Template, values: Mapping[Reference, SecretValue]) -> bytearray:
    """The template with every value in its place; the caller wipes what it gets.

    Raises InvalidError where a value cannot stand where it is asked for; KeyError is a bug.
    """
    out = bytearray()
    at = 0
    for slot in template.slots:
        out += template.data[at : slot.begin]
        out += _render(slot, values[slot.reference].reveal())
        at = slot.end
    out += template.data[at:]
    return out


def _slot(found: "re.Match[bytes]", line: int, column: int) -> Slot:
    place = f"the template, line {line}, column {column}"
    if found["quoted"] is not None:
        text, name, mark = found["quoted"].decode("utf-8", "replace"), "", found["quote"].decode()
        begin, end = found.span("quoted")
    else:
        if found["close"] is None:
            raise InvalidError(f"{place}: braces that do not close on the same line")
        text, _, name = found["braced"].decode("utf-8", "replace").partition("|")
        text, name, mark = text.rstrip(" \t"), name.strip(" \t"), ""
        begin, end = found.span()
    if name and name not in FILTERS:
        raise InvalidError(f"{place}: unknown filter; known are {', '.join(FILTERS)}")
    try:
        reference = parse_reference(text)
    except InvalidError as error:
        raise InvalidError(f"{place}: {error.message}", remedy=error.remedy) from None
    return Slot(begin, end, reference, name, mark, line, column)


def _render(slot: Slot, value: bytes) -> bytes:
    if slot.filter:
        return FILTERS[slot.filter](value, slot)
    if slot.quote and (slot.quote.encode() in value or b"\\" in value or _has_control(value)):
        raise InvalidError(
            f"the value of {slot.reference} cannot stand between quotes at line {slot.line}: "
            "it has a quote, a backslash or a control character; "
            f"write {{{{ {slot.reference} | json }}}} there, without quotes"
        )
    return value


def _has_control(value: bytes) -> bool:
    return any(byte < 0x20 or byte == 0x7F for byte in value)


def _json(value: bytes, slot: Slot) -> bytes:
    return json.dumps(_text(value, slot), ensure_ascii=False).encode()


def _shell(value: bytes, slot: Slot) -> bytes:
    if b"\0" in value:
        raise InvalidError(f"the value of {slot.reference} has a NUL, which no shell can hold")
    return shlex.quote(value.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")


def _url(value: bytes, _: Slot) -> bytes:
    return quote(value, safe="").encode()


def _base64(value: bytes, _: Slot) -> bytes:
    return base64.b64encode(value)


def _text(value: bytes, slot: Slot) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise InvalidError(
            f"the value of {slot.reference} is not UTF-8, so it cannot stand in JSON; "
            f"write {{{{ {slot.reference} | base64 }}}} there"
        ) from None


FILTERS: dict[str, Callable[[bytes, Slot], bytes]] = {
    "json": _json,
    "shell": _shell,
    "url": _url,
    "base64": _base64,
}
"""What may stand after `|`; json and shell bring their own quotes."""
