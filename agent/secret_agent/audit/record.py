"""One record, as bytes: what it holds, how it is chained, how it is read back.  Pure; the format is
told in agent/AUDIT.md.

Rules that hold here:

* a record has no place for a value: only the fields named here are written, and each is text that
  names something, a whole number, or a list of names; bytes and SecretValues are refused;
* it is one line of ASCII without floats, its keys sorted, and never longer than MAX_LINE, whatever
  a process calls itself or a policy holds: a line that could not be read back would end the chain;
* the digest is over the very bytes of the line, so that no two readers can disagree about it.

What can go wrong with a caller's fields goes wrong in `prepare`, in the caller's own task; `chain`
only puts a prepared record into its place.
"""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from json.encoder import encode_basestring_ascii
from typing import Any, NamedTuple

from secret_agent.model import Holder

GENESIS = "0" * 64  # the digest before the first record
MAX_LINE = 512 * 1024  # bytes; a longer line was not written by us
MAX_TEXT = 4096  # bytes of one text as JSON; of a longer one the beginning and the end are kept
MAX_NAMES = 64  # of a list; a secret has no more fields
_KEPT = 255  # characters kept of each end of a text that is too long

REQUIRED = ("event", "action", "outcome")
_BEFORE_PREV = ("action", "because", "channel", "event", "fields", "lease", "outcome", "policy")
_BEFORE_SEQ = ("pruned", "reason", "rule", "scope", "secret")
_BEFORE_TIME = ("stage",)
_AFTER_TIME = ("version",)

FIELDS = frozenset((*_BEFORE_PREV, *_BEFORE_SEQ, *_BEFORE_TIME, *_AFTER_TIME))
"""What a caller may put into a record, `holder` beside them; None is left out."""

_TAIL = re.compile(rb',"digest":"([0-9a-f]{64})"\}\Z')
_CACHED_HOLDERS = 256  # encoded holders kept: a holder that asks again is the same object
_holders: dict[int, tuple[Holder, str]] = {}


class Prepared(NamedTuple):
    """The parts of a record's text around its place in the chain, each with its commas."""

    before_prev: str
    before_seq: str
    before_time: str
    after_time: str


class Chained(NamedTuple):
    """A record in its place: the line without its newline, and the digest that the next one
    carries.
    """

    seq: int
    line: bytes
    digest: str


def prepare(fields: Mapping[str, Any]) -> Prepared:
    """Encode what a caller says.  What records have no place for is a bug of the caller's.

    Raises AssertionError for a field that is unknown, required and missing, or of a wrong type.
    """
    assert fields.keys() - FIELDS <= {"holder"}, "a record has no such field"  # noqa: S101  # a bug
    assert all(fields.get(key) for key in REQUIRED), "a record needs event, action and outcome"  # noqa: S101  # a bug
    holder = fields.get("holder")
    return Prepared(
        _members(_BEFORE_PREV, fields),
        _members(_BEFORE_SEQ, fields),
        _members(_BEFORE_TIME, fields),
        _members(_AFTER_TIME, fields)
        + ("" if holder is None else f'"holder":{_encode_holder(holder)},'),
    )


def chain(record: Prepared, *, seq: int, time: str, prev: str) -> Chained:
    """Put a record into its place.  `time` is what `time_text` makes."""
    text = (
        f'{{{record.before_prev}"prev":"{prev}",{record.before_seq}"seq":{seq},'
        f'{record.before_time}"time":"{time}",{record.after_time}'
    )
    open_end = text[:-1].encode("ascii")
    digest = sha256(open_end + b"}").hexdigest()
    return Chained(seq, b'%b,"digest":"%b"}' % (open_end, digest.encode()), digest)


def time_text(wall_s: float) -> str:
    """Seconds since the epoch as RFC 3339 in UTC, to the millisecond."""
    return datetime.fromtimestamp(wall_s, tz=UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def digest_of(line: bytes) -> tuple[str, str] | None:
    """(the digest that a line carries, the digest that its bytes have), or None where it carries
    none.
    """
    tail = _TAIL.search(line)
    if tail is None:
        return None
    return tail[1].decode(), sha256(line[: tail.start()] + b"}").hexdigest()


def decode(line: bytes) -> dict[str, Any] | None:
    """The record in a line, or None where it is no record of ours."""
    if len(line) > MAX_LINE:
        return None
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):  # whoever edits the log may nest as deep as he likes
        return None
    if not isinstance(record, dict) or type(record.get("seq")) is not int:
        return None
    return record


def _members(keys: tuple[str, ...], fields: Mapping[str, Any]) -> str:
    """`"key":value,` for each key that has a value."""
    text = ""
    for key in keys:
        value = fields.get(key)
        if value is not None:
            text += f'"{key}":{_encode(value)},'
    return text


def _encode(value: Any) -> str:
    if type(value) is str:
        return _text(value)
    if type(value) is int:
        return str(value)
    assert type(value) in (tuple, list), "a record holds text, whole numbers and names"  # noqa: S101  # a bug
    return "[" + ",".join(map(_text, value[:MAX_NAMES])) + "]"


def _text(value: str) -> str:
    assert type(value) is str, "a record's lists hold names"  # noqa: S101  # a bug of the caller
    encoded = encode_basestring_ascii(value)
    if len(encoded) <= MAX_TEXT:
        return encoded
    return encode_basestring_ascii(f"{value[:_KEPT]}…{value[-_KEPT:]}")


def _encode_holder(holder: Holder) -> str:
    kept = _holders.get(id(holder))
    if kept is not None and kept[0] is holder:
        return kept[1]
    text = _describe(holder)
    if len(_holders) >= _CACHED_HOLDERS:
        _holders.clear()
    _holders[id(holder)] = (holder, text)
    return text


def _describe(holder: Holder) -> str:
    """The holder as a JSON object, its keys sorted, without what is not known of it."""
    known = {
        "container": holder.container,
        "cwd": holder.cwd,
        "exe": holder.exe,
        "gid": holder.gid,
        "pid": holder.pid,
        "scope": holder.scope,
        "start_time": holder.process.start_time,
        "tty": holder.tty,
        "uid": holder.uid,
    }
    members = {key: _encode(value) for key, value in known.items() if value is not None}
    if holder.shell is not None:
        name = "null" if holder.shell_name is None else _text(holder.shell_name)
        members["shell"] = f'{{"name":{name},"pid":{holder.shell.pid}}}'
    return "{" + ",".join(f'"{key}":{text}' for key, text in sorted(members.items())) + "}"
