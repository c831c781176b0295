"""One record, as bytes: what it holds, how it is chained, how it is read back.  Pure; the format
is told in agent/AUDIT.md.

A record has no place for a value: only the fields named here are written, and each is text that
names something, a number or a
list of names.  The digest is taken over the very bytes of the line, so that no two readers can
disagree about it.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from secret_agent.model import Holder

GENESIS = "0" * 64  # the digest before the first record
MAX_LINE = 64 * 1024  # bytes; a longer line was not written by us

FIELDS = frozenset(
    {
        "event", "action", "outcome", "secret", "stage", "version", "fields", "rule", "policy",
        "because", "reason", "lease", "scope", "channel",
    }
)  # fmt: skip  # one table
"""What a caller may put into a record, `holder` beside them; None is left out."""

_dumps = json.JSONEncoder(separators=(",", ":"), sort_keys=True).encode  # ASCII only
_TAIL = re.compile(rb',"digest":"([0-9a-f]{64})"\}\Z')
_CACHED_HOLDERS = 256  # encoded holders kept: a holder that asks again is the same object
_holders: dict[int, tuple[Holder, str]] = {}


@dataclass(frozen=True, slots=True)
class Chained:
    """A record in its place: the line without its newline, and the digest that the next one
    carries.
    """

    seq: int
    line: bytes
    digest: str


def encode(seq: int, wall_s: float, prev: str, fields: Mapping[str, Any]) -> Chained:
    """Chain a record.  A field that records have no place for is a bug."""
    body = {key: value for key, value in fields.items() if value is not None and key != "holder"}
    assert body.keys() <= FIELDS, "a record has no such field"  # noqa: S101  # a bug of the caller
    body["seq"], body["prev"], body["time"] = seq, prev, _time(wall_s)
    text = _dumps(body)
    holder = fields.get("holder")
    if holder is not None:
        text = f'{text[:-1]},"holder":{_encode_holder(holder)}}}'
    data = text.encode("ascii")
    digest = sha256(data).hexdigest()
    return Chained(seq, b'%b,"digest":"%b"}' % (data[:-1], digest.encode()), digest)


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
    except ValueError:
        return None
    if not isinstance(record, dict) or type(record.get("seq")) is not int:
        return None
    return record


def _encode_holder(holder: Holder) -> str:
    kept = _holders.get(id(holder))
    if kept is not None and kept[0] is holder:
        return kept[1]
    text = _dumps(_describe(holder))
    if len(_holders) >= _CACHED_HOLDERS:
        _holders.clear()
    _holders[id(holder)] = (holder, text)
    return text


def _describe(holder: Holder) -> dict[str, Any]:
    shell = None
    if holder.shell is not None:
        shell = {"pid": holder.shell.pid, "name": holder.shell_name}
    told = {
        "uid": holder.uid,
        "gid": holder.gid,
        "pid": holder.pid,
        "start_time": holder.process.start_time,
        "exe": holder.exe,
        "cwd": holder.cwd,
        "tty": holder.tty,
        "shell": shell,
        "container": holder.container,
        "scope": holder.scope,
    }
    return {key: value for key, value in told.items() if value is not None}


def _time(wall_s: float) -> str:
    return datetime.fromtimestamp(wall_s, tz=UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
