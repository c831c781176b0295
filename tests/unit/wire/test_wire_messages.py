"""The schema: every field of every verb takes its own kind, up to its most, and nothing else."""

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secret_agent_client.codec import pack, unpack
from secret_agent_client.errors import InvalidError
from secret_agent_client.messages import (
    MAX_FIELDS,
    MAX_INT,
    MAX_ITEM,
    MAX_UINT32,
    MAX_VALUE,
    VERBS,
    Field,
    Verb,
    check_body,
    check_request,
)
from secret_agent_client.references import MAX_FIELD

EVERY = [(verb, name) for verb in VERBS.values() for name in verb.fields]

# One value of each kind that the wire can carry, by what it is.
SAMPLES: dict[str, Any] = {
    "nil": None,
    "bool": True,
    "uint": 1,
    "negative": -1,
    "huge": 2**64 - 1,
    "text": "a",
    "bytes": b"a",
    "texts": ["a"],
    "uints": [1],
    "bools": [True],
    "binaries": [b"a"],
    "nested": [["a"]],
    "fields": {"a": b"a"},
    "map of text": {"a": "a"},
    "map of maps": {"a": {}},
}
FITTING = {
    "uint": {"uint"},
    "bool": {"bool"},
    "text": {"text"},
    "bytes": {"bytes"},
    "texts": {"texts"},
    "uints": {"uints"},
    "fields": {"fields"},
}


# By kind: the smallest and largest values that fit a field, given its most.
FITS: dict[str, Callable[[int], list[Any]]] = {
    "uint": lambda most: [0, most],
    "bool": lambda _: [True, False],
    "text": lambda most: ["", "\u00e9" * most],
    "bytes": lambda most: [b"", bytes(most)],
    "texts": lambda most: [[], ["x" * MAX_ITEM] * most],
    "uints": lambda most: [[], [MAX_UINT32] * most],
    "fields": lambda _: [
        {},
        {f"f{n}": b"x" for n in range(MAX_FIELDS)},
        {"x" * MAX_FIELD: bytes(MAX_VALUE)},
    ],
}

# By kind: values that just do not fit.
DOES_NOT_FIT: dict[str, Callable[[int], list[Any]]] = {
    "uint": lambda most: [-1, most + 1],
    "bool": lambda _: [0, 1],
    "text": lambda most: ["x" * (most + 1)],
    "bytes": lambda most: [bytes(most + 1)],
    "texts": lambda most: [["x"] * (most + 1), ["x" * (MAX_ITEM + 1)]],
    "uints": lambda most: [[0] * (most + 1), [MAX_UINT32 + 1], [-1], [True]],
    "fields": lambda _: [
        {f"f{n}": b"x" for n in range(MAX_FIELDS + 1)},
        {"x" * (MAX_FIELD + 1): b""},
        {"": b""},
        {"a": bytes(MAX_VALUE + 1)},
        {"a": bytes(MAX_VALUE), "b": bytes(MAX_VALUE), "c": b"x"},
    ],
}

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=3)
    | st.binary(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=3), inner)
    ),
    max_leaves=5,
)


def _required(verb: Verb) -> dict[str, Any]:
    return {name: SAMPLES[known.kind] for name, known in verb.fields.items() if known.required}


def _values(table: dict[str, Callable[[int], list[Any]]], known: Field) -> list[Any]:
    return table[known.kind](known.most)


def _id(case: tuple[Verb, str]) -> str:
    return f"{case[0].name}.{case[1]}"


@pytest.mark.parametrize("case", EVERY, ids=_id)
def test_a_field_takes_what_fits(case: tuple[Verb, str]) -> None:
    verb, name = case
    for value in _values(FITS, verb.fields[name]):
        check_body(verb, {**_required(verb), name: value})


@pytest.mark.parametrize("case", EVERY, ids=_id)
def test_a_field_refuses_every_other_kind(case: tuple[Verb, str]) -> None:
    verb, name = case
    for kind, value in SAMPLES.items():
        if kind in FITTING[verb.fields[name].kind]:
            continue
        with pytest.raises(InvalidError, match=f"^{verb.name}: {name} must be "):
            check_body(verb, {**_required(verb), name: value})


@pytest.mark.parametrize("case", EVERY, ids=_id)
def test_a_field_refuses_one_more_than_its_most(case: tuple[Verb, str]) -> None:
    verb, name = case
    for value in _values(DOES_NOT_FIT, verb.fields[name]):
        with pytest.raises(InvalidError, match=f"^{verb.name}: {name} must be "):
            check_body(verb, {**_required(verb), name: value})


@pytest.mark.parametrize("verb", VERBS.values(), ids=lambda verb: verb.name)
def test_a_verb_needs_what_it_requires_and_takes_nothing_unknown(verb: Verb) -> None:
    body = _required(verb)
    assert check_request({"id": 0, "verb": verb.name, "body": body}) == (0, verb, body)
    for name in body:
        with pytest.raises(InvalidError, match=f"needs the field {name}"):
            check_body(verb, {key: value for key, value in body.items() if key != name})
    with pytest.raises(InvalidError, match="has no field of that name"):
        check_body(verb, {**body, "frobnicate": 1})


def test_a_verb_without_a_body_has_an_empty_one() -> None:
    assert check_request({"id": MAX_INT, "verb": "status"}) == (MAX_INT, VERBS["status"], {})


@given(st.dictionaries(st.sampled_from(["id", "verb", "body", "ok"]), PLAIN))
def test_any_message_is_a_request_or_refused(message: dict[str, Any]) -> None:
    try:
        request_id, verb, body = check_request(message)
    except InvalidError:
        return
    assert type(request_id) is int
    assert 0 <= request_id <= MAX_INT
    assert VERBS[verb.name] is verb
    assert body == {}


@given(st.sampled_from(EVERY), PLAIN)
def test_a_value_of_any_shape_fits_or_is_refused_by_name(
    case: tuple[Verb, str], value: Any
) -> None:
    verb, name = case
    assert unpack(pack(value)) == value
    with contextlib.suppress(InvalidError):
        check_body(verb, {**_required(verb), name: value})
        return
    with pytest.raises(InvalidError, match=f"^{verb.name}: {name} must be "):
        check_body(verb, {**_required(verb), name: value})


def test_no_field_names_what_the_agent_would_open_load_or_run() -> None:
    """CVE-2023-38408: a client named the library that ssh-agent then loaded."""
    suspicious = {"path", "file", "dir", "module", "library", "command", "cmd", "exec", "argv"}
    suspicious |= {"program", "plugin", "provider", "url", "uri", "host", "socket", "log", "env"}
    for verb, name in EVERY:
        assert not suspicious & set(name.replace("-", "_").split("_")), f"{verb.name}.{name}"


def test_a_scoped_socket_has_no_verb_that_rules() -> None:
    """A scope reads and hands on; what changes session, store or others' leases is not there."""
    assert {verb.name for verb in VERBS.values() if verb.scoped} == {
        "hello", "status", "get", "ls", "describe", "leases", "renew", "release", "delegate",
        "scopes", "events",
    }  # fmt: skip


def test_what_is_secret_is_a_binary() -> None:
    """A binary never meets a str's interning, formatting or log calls by accident."""
    kinds = {name: known.kind for verb in VERBS.values() for name, known in verb.fields.items()}
    assert {kinds[name] for name in ("passphrase", "old", "new", "identity")} == {"bytes"}
    assert kinds["fields"] == "fields"
