"""References, names and globs: what parses prints the same, what does not is named by character."""

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secret_agent_client.errors import InvalidError
from secret_agent_client.references import (
    MAX_FIELD,
    MAX_NAME,
    MAX_SEGMENT,
    SCHEME,
    Reference,
    check_field,
    check_glob,
    check_name,
    check_stage,
    glob_matches,
    is_reference,
    parse_reference,
)

SEGMENT = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,12}", fullmatch=True)
NAME = st.lists(SEGMENT, min_size=1, max_size=5).map("/".join)
FIELD = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,62}", fullmatch=True)
REFERENCE = st.builds(
    Reference,
    NAME,
    field=st.none() | FIELD,
    version=st.none() | st.integers(1, 999_999_999),
    stage=st.none() | SEGMENT,
)


@given(REFERENCE)
def test_a_reference_prints_and_parses_to_itself(reference: Reference) -> None:
    text = str(reference)
    assert text.startswith(SCHEME)
    parsed = parse_reference(text)
    assert parsed == reference
    assert hash(parsed) == hash(reference)
    assert str(parsed) == text
    assert parse_reference(text.removeprefix(SCHEME)) == reference


@given(st.text(alphabet="ab/#?&=._-1v ersiontag\u00e9A\n", max_size=30))
def test_what_parses_prints_the_same(text: str) -> None:
    try:
        reference = parse_reference(text)
    except InvalidError:
        return
    assert str(reference) == SCHEME + text


def test_the_order_of_the_query_alone_may_differ() -> None:
    reference = parse_reference("secret://payments/db#password?stage=prod&version=3")
    assert str(reference) == "secret://payments/db#password?version=3&stage=prod"


def test_the_parts_of_a_reference() -> None:
    reference = parse_reference("secret://payments/db#password?version=3&stage=prod")
    assert reference.name == "payments/db"
    assert reference.field == "password"
    assert reference.version == 3
    assert reference.stage == "prod"
    assert repr(reference) == f"Reference({str(reference)!r})"
    assert reference != str(reference)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a secret's name is empty"),
        ("secret://", "a secret's name is empty"),
        ("Payments", "'P' at position 0 cannot stand in a name"),
        ("payments/DB", "'D' at position 9 cannot stand in a name"),
        ("a b", "' ' at position 1"),
        ("a b".replace(" ", "\u00a0"), "U+00A0 at position 1 cannot stand in a name"),
        ("a\nb", "U+000A at position 1"),
        ("a\x00", "U+0000 at position 1"),
        ("a\\b", "'\\' at position 1"),
        ("a%2eb", "'%' at position 1"),
        ("/a", "an empty segment at position 0"),
        ("a/", "an empty segment at position 2"),
        ("a//b", "an empty segment at position 2"),
        ("..", "'.' at position 0 cannot begin a segment of a name"),
        ("a/../b", "'.' at position 2 cannot begin a segment of a name"),
        ("a/.hidden", "'.' at position 2 cannot begin a segment of a name"),
        ("-rf", "'-' at position 0 cannot begin a segment of a name"),
        ("a" * 64, "a segment of a name has 64 characters; the most is 63"),
        ("a/" * 128 + "a", "a secret's name has 257 characters; the most is 255"),
        ("SECRET://a", "'S' at position 0"),
        ("https://a", "':' at position 5"),
        ("a#", "a field's name has 0 characters; it needs 1 to 63"),
        ("a#" + "f" * 64, "a field's name has 64 characters"),
        ("a#-f", "'-' at position 0 cannot stand in a field's name"),
        ("a#f g", "' ' at position 1 cannot stand in a field's name"),
        ("a#f#g", "'#' at position 1 cannot stand in a field's name"),
        ("a?", "a reference's query is not version=N or stage=S"),
        ("a?version", "a version has 0 digits; it needs 1 to 9"),
        ("a?version=", "a version has 0 digits"),
        ("a?version=0", "a version begins with 0; versions count from 1"),
        ("a?version=01", "a version begins with 0"),
        ("a?version=-1", "'-' at position 0 cannot stand in a version"),
        ("a?version=1e3", "'e' at position 1 cannot stand in a version"),
        ("a?version=\u0661", "U+0661 at position 0 cannot stand in a version"),
        ("a?version=1234567890", "a version has 10 digits"),
        ("a?version=1&version=1", "once each"),
        ("a?stage=a&stage=a", "once each"),
        ("a?stage=", "an empty segment at position 0 cannot stand in a stage"),
        ("a?stage=Prod", "'P' at position 0 cannot stand in a stage"),
        ("a?stage=a/b", "'/' at position 1 cannot stand in a stage"),
        ("a?path=x", "a reference's query is not version=N or stage=S"),
        ("a?version=1#f", "'#' at position 1 cannot stand in a version"),
        ("a?version=1&", "a reference's query is not version=N or stage=S"),
    ],
)
def test_the_offending_character_is_named(text: str, message: str) -> None:
    with pytest.raises(InvalidError) as caught:
        parse_reference(text)
    assert message in caught.value.message


