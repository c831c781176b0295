"""What may be stored: names by the grammar of references, sizes by the limits of the wire.  Pure.

Rules that hold here: an error names the field and its size, never its value.
"""

from collections.abc import Mapping

from secret_agent_client.errors import InvalidError
from secret_agent_client.messages import MAX_FIELDS, MAX_INT, MAX_SECRET, MAX_TEXT, MAX_VALUE
from secret_agent_client.references import check_field, check_name, check_stage
from secret_agent_client.value import SecretValue

MAX_TYPE = 63  # characters


def check_place(name: str, stage: str) -> None:
    """Raise InvalidError unless name and stage ("" is the one without a name) fit their grammar."""
    check_name(name)
    if stage:
        check_stage(stage)


def check_values(fields: Mapping[str, bytes]) -> dict[str, SecretValue]:
    """The given values, each within its limit."""
    for name, value in fields.items():
        check_field(name)
        if len(value) > MAX_VALUE:
            raise InvalidError(f"the field {name} has {len(value)} bytes; the most is {MAX_VALUE}")
    return {name: SecretValue(value) for name, value in fields.items()}


def check_whole(fields: Mapping[str, SecretValue]) -> None:
    """Raise InvalidError unless a secret's fields together are within their limits."""
    if not fields:
        raise InvalidError("a secret without any field")
    if len(fields) > MAX_FIELDS:
        raise InvalidError(f"a secret with {len(fields)} fields; the most is {MAX_FIELDS}")
    size = sum(len(value) for value in fields.values())
    if size > MAX_SECRET:
        raise InvalidError(f"the fields have {size} bytes together; the most is {MAX_SECRET}")


def check_texts(*, type: str, by: str, note: str | None) -> None:  # noqa: A002  # the record's own word
    """Raise InvalidError for a text that is too long."""
    if not 0 < len(type) <= MAX_TYPE:
        raise InvalidError(f"the type has {len(type)} characters; it needs 1 to {MAX_TYPE}")
    for what, text in (("author", by), ("note", note)):
        if text is not None and len(text) > MAX_TEXT:
            raise InvalidError(f"the {what} has {len(text)} characters; the most is {MAX_TEXT}")


def check_times(**times: int | None) -> None:
    """Raise InvalidError naming the first time that is no whole Unix second."""
    for what, time_s in times.items():
        if time_s is not None and not 0 <= time_s <= MAX_INT:
            raise InvalidError(f"{what} is not from 0 to {MAX_INT} seconds")
