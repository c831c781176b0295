"""A record is one line of ASCII, chained by digest, with no place for a value."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secret_agent.audit import record
from secret_agent.audit.record import GENESIS, decode, digest_of, encode
from secret_agent.model import Holder
from support.holders import holder


def test_a_record_holds_what_was_given_and_its_place() -> None:
    chained = encode(
        7, 1764000000.25, GENESIS, {"event": "decision", "secret": "a/b", "rule": None}
    )
    assert json.loads(chained.line) == {
        "digest": chained.digest,
        "event": "decision",
        "prev": GENESIS,
        "secret": "a/b",
        "seq": 7,
        "time": "2025-11-24T16:00:00.250Z",
    }


def test_the_digest_is_over_the_very_bytes_of_the_line() -> None:
    line = encode(1, 0.0, GENESIS, {"event": "x"}).line
    digests = digest_of(line)
    assert digests is not None
    assert digests[0] == digests[1]
    edited = digest_of(line.replace(b'"x"', b'"y"'))
    assert edited is not None
    assert edited[0] != edited[1]
    assert digest_of(b"{}") is None


@given(st.text(max_size=50))
def test_any_text_becomes_one_line_of_ascii_and_comes_back(text: str) -> None:
    chained = encode(1, 0.0, GENESIS, {"event": "x", "reason": text})
    assert chained.line.isascii()
    assert not set(chained.line) & {0x0A, 0x0D, 0x1B}
    back = decode(chained.line)
    assert back is not None
    assert back["reason"] == text


def test_the_holder_is_told_without_what_is_unknown() -> None:
    chained = encode(1, 0.0, GENESIS, {"event": "x", "holder": holder(tty=None, shell=None)})
    back = decode(chained.line)
    assert back is not None
    assert back["holder"] == {
        "uid": 1000,
        "gid": 1000,
        "pid": 100,
        "start_time": 7,
        "exe": "/usr/bin/python3",
        "cwd": "/home/ada",
    }


def test_many_holders_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "_CACHED_HOLDERS", 4)
    holders: list[Holder] = [holder(pid) for pid in range(20)]
    for each in [*holders, holders[-1]]:
        line = encode(1, 0.0, GENESIS, {"event": "x", "holder": each}).line
        assert b'"pid":%d' % each.pid in line
    assert len(record._holders) <= 4


def test_a_field_without_a_place_is_a_bug_of_ours() -> None:
    with pytest.raises(AssertionError, match="no such field"):
        encode(1, 0.0, GENESIS, {"value": b"x"})


@pytest.mark.parametrize(
    "line", [b"", b"[]", b"{", b'{"seq":"1"}', b'{"seq":true}', b"\xff", b" " * (64 * 1024 + 1)]
)
def test_what_is_no_record_is_none(line: bytes) -> None:
    assert decode(line) is None
