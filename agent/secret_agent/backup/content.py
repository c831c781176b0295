"""What is inside of a backup: JSON, one line a version.  FORMAT.md section 2.

Rules that hold here: whoever knows a recipient can write a backup to it, so nothing of the content
is trusted: every line is bounded, has exactly the known keys with exactly their types, and its
names fit their grammar; the last line says how many there were; an error names the line and the
key, never what stands there.
"""

import base64
import binascii
import json
from collections.abc import Iterable, Iterator
from typing import Any, Final

from secret_agent.store.checks import (
    check_place,
    check_texts,
    check_times,
    check_values,
    check_whole,
)
from secret_agent.store.records import Record
from secret_agent_client.errors import InvalidError
from secret_agent_client.messages import MAX_INT

VERSION: Final = 1
MAX_LINE = 2 * 1024 * 1024  # bytes: the largest secret in base64, and its metadata

_SHAPE: dict[str, tuple[type, ...]] = {
    "name": (str,),
    "stage": (str,),
    "version": (int,),
    "type": (str,),
    "created_at": (int,),
    "by": (str,),
    "note": (str, type(None)),
    "expires_at": (int, type(None)),
    "rotate_due": (int, type(None)),
    "fields": (dict,),
}


def write_lines(store_id: str, records: Iterable[Record]) -> Iterator[bytes]:
    """The lines of a backup."""
    yield _line({"secret-agent-backup": VERSION, "store": store_id})
    count = 0
    for record in records:
        yield _line(_to_json(record))
        count += 1
    yield _line({"end": count})


def read_lines(chunks: Iterable[bytes]) -> Iterator[Record]:
    """The records of a backup.  Raises InvalidError for what is not exactly one, at its line."""
    lines = _numbered(chunks)
    _, first = next(lines, (1, {}))
    _check_first(first)
    for number, found in lines:
        if "end" in found:
            _check_end(found, number)
            break
        yield _from_json(found, number)
    else:
        raise InvalidError("the backup ends without saying that it is whole")
    if next(lines, None) is not None:
        raise InvalidError("the backup goes on after its end")


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _to_json(record: Record) -> dict[str, Any]:
    fields = {
        name: base64.b64encode(value.reveal()).decode() for name, value in record.fields.items()
    }
    return {key: getattr(record, key) for key in _SHAPE if key != "fields"} | {"fields": fields}


def _numbered(chunks: Iterable[bytes]) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(_split(chunks), 1):
        yield number, _parse(line, number)


def _split(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Whole lines out of pieces of any size."""
    held = b""
    for chunk in chunks:
        *whole, held = (held + chunk).split(b"\n")
        yield from whole
        if len(held) > MAX_LINE:
            raise InvalidError(f"a line of the backup is longer than {MAX_LINE} bytes")
    if held:
        raise InvalidError("the backup ends in the middle of a line")


def _parse(line: bytes, number: int) -> dict[str, Any]:
    try:
        found = json.loads(line.decode(), object_pairs_hook=_distinct)
    except (ValueError, RecursionError):  # bad UTF-8, bad JSON, a key twice, or nested too deep
        raise InvalidError(f"line {number} of the backup is not JSON") from None
    if not isinstance(found, dict):
        raise InvalidError(f"line {number} of the backup is no object")
    return found


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _check_first(found: dict[str, Any]) -> None:
    version = found.get("secret-agent-backup")
    if type(version) is not int or type(found.get("store")) is not str or len(found) != 2:
        raise InvalidError("the file opens, but it is no backup of secret-agent")
    if version != VERSION:
        raise InvalidError(
            f"the backup has version {version}; this agent reads {VERSION}",
            remedy="pip install --upgrade secret-agent-daemon",
        )


def _check_end(found: dict[str, Any], number: int) -> None:
    count = number - 2  # the lines between the first one and this
    if found != {"end": count} or type(found["end"]) is not int:
        raise InvalidError(f"line {number} of the backup: it does not hold as many as it says")


def _from_json(found: dict[str, Any], number: int) -> Record:
    if found.keys() != _SHAPE.keys():
        raise InvalidError(f"line {number} of the backup has other keys than a version")
    for key, kinds in _SHAPE.items():
        if type(found[key]) not in kinds:
            raise InvalidError(f"line {number} of the backup: {key} has another type")
    try:
        return _checked(found)
    except InvalidError as error:
        raise InvalidError(f"line {number} of the backup: {error.message}") from None


def _checked(found: dict[str, Any]) -> Record:
    check_place(found["name"], found["stage"])
    check_texts(type=found["type"], by=found["by"], note=found["note"])
    for key in ("type", "by", "note"):
        _check_unicode(key, found[key] or "")
    times = {key: found[key] for key in ("created_at", "expires_at", "rotate_due")}
    check_times(**times)
    if not 1 <= found["version"] <= MAX_INT:
        raise InvalidError(f"version is not from 1 to {MAX_INT}")
    values = check_values({name: _decode(name, text) for name, text in found["fields"].items()})
    check_whole(values)
    return Record(**(found | {"fields": values}))


def _check_unicode(key: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:  # JSON can spell half of a surrogate pair
        raise InvalidError(f"{key} is no Unicode text") from None


def _decode(name: str, text: object) -> bytes:
    try:
        return base64.b64decode(text, validate=True) if isinstance(text, str) else _refuse(name)
    except (binascii.Error, ValueError):
        return _refuse(name)


def _refuse(name: str) -> bytes:
    raise InvalidError(f"a field is not in base64 ({len(name)} characters in its name)")
