"""The lines inside a backup: exact round trips, and everything else refused by line and key."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secret_agent.backup.content import MAX_LINE, read_lines, write_lines
from secret_agent.store import Record
from secret_agent_client.errors import InvalidError
from secret_agent_client.value import SecretValue

CANARY = b"s3cr3t-canary"

names = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,8}(/[a-z0-9][a-z0-9._-]{0,8}){0,2}", fullmatch=True)
texts = st.text(st.characters(codec="utf-8"), max_size=20)
times = st.none() | st.integers(0, 2**53 - 1)
records = st.builds(
    Record,
    name=names,
    stage=st.sampled_from(["", "prod", "dev"]),
    version=st.integers(1, 2**53 - 1),
    type=st.text(st.characters(codec="utf-8"), min_size=1, max_size=20),
    fields=st.dictionaries(
        st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,8}", fullmatch=True),
        st.binary(max_size=50).map(SecretValue),
        min_size=1,
        max_size=4,
    ),
    created_at=st.integers(0, 2**53 - 1),
    by=texts,
    note=st.none() | texts,
    expires_at=times,
    rotate_due=times,
)


def record(**changes: Any) -> Record:
    fields = {"password": SecretValue(CANARY)}
    usual: dict[str, Any] = {
        "name": "payments/db", "stage": "", "version": 1, "type": "login", "fields": fields,
        "created_at": 5, "by": "me", "note": None, "expires_at": None, "rotate_due": None,
    }  # fmt: skip
    return Record(**(usual | changes))


def lines_of(*records: Record) -> list[bytes]:
    return list(write_lines("ab12", records))


def changed(**changes: Any) -> list[bytes]:
    """A backup of one version whose line is changed; a value of ... drops the key."""
    first, line, end = lines_of(record())
    found = json.loads(line) | changes
    kept = {key: value for key, value in found.items() if value is not ...}
    return [first, json.dumps(kept).encode() + b"\n", end]


@given(st.lists(records, max_size=4), st.integers(1, 300))
def test_what_is_written_reads_back_in_pieces_of_any_size(found: list[Record], size: int) -> None:
    whole = b"".join(write_lines("ab12", found))
    pieces = [whole[at : at + size] for at in range(0, len(whole), size)]
    assert list(read_lines(pieces)) == found


def test_a_backup_that_was_cut_at_any_line_is_refused() -> None:
    lines = lines_of(record(), record(version=2))
    for end in range(len(lines)):
        with pytest.raises(InvalidError):
            list(read_lines(lines[:end]))


def test_a_backup_that_was_cut_within_a_line_is_refused() -> None:
    with pytest.raises(InvalidError, match="in the middle of a line"):
        list(read_lines([*lines_of(record())[:2], b'{"end'][:3]))


def test_a_dropped_or_doubled_version_is_noticed_at_the_end() -> None:
    first, one, two, end = lines_of(record(), record(version=2))
    for wrong in ([first, one, end], [first, one, two, two, end]):
        with pytest.raises(InvalidError, match="does not hold as many as it says"):
            list(read_lines(wrong))


def test_what_follows_the_end_is_refused() -> None:
    first, one, end = lines_of(record())
    with pytest.raises(InvalidError, match="goes on after its end"):
        list(read_lines([first, one, end, one]))


@pytest.mark.parametrize(
    ("first", "error"),
    [
        (b"{}\n", "no backup of secret-agent"),
        (b'{"secret-agent-backup":true,"store":""}\n', "no backup of secret-agent"),
        (b'{"secret-agent-backup":1}\n', "no backup of secret-agent"),
        (b'{"secret-agent-backup":1,"store":"","x":1}\n', "no backup of secret-agent"),
        (b'{"secret-agent-backup":2,"store":""}\n', "version 2; this agent reads 1"),
        (b"[]\n", "line 1 of the backup is no object"),
        (b"hello\n", "line 1 of the backup is not JSON"),
        (b"\xff\n", "line 1 of the backup is not JSON"),
        (b"[" * 100_000 + b"\n", "line 1 of the backup is not JSON"),
        (b'{"a":1,"a":1}\n', "line 1 of the backup is not JSON"),
        (b"1" * 5000 + b"\n", "line 1 of the backup is not JSON"),
    ],
)
def test_another_content_is_named(first: bytes, error: str) -> None:
    with pytest.raises(InvalidError, match=error):
        list(read_lines([first]))


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"note": ...}, "other keys"),
        ({"more": 1}, "other keys"),
        ({"name": None}, "name has another type"),
        ({"version": True}, "version has another type"),
        ({"version": 1.0}, "version has another type"),
        ({"version": 0}, "version is not from 1"),
        ({"version": 2**53}, "version is not from 1"),
        ({"created_at": -1}, "created_at is not from 0"),
        ({"expires_at": 2**60}, "expires_at is not from 0"),
        ({"name": "../etc"}, "cannot begin a segment"),
        ({"stage": "a/b"}, "cannot stand in a stage"),
        ({"type": ""}, "the type has 0 characters"),
        ({"note": "x" * 1025}, "the note has 1025 characters"),
        ({"by": "\ud800"}, "by is no Unicode text"),
        ({"fields": {}}, "without any field"),
        ({"fields": []}, "fields has another type"),
        ({"fields": {"a b": ""}}, "cannot stand in a field"),
        ({"fields": {"a": 1}}, "not in base64"),
        ({"fields": {"a": "*"}}, "not in base64"),
        ({"fields": {"a": "é"}}, "not in base64"),
        ({"fields": {f"f{n}": "" for n in range(65)}}, "65 fields"),
    ],
)
def test_a_line_that_is_no_version_is_refused(changes: dict[str, Any], error: str) -> None:
    with pytest.raises(InvalidError, match=f"line 2 of the backup.*{error}") as caught:
        list(read_lines(changed(**changes)))
    assert CANARY.decode() not in str(caught.value)


def test_a_line_without_end_is_refused_within_its_bound() -> None:
    def endless() -> Any:
        yield lines_of()[0]
        for _ in range(100):
            yield b'"' * 65536

    source = endless()
    with pytest.raises(InvalidError, match=f"longer than {MAX_LINE} bytes"):
        list(read_lines(source))
    assert len(list(source)) > 50  # the rest was not read
