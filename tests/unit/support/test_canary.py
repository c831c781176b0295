"""The sweep finds a planted value in every form in which programs leak one, and nothing else."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest

from support import canary

AWKWARD = 'p"q\\r+s/t?u&v=\u00e9'.encode()


def _sextets(prefix: bytes, value: bytes) -> bytes:
    return base64.b64encode(prefix + value + b"!")


@pytest.mark.parametrize("value", [b"cnry0123456789abcdef0123", AWKWARD], ids=["plain", "awkward"])
@pytest.mark.parametrize(
    "leak",
    [
        lambda value: value,
        lambda value: value.hex().encode(),
        lambda value: value.hex().upper().encode(),
        lambda value: _sextets(b"", value),
        lambda value: _sextets(b"a", value),
        lambda value: _sextets(b"ab", value),
        lambda value: _sextets(b"abc", value),
        lambda value: base64.urlsafe_b64encode(b"x" + value),
        lambda value: json.dumps(value.decode()).encode(),
        lambda value: json.dumps(value.decode(), ensure_ascii=False).encode(),
        lambda value: quote(value.decode(), safe="").encode(),
        lambda value: repr(value).encode(),
    ],
)
def test_every_form_is_found(value: bytes, leak: Callable[[bytes], bytes]) -> None:
    assert canary.pattern([value]).search(b"before " + leak(value) + b" after")


def test_nothing_is_found_where_nothing_is() -> None:
    assert canary.pattern([canary.fresh()]).search(b"a log without any value") is None
    assert canary.pattern([]).search(b"anything") is None


def test_values_in_files_and_in_names_are_found(tmp_path: Path) -> None:
    value = canary.fresh()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "log").write_bytes(b"password=" + value)
    (tmp_path / value.decode()).touch()
    hits = canary.files_holding(canary.pattern([value]), tmp_path)
    assert len(hits) == 2
    assert str(tmp_path / "folder" / "log") in hits[1]