def test_the_limits_themselves_are_allowed() -> None:
    longest = "/".join(["a" * MAX_SEGMENT] * 3 + ["a" * (MAX_NAME - 3 * (MAX_SEGMENT + 1))])
    assert len(longest) == MAX_NAME
    assert check_name(longest) == longest
    assert check_field("F" * MAX_FIELD) == "F" * MAX_FIELD
    assert check_stage("s" * MAX_SEGMENT) == "s" * MAX_SEGMENT


def test_only_the_scheme_makes_a_string_a_reference() -> None:
    assert is_reference("secret://anything at all")
    assert not is_reference("payments/db")
    assert not is_reference(" secret://a")


@pytest.mark.parametrize(
    ("glob", "message"),
    [
        ("", "a glob has 0 characters"),
        ("a" * 256, "a glob has 256 characters"),
        ("a+", "'+' at position 1 cannot stand in a glob"),
        ("[ab]", "'[' at position 0"),
        ("a//b", "an empty segment at position 2 cannot stand in a glob"),
        ("/a", "an empty segment at position 0"),
        ("a/", "an empty segment at position 2"),
        ("prod**", "'**' beside other characters at position 0"),
        ("a/**b/c", "'**' beside other characters at position 2"),
        ("***", "'**' beside other characters at position 0"),
    ],
)
def test_a_glob_that_would_not_do_what_it_says_is_refused(glob: str, message: str) -> None:
    with pytest.raises(InvalidError) as caught:
        check_glob(glob)
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("glob", "matching", "others"),
    [
        ("payments/db", ["payments/db"], ["payments/db2", "payments", "payments/db/x"]),
        ("payments/*", ["payments/db"], ["payments", "payments/db/x", "other/db"]),
        ("payments/**", ["payments", "payments/db", "payments/db/x"], ["payment", "x/payments"]),
        ("**", ["a", "a/b/c"], []),
        ("*", ["a", "abc"], ["a/b"]),
        ("**/db", ["db", "a/db", "a/b/db"], ["db/a", "a/dbx"]),
        ("a/**/z", ["a/z", "a/b/z", "a/b/c/z"], ["a", "z", "a/b"]),
        ("a/**/*", ["a/b", "a/b/c"], ["a"]),
        ("d?", ["db", "d1"], ["d", "dbx"]),
        ("*b*", ["b", "abc", "bb"], ["a", "ac"]),
    ],
)
def test_a_glob_matches_what_its_words_say(
    glob: str, matching: list[str], others: list[str]
) -> None:
    assert check_glob(glob) == glob
    assert [name for name in matching if not glob_matches(glob, name)] == []
    assert [name for name in others if glob_matches(glob, name)] == []


def _naive(glob: list[str], name: list[str]) -> bool:
    """The meaning of a glob, by trying everything."""
    if not glob:
        return not name
    if glob[0] == "**":
        return any(_naive(glob[1:], name[skip:]) for skip in range(len(name) + 1))
    return bool(name) and _naive_segment(glob[0], name[0]) and _naive(glob[1:], name[1:])


def _naive_segment(glob: str, text: str) -> bool:
    if not glob:
        return not text
    if glob[0] == "*":
        return any(_naive_segment(glob[1:], text[skip:]) for skip in range(len(text) + 1))
    return bool(text) and glob[0] in ("?", text[0]) and _naive_segment(glob[1:], text[1:])


GLOB = st.lists(
    st.just("**") | st.text("ab*?", min_size=1, max_size=5).filter(lambda text: "**" not in text),
    min_size=1,
    max_size=5,
).map("/".join)


@given(GLOB, st.lists(st.text("ab", min_size=1, max_size=5), min_size=1, max_size=5).map("/".join))
def test_matching_agrees_with_a_naive_reference(glob: str, name: str) -> None:
    assert check_glob(glob) == glob
    assert glob_matches(glob, name) is _naive(glob.split("/"), name.split("/"))


def test_matching_agrees_with_a_naive_reference_on_all_short_ones() -> None:
    words = ["".join(word) for size in (1, 2, 3) for word in itertools.product("a*?", repeat=size)]
    for glob in [word for word in words if "**" not in word]:
        for text in ("a", "b", "aa", "ab", "ba", "aab", "aba"):
            assert glob_matches(glob, text) is _naive_segment(glob, text), (glob, text)


def test_matching_takes_no_time_that_an_attacker_could_grow() -> None:
    """`*a*a*a…b` is what makes a backtracking matcher take years."""
    start = time.process_time()
    assert not glob_matches("*a" * 127 + "b", "a" * MAX_SEGMENT)
    assert not glob_matches("/".join(["**", "a"] * 60), "/".join(["a"] * 59))
    assert time.process_time() - start < 0.1


@given(NAME)
def test_a_name_matches_itself_and_its_neighbourhood(name: str) -> None:
    assert glob_matches(name, name)
    assert glob_matches("**", name)
    assert glob_matches(name + "/**", name)
    assert not glob_matches(name + "/*", name)
