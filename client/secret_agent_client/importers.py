"""`import FILE`: what a file of another layout holds, as secrets to be written.  Only reads.

Layouts, told apart by content: `.env`, JSON (our own, `op item get --format json`, `vault kv get
-format=json`), and a `pass` folder.  Rules that hold here:

* every item ends up in `found` or in `left` with its reason; nothing is dropped without a word;
* a name is made to fit the grammar of references; two items that come to the same name are both
  told of and the second is left;
* values are SecretValues from here on, and no reason quotes one.

Encrypted backups are not read here: the agent reads those from a descriptor.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from secret_agent_client.dotenv import is_environment_name, parse_dotenv
from secret_agent_client.errors import InvalidError
from secret_agent_client.messages import MAX_SECRET, MAX_VALUE
from secret_agent_client.references import (
    MAX_SEGMENT,
    Reference,
    check_field,
    check_name,
    is_reference,
    parse_reference,
)
from secret_agent_client.value import SecretValue

PRIMARY = "value"  # the primary field of a secret without a type of its own

_NAME = frozenset("abcdefghijklmnopqrstuvwxyz0123456789._-")
_FIELD = _NAME | frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_ALNUM = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")


@dataclass(frozen=True, slots=True)
class Found:
    """One secret to be written.  env: the environment name it had; where: its place, for people."""

    name: str
    fields: Mapping[str, SecretValue]
    where: str
    env: str | None = None
    type: str | None = None
    note: str | None = None


@dataclass(slots=True)
class Imported:
    """What a file holds: secrets by name, references that stood in it, and what was left."""

    found: dict[str, Found] = field(default_factory=dict)
    references: dict[str, Reference] = field(default_factory=dict)
    left: list[tuple[str, str]] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)

    def leave(self, where: str, why: str) -> None:
        """Tell of an item that is not taken."""
        self.left.append((where, why))

    def take(self, item: Found) -> None:
        """Take a secret, or leave it where it cannot be one or its name is taken."""
        sizes = [len(value) for value in item.fields.values()]
        if not any(sizes):
            self.leave(item.where, "empty")
        elif max(sizes) > MAX_VALUE or sum(sizes) > MAX_SECRET:
            self.leave(item.where, "too large")
        elif item.name in self.found:
            self.leave(item.where, f"the same name as {self.found[item.name].where}")
        else:
            self.found[item.name] = item

    def prefixed(self, prefix: str) -> "Imported":
        """The same below a prefix, whose slash at the end is optional.  Raises InvalidError."""
        if not prefix:
            return self
        check_name(prefix.rstrip("/"))
        found = {}
        for item in self.found.values():
            name = check_name(prefix.rstrip("/") + "/" + item.name)
            found[name] = Found(name, item.fields, item.where, item.env, item.type, item.note)
        return Imported(found, self.references, self.left, self.notes)


def read_layout(data: bytes, *, stem: str) -> Imported:
    """Read a file.  `stem` names the secret of a layout that does not name it itself.

    Raises InvalidError where it is no layout that is known here.
    """
    if data.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"["):
        from secret_agent_client.importers_json import read_json

        return read_json(data, stem=stem)
    return read_env(data)


def read_env(data: bytes) -> Imported:
    """A `.env` file: each name a secret of its own, in lower case."""
    parsed = parse_dotenv(data)
    result = Imported()
    for line, why in parsed.left:
        result.leave(f"line {line}", why)
    last = {item.name: item for item in parsed.assignments}
    for item in parsed.assignments:
        where = f"line {item.line} ({item.name})"
        if last[item.name] is not item:
            result.leave(where, f"assigned again at line {last[item.name].line}")
            continue
        reference = _reference_in(item.value)
        if reference is not None:
            result.references[item.name] = reference
            result.leave(where, "a reference already")
            continue
        if item.expands:
            result.notes.append((where, "it has a $, which was taken as it stands"))
        name = secret_name(item.name)
        result.take(Found(name, {PRIMARY: item.value}, where, env=item.name))
    if not (result.found or result.left):
        raise InvalidError("the file holds nothing that can be imported")
    return result


def secret_name(text: str) -> str:
    """A name like the text, lower case, what may not stand in one made `-`; '' if nothing is left.

    Slashes part segments; a segment that comes out empty is dropped.
    """
    segments = (_segment(part) for part in text.lower().split("/"))
    return "/".join(part for part in segments if part)


def field_name(text: str) -> str:
    """A field's name like the text; '' if nothing of it is left."""
    mapped = "".join(char if char in _FIELD else "_" for char in text.strip())
    mapped = mapped.lstrip("._-")[:MAX_SEGMENT].rstrip("_")
    try:
        return check_field(mapped)
    except InvalidError:
        return ""


def env_name(text: str) -> str | None:
    """The text, if it can be the name of a variable as it stands."""
    return text if is_environment_name(text) else None


def distinct_fields(
    pairs: Iterable[tuple[str, SecretValue]], result: Imported, where: str
) -> dict[str, SecretValue]:
    """Fields by name; those without a usable name of their own are left and told of."""
    fields: dict[str, SecretValue] = {}
    for label, value in pairs:
        name = field_name(label)
        if not name:
            result.leave(where, "a field whose name has no usable character")
        elif name in fields:
            result.leave(where, f"a second field {name}")
        else:
            fields[name] = value
    return fields


def _segment(text: str) -> str:
    mapped = "".join(char if char in _NAME else "-" for char in text.strip())
    while mapped and mapped[0] not in _ALNUM:
        mapped = mapped[1:]
    return mapped[:MAX_SEGMENT].rstrip("-")


def _reference_in(value: SecretValue) -> Reference | None:
    text = value.reveal().decode()
    if not is_reference(text):
        return None
    try:
        return parse_reference(text)
    except InvalidError:
        return None
