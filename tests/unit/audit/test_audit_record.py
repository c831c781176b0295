"""A record is one line of ASCII, chained by digest, with no place for a value."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secret_agent.audit import record
from secret_agent.audit.record import FIELDS, GENESIS, MAX_LINE, decode, digest_of, prepare
from secret_agent.model import Holder
from secret_agent_client.value import SecretValue
from support.audit import encode
from support.holders import holder

OUR: dict[str, Any] = {"event": "x", "action": "read", "outcome": "allow"}


def test_a_record_holds_what_was_given_and_its_place() -> None:
    chained = encode(7, 1764000000.25, GENESIS, OUR | {"secret": "a/b", "rule": None})
    assert json.loads(chained.line) == {
        "action": "read",
        "digest": chained.digest,
        "event": "x",
        "outcome": "allow",
        "prev": GENESIS,
        "secret": "a/b",
        "seq": 7,
        "time": "2025-11-24T16:00:00.250Z",
    }


def test_the_digest_is_over_the_very_bytes_of_the_line() -> None:
    line = encode(1, 0.0, GENESIS, OUR).line
    digests = digest_of(line)
    assert digests is not None
    assert digests[0] == digests[1]
    edited = digest_of(line.replace(b'"x"', b'"y"'))
    assert edited is not None
    assert edited[0] != edited[1]
    assert digest_of(b"{}") is None


@given(st.text(max_size=50))
def test_any_text_becomes_one_line_of_ascii_and_comes_back(text: str) -> None:
    chained = encode(1, 0.0, GENESIS, OUR | {"reason": text})
    assert chained.line.isascii()
    assert not set(chained.line) & {0x0A, 0x0D, 0x1B}
    back = decode(chained.line)
    assert back is not None
    assert back["reason"] == text


def test_the_holder_is_told_without_what_is_unknown() -> None:
    chained = encode(1, 0.0, GENESIS, OUR | {"holder": holder(tty=None, shell=None)})
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
        line = encode(1, 0.0, GENESIS, OUR | {"holder": each}).line
        assert b'"pid":%d' % each.pid in line
    assert len(record._holders) <= 4


def test_a_shell_without_a_name_is_told_by_its_pid() -> None:
    back = decode(encode(1, 0.0, GENESIS, OUR | {"holder": holder(shell_name=None)}).line)
    assert back is not None
    assert back["holder"]["shell"] == {"name": None, "pid": 90}


def test_keys_are_sorted_then_the_holder_then_the_digest() -> None:
    line = encode(5, 0.0, GENESIS, {**dict.fromkeys(sorted(FIELDS), "x"), "holder": holder()}).line
    keys = list(json.loads(line))
    assert keys[-2:] == ["holder", "digest"]
    assert keys[:-2] == sorted(FIELDS | {"seq", "prev", "time"})
    inner = list(json.loads(line)["holder"])
    assert inner == sorted(inner)


@pytest.mark.parametrize(
    "field", [{"value": b"x"}, {"note": "x"}, {"prev": "x"}, {"seq": 1}, {"digest": "x"}]
)
def test_a_field_without_a_place_is_a_bug_of_ours(field: dict[str, object]) -> None:
    with pytest.raises(AssertionError, match="no such field"):
        prepare(OUR | field)


@pytest.mark.parametrize("missing", sorted(OUR))
def test_a_record_without_what_every_record_has_is_a_bug_of_ours(missing: str) -> None:
    """OpenBao CVE-2026-46358: a field that one path forgot."""
    with pytest.raises(AssertionError, match="needs event, action and outcome"):
        prepare({key: value for key, value in OUR.items() if key != missing})


CANARY = b"cnry-2b7e1516"


@pytest.mark.parametrize("key", sorted(FIELDS))
@pytest.mark.parametrize(
    "value",
    [
        CANARY,
        bytearray(CANARY),
        SecretValue(CANARY),
        [CANARY],
        [SecretValue(CANARY)],
        {"a": CANARY},
        {CANARY: 1},
        [["x"]],
        True,
        1.5,
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_could_hold_a_value_is_refused_and_not_told(key: str, value: object) -> None:
    """OpenBao CVE-2025-62513 and CVE-2025-62705: bytes and map keys that went into the log."""
    with pytest.raises(AssertionError) as caught:
        prepare(OUR | {key: value})
    assert CANARY.decode() not in repr(caught.value)


def test_no_record_is_longer_than_can_be_read_back() -> None:
    """A policy with many globs, a process with a long name: the chain must not end at them."""
    long = "\U0001f600" * 100_000
    everything = dict.fromkeys(sorted(FIELDS), long) | {"fields": [long] * 100, "version": 2**53}
    names: dict[str, Any] = dict.fromkeys(
        ("exe", "cwd", "tty", "container", "scope", "shell_name"), long
    )
    line = encode(2**53, 0.0, GENESIS, everything | {"holder": holder(**names)}).line
    assert len(line) <= MAX_LINE
    back = decode(line)
    assert back is not None
    assert back["because"].startswith("\U0001f600" * 255)
    assert back["because"].endswith("\U0001f600" * 255)
    assert len(back["because"]) == 511


def test_a_list_of_names_is_bounded() -> None:
    back = decode(encode(1, 0.0, GENESIS, OUR | {"fields": ["x"] * 65}).line)
    assert back is not None
    assert len(back["fields"]) == 64


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[]",
        b"{",
        b'{"seq":"1"}',
        b'{"seq":true}',
        b"\xff",
        b" " * (MAX_LINE + 1),
        b"[" * 100_000,
        b'{"seq":' + b"9" * 5000 + b"}",
    ],
    ids=range(9),
)
def test_what_is_no_record_is_none(line: bytes) -> None:
    assert decode(line) is None
