"""The built-in types.  Pure: a type is data, and what it says of fields is decided here alone.

A type that knows fields does not forbid others: what is not named is kept as it is, and is
sensitive.  Only a name that looks
like a slip for a sensitive one would be worth refusing, and that is the client's to ask about.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

from secret_agent_client.errors import InvalidError


@dataclass(frozen=True, slots=True)
class FieldType:
    """What a type says of one field."""

    sensitive: bool = True
    required: bool = False
    generate: str | None = None  # the spec used where none is given
    derive: str | None = None  # a template over other fields: {name} or {name|url}


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
        return tuple(
            name
            for name, known in self.fields.items()
            if known.derive is not None and name not in there and _parts(known.derive) <= there
        )

    def derive(self, name: str, stored: Mapping[str, bytes]) -> bytes:
        """A derived field's value."""
        template = self.fields[name].derive
        assert template is not None, "derivable() says which are"  # noqa: S101  # a bug of the caller
        out = bytearray()
        for literal, part in _split(template):
            out += literal.encode()
            if part:
                plain, _, form = part.partition("|")
                value = stored[plain]
                out += quote(value, safe="").encode() if form == "url" else value
        return bytes(out)


GENERIC = SecretType("generic", "value")

_BUILT_IN = (
    GENERIC,
    SecretType(
        "login",
        "password",
        {
            "username": FieldType(sensitive=False),
            "password": FieldType(generate="alnum:32"),
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
            "host": FieldType(sensitive=False),
            "port": FieldType(sensitive=False),
            "database": FieldType(sensitive=False),
            "url": FieldType(
                derive="postgresql://{username|url}:{password|url}@{host}:{port}/{database}"
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
