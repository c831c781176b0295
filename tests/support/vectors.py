"""Read tests/vectors/wire.txt, whose own head tells its format.

Strict, as a test of the file: an unknown header, an unknown `expect:` or a name that stands twice
is an error.
"""

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

EXPECTS = frozenset({"message", "accepted", "refused", "invalid", "closed", "more"})

PATH = Path(__file__).resolve().parents[1] / "vectors" / "wire.txt"
_HEADERS = frozenset({"name", "expect", "about", "hex", "json"})
_WITH_MESSAGE = frozenset({"message", "accepted", "refused"})


@dataclass(frozen=True)
class Vector:
    """One stanza: bytes, what they are, and, where they are one, the message."""

    name: str
    expect: str  # one of EXPECTS
    data: bytes
    message: dict[str, Any] | None

    def __str__(self) -> str:
        return self.name


def wire_vectors(*expects: str) -> list[Vector]:
    """The vectors of these kinds, in the order of the file; all of them without an argument."""
    every = [_vector(stanza) for stanza in _stanzas(PATH.read_text())]
    assert len({vector.name for vector in every}) == len(every), "a name stands twice"
    return [vector for vector in every if not expects or vector.expect in expects]


def _stanzas(text: str) -> list[dict[str, str]]:
    stanzas: list[dict[str, str]] = []
    for block in text.split("\n\n"):
        lines = [line for line in block.split("\n") if line and not line.startswith("#")]
        if lines:
            stanzas.append(_headers(lines))
    return stanzas


def _headers(lines: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in lines:
        if line.startswith(" "):
            found["hex"] += line
            continue
        key, colon, value = line.partition(": ")
        assert colon, f"no header: {line}"
        assert key in _HEADERS, f"an unknown header: {key}"
        assert key not in found, f"a header that stands twice: {key}"
        found[key] = value
    return found


def _vector(stanza: dict[str, str]) -> Vector:
    expect = stanza["expect"]
    assert expect in EXPECTS, f"an unknown expect: {expect}"
    assert ("json" in stanza) == (expect in _WITH_MESSAGE), f"json or no json: {stanza['name']}"
    message = _from_json(json.loads(stanza["json"])) if "json" in stanza else None
    return Vector(stanza["name"], expect, _from_hex(stanza["hex"]), message)


def _from_hex(text: str) -> bytes:
    out = bytearray()
    for token in text.split():
        times, star, unit = token.rpartition("*")
        out += bytes.fromhex(unit) * (int(times) if star else 1)
    return bytes(out)


def _from_json(value: Any) -> Any:
    if isinstance(value, list):
        return [_from_json(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"base64"}:
        return base64.b64decode(value["base64"], validate=True)
    if value.keys() == {"repeat", "times"}:
        return bytes.fromhex(value["repeat"]) * value["times"]
    return {key: _from_json(item) for key, item in value.items()}
