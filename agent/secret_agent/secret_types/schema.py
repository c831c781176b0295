"""The built-in types.  Pure: a type is data, and what it says of fields is decided here alone.

A type that knows fields does not forbid others: what is not named is kept as it is, and is
sensitive.  Only a name that looks like a slip for a sensitive one would be worth refusing, and that
is the client's to ask about.

A field that stands in a derived one as it is, unquoted, has a form that cannot end the part it
stands in: no host name ever moves a password to another host.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

from secret_agent_client.errors import InvalidError

HOST = re.compile(
    rb"[A-Za-z0-9]([A-Za-z0-9._-]{0,252})|\[[0-9A-Fa-f:.]{2,45}\]|%2[Ff][A-Za-z0-9._%-]+"
)
"""A name, an address, an IPv6 address in brackets, or libpq's quoted folder of a socket."""
PORT = re.compile(rb"[0-9]{1,5}")


@dataclass(frozen=True, slots=True)
class FieldType:
    """What a type says of one field."""

    sensitive: bool = True
    required: bool = False
    generate: str | None = None  # the spec used where none is given
    derive: str | None = None  # a template over other fields: {name} or {name|url}
    default: bytes | None = None  # stands in a derived field where this one is not there
    form: re.Pattern[bytes] | None = None  # all of a value must match it


@dataclass(frozen=True, slots=True)
class SecretType:
    """One type."""

    name: str
    primary: str
    fields: Mapping[str, FieldType] = field(default_factory=dict)

    def check(self, given: Mapping[str, bytes], *, also: Iterable[str] = ()) -> None:
        """Raise InvalidError unless these fields, with those that are kept, make a secret of this
        type.
        """
        there = set(given) | set(also)
        for name, known in self.fields.items():
            if known.required and name not in there:
                raise InvalidError(
                    f"a secret of type {self.name} needs the field {name}",
                    remedy=f"secret-agent set NAME --type {self.name} --field {name}",
                )
            if known.derive is not None and name in given:
                raise InvalidError(f"the field {name} of type {self.name} is derived from others")
            if name in given:
                self._check_form(name, given[name])

    def is_sensitive(self, name: str) -> bool:
        """Whether a field's value must never be shown or typed as an argument."""
        known = self.fields.get(name)
        return known is None or known.sensitive

    def generate_spec(self, name: str) -> str:
        """What a field is made of where nothing is said."""
        known = self.fields.get(name)
        return known.generate if known is not None and known.generate else "alnum:32"

    def derivable(self, stored: Iterable[str]) -> tuple[str, ...]:
        """The derived fields for which everything is there."""
        there = set(stored)
        known_of = self.fields
        defaults = {name for name, known in known_of.items() if known.default is not None}
        return tuple(
            name
            for name, known in known_of.items()
            if known.derive is not None
            and name not in there
            and _parts(known.derive) <= there | defaults
        )

    def derive(self, name: str, stored: Mapping[str, bytes]) -> bytes:
        """A derived field's value.  Raises InvalidError naming a field that is not of its form."""
        template = self.fields[name].derive
        assert template is not None, "derivable() says which are"  # noqa: S101  # a bug of the caller
        out = bytearray()
        for literal, part in _split(template):
            out += literal.encode()
            if part:
                plain, _, form = part.partition("|")
                value = self._part(plain, stored)
                out += quote(value, safe="").encode() if form == "url" else value
        return bytes(out)

    def _part(self, name: str, stored: Mapping[str, bytes]) -> bytes:
        if name in stored:
            self._check_form(name, stored[name])
            return stored[name]
        default = self.fields[name].default
        assert default is not None, "derivable() says which are"  # noqa: S101  # a bug of the caller
        return default

    def _check_form(self, name: str, value: bytes) -> None:
        form = self.fields[name].form if name in self.fields else None
        if form is not None and form.fullmatch(value) is None:
            raise InvalidError(f"the field {name} of type {self.name} is no {name}")


GENERIC = SecretType("generic", "value")

_BUILT_IN = (
    GENERIC,
    SecretType(
        "login",
        "password",
        {
            "username": FieldType(sensitive=False),
            "password": FieldType(required=True, generate="alnum:32"),
            "url": FieldType(sensitive=False),
        },
    ),
    SecretType("token", "token", {"token": FieldType(generate="hex:32")}),
    SecretType("file", "content", {"filename": FieldType(sensitive=False)}),
    SecretType(
        "postgres-login",
        "password",
        {
            "username": FieldType(sensitive=False, required=True),
            "password": FieldType(generate="alnum:32"),
            "host": FieldType(sensitive=False, form=HOST),
            "port": FieldType(sensitive=False, form=PORT, default=b"5432"),
            "database": FieldType(sensitive=False),
            "url": FieldType(
                derive="postgresql://{username|url}:{password|url}@{host}:{port}/{database|url}"
            ),
        },
    ),
)
TYPES = {each.name: each for each in _BUILT_IN}


def get_type(name: str) -> SecretType:
    """The type of that name.  Raises InvalidError naming those that there are."""
    found = TYPES.get(name)
    if found is None:
        raise InvalidError(f"there is no such type; there are {', '.join(TYPES)}")
    return found


def _split(template: str) -> list[tuple[str, str]]:
    """(literal, part) pairs: "a{b}c" is ("a", "b"), ("c", "")."""
    pairs = []
    for piece in template.split("}"):
        literal, _, part = piece.partition("{")
        pairs.append((literal, part))
    return pairs


def _parts(template: str) -> set[str]:
    return {part.partition("|")[0] for _, part in _split(template) if part}
