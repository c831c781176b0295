"""A `.env` file is read as it stands: nothing expanded, nothing run, nothing echoed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secret_agent_client.dotenv import is_environment_name, parse_dotenv
from secret_agent_client.errors import InvalidError


def _values(text: str | bytes) -> dict[str, str]:
    data = text if isinstance(text, bytes) else text.encode()
    found = parse_dotenv(data)
    assert not found.left
    return {a.name: a.value.reveal().decode() for a in found.assignments}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("A=b", "b"),
        ("export A=b", "b"),
        ("  A = b  ", "b"),
        ("A=", ""),
        ("A=''", ""),
        ("A=b # comment", "b"),
        ("A=b#c", "b#c"),
        ("A= # comment", ""),
        ("A='b # c' # comment", "b # c"),
        ("A='$HOME \\n'", "$HOME \\n"),
        ('A="b\\nc\\t\\"\\\\\\$"', 'b\nc\t"\\$'),
        ('A="\\d"', "\\d"),
        ("A=b=c==", "b=c=="),
        ("A=it's", "it's"),
        ('A="one\ntwo"\n', "one\ntwo"),
        ("A='one\n\ntwo'\n", "one\n\ntwo"),
        ("A=b\u2028c\x0bd\x85e\rf", "b\u2028c\x0bd\x85e\rf"),
        ("\ufeffA=b", "b"),
        ("A=b\r\n", "b"),
        ("A=ключ", "ключ"),
    ],
)
def test_each_form_of_a_value_is_read_as_it_stands(text: str, value: str) -> None:
    assert _values(text) == {"A": value}


def test_comments_and_blank_lines_are_passed_over_and_lines_counted() -> None:
    found = parse_dotenv(b'# x\n\n A=1\nB="2\n3"\n#\nC=4')
    assert [(a.name, a.line) for a in found.assignments] == [("A", 3), ("B", 4), ("C", 7)]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("canary", "no NAME=value"),
        ("1A=canary", "what stands before = is no name of a variable"),
        ("A-B=canary", "what stands before = is no name of a variable"),
        ("=canary", "what stands before = is no name of a variable"),
        ("A='canary", "a quoted value that does not end"),
        ('A="canary\\"', "a quoted value that does not end"),
        ("A='canary' x", "something after a quoted value"),
        ("A=can\0ary", "a value with a NUL character"),
    ],
)
def test_a_line_that_fits_no_rule_is_left_and_told_of_without_its_content(
    line: str, why: str
) -> None:
    found = parse_dotenv(f"X=1\n{line}\nY=2\n".encode())
    assert found.left == ((2, why),)
    assert [a.name for a in found.assignments] == ["X", "Y"]
    assert "canary" not in repr(found)


@pytest.mark.parametrize(
    ("text", "expands"),
    [
        ("A=$B", True),
        ('A="${B}"', True),
        ('A="\\$B"', False),
        ('A="\\\\$B"', True),
        ("A='$B'", False),
        ("A=b", False),
    ],
)
def test_what_another_reader_would_expand_is_said(text: str, *, expands: bool) -> None:
    assert [a.expands for a in parse_dotenv(text.encode()).assignments] == [expands]


def test_a_file_that_is_no_text_or_too_large_is_refused() -> None:
    with pytest.raises(InvalidError, match="not UTF-8 at byte 2"):
        parse_dotenv(b"A=\xff")
    with pytest.raises(InvalidError, match="more than"):
        parse_dotenv(b"#" * (1024 * 1024 + 1))


@given(st.text(st.characters(exclude_characters="\0'\r", codec="utf-8")))
def test_single_quotes_hold_anything_but_themselves(value: str) -> None:
    assert _values(f"A='{value}'") == {"A": value}


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        found = parse_dotenv(data)
    except InvalidError:
        return
    assert all(is_environment_name(a.name) for a in found.assignments)
    assert all(why for _, why in found.left)
