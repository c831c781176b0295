"""A template is filled whole or not at all, and no value means more than itself in its place."""

import base64
import json
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secret_agent_client.errors import InvalidError
from secret_agent_client.references import parse_reference
from secret_agent_client.template import MAX_SLOTS, fill, parse_template
from secret_agent_client.value import SecretValue

REF = parse_reference("secret://a/b#c")


def _filled(template: str | bytes, value: bytes = b"VALUE") -> bytes:
    data = template if isinstance(template, bytes) else template.encode()
    parsed = parse_template(data)
    return bytes(fill(parsed, {ref: SecretValue(value) for ref in parsed.references}))


@pytest.mark.parametrize(
    ("template", "out"),
    [
        ("", ""),
        ("x {{ secret://a/b#c }} y", "x VALUE y"),
        ("{{secret://a/b#c}}", "VALUE"),
        ("{{\tsecret://a/b#c\t}}{{ secret://a/b }}", "VALUEVALUE"),
        ('k: "secret://a/b#c"', 'k: "VALUE"'),
        ("k: 'secret://a/b#c?stage=prod'", "k: 'VALUE'"),
        ("{{ other }} {{ .Values.x }} ${y}", "{{ other }} {{ .Values.x }} ${y}"),
        ("bare secret://a/b#c stays", "bare secret://a/b#c stays"),
        ("\"secret://a/b#c'", "\"secret://a/b#c'"),
        ("{{ secret://a/b#c | base64 }}", "VkFMVUU="),
        ("x = {{ secret://a/b#c | json }}", 'x = "VALUE"'),
    ],
)
def test_each_form_is_filled_and_the_rest_left(template: str, out: str) -> None:
    assert _filled(template) == out.encode()


def test_bytes_around_the_places_stay_as_they_are() -> None:
    assert _filled(b"\xff\0\r\n{{ secret://a/b#c }}\x80", b"\0\xfe") == b"\xff\0\r\n\0\xfe\x80"


def test_a_reference_is_asked_for_once_and_bare_ones_are_told_of() -> None:
    parsed = parse_template(b'{{ secret://a }}\nsecret://b secret://b\n\n"secret://a"\nsecret://c')
    assert [str(ref) for ref in parsed.references] == ["secret://a"]
    assert parsed.loose == (2, 5)
    assert [(slot.line, slot.column) for slot in parsed.slots] == [(1, 1), (4, 1)]


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("\n\n  {{ secret://a/b#c", "line 3, column 3: braces that do not close"),
        ("{{ secret://a/b#c }", "line 1, column 1: braces that do not close"),
        ("{{ secret://a/b#c\n}}", "line 1, column 1: braces that do not close"),
        ("x\n {{ secret://A }}", "line 2, column 2: 'A' at position 0"),
        ('"secret://"', "line 1, column 1: a secret's name is empty"),
        ("{{ secret://a | eval }}", "line 1, column 1: unknown filter"),
        ("{{ secret://a |  | json }}", "line 1, column 1: unknown filter"),
        ("{{ secret://a?version=0 }}", "line 1, column 1: a version begins with 0"),
    ],
)
def test_a_bad_place_is_named_and_nothing_is_filled(template: str, message: str) -> None:
    with pytest.raises(InvalidError, match=message.replace("(", r"\(")):
        parse_template(template.encode())


@pytest.mark.parametrize("value", [b'a"b', b"a\\b", b"a\nb", b"a\0b", b"a\x7fb"])
def test_a_value_that_would_leave_its_quotes_is_refused_without_being_shown(value: bytes) -> None:
    with pytest.raises(InvalidError, match=r"at line 1.*write \{\{ secret://a/b#c \| json") as info:
        _filled('"secret://a/b#c"', value)
    assert value.decode() not in str(info.value)


def test_the_other_kind_of_quote_may_stand_between_quotes() -> None:
    assert _filled('"secret://a/b#c"', b"it's") == b'"it\'s"'
    assert _filled("'secret://a/b#c'", b'say "x"') == b"'say \"x\"'"


def test_filters_refuse_what_they_cannot_hold() -> None:
    with pytest.raises(InvalidError, match="not UTF-8"):
        _filled("{{ secret://a | json }}", b"\xff")
    with pytest.raises(InvalidError, match="NUL"):
        _filled("{{ secret://a | shell }}", b"\0")


def test_too_many_places_and_too_large_a_template_are_refused() -> None:
    with pytest.raises(InvalidError, match="references"):
        parse_template(b"{{ secret://a }}" * (MAX_SLOTS + 1))
    with pytest.raises(InvalidError, match="bytes"):
        parse_template(b"x" * (16 * 1024 * 1024 + 1))


@given(st.binary(max_size=64).filter(lambda value: b"\0" not in value))
def test_what_a_shell_reads_is_the_value(value: bytes) -> None:
    word = _filled("{{ secret://a | shell }}", value)
    split = shlex.split(word.decode("utf-8", "surrogateescape"))
    assert split == [value.decode("utf-8", "surrogateescape")]


@given(st.text(max_size=64))
def test_what_a_json_reader_reads_is_the_value(value: str) -> None:
    try:
        encoded = value.encode()
    except UnicodeEncodeError:
        return
    assert json.loads(_filled("{{ secret://a | json }}", encoded)) == value


@given(st.binary(max_size=64))
def test_base64_is_the_value(value: bytes) -> None:
    assert base64.b64decode(_filled("{{ secret://a | base64 }}", value)) == value


@given(st.binary(max_size=300))
def test_any_bytes_parse_or_are_refused_and_what_has_no_place_is_unchanged(data: bytes) -> None:
    try:
        parsed = parse_template(data)
    except InvalidError:
        return
    if not parsed.slots:
        assert fill(parsed, {}) == data
