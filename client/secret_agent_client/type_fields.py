"""What `set` must know of the built-in secret types before it asks: primary and plain fields.

The agent owns the types (secret_agent.secret_types); a test holds this table to that one.  Of a
type that is not here every field counts as sensitive, so that a value never stands in an argument
by a gap in this table.
"""

DEFAULT_TYPE = "generic"

_PRIMARY = {
    "generic": "value",
    "login": "password",
    "token": "token",
    "file": "content",
    "postgres-login": "password",
}
_PLAIN = {
    "login": frozenset({"username", "url"}),
    "file": frozenset({"filename"}),
    "postgres-login": frozenset({"username", "host", "port", "database"}),
}


def primary_field(kind: str) -> str:
    """The field that a reference without `#FIELD` means."""
    return _PRIMARY.get(kind, "value")


def type_with_plain(field: str) -> str | None:
    """A type in which that field is not sensitive."""
    return next((kind for kind, fields in _PLAIN.items() if field in fields), None)


def is_plain_field(kind: str, field: str) -> bool:
    """Whether the type marks the field as not sensitive."""
    return field in _PLAIN.get(kind, frozenset())
