"""A type says which fields there are, which may be shown, and what can be made of them."""

import base64
import string
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secret_agent.secret_types.generate import DEFAULTS, generate
from secret_agent.secret_types.schema import TYPES, get_type
from secret_agent_client.errors import InvalidError


def test_an_unknown_type_names_those_that_there_are() -> None:
    with pytest.raises(InvalidError, match="generic, login, token, file, postgres-login"):
        get_type("logn")


def test_what_a_type_does_not_name_is_kept_and_sensitive() -> None:
    login = get_type("login")
    login.check({"password": b"x", "recovery": b"y"})
    assert login.is_sensitive("recovery")
    assert login.is_sensitive("password")
    assert not login.is_sensitive("username")


def test_a_required_field_is_named() -> None:
    kind = get_type("postgres-login")
    with pytest.raises(InvalidError, match="needs the field username") as caught:
        kind.check({"password": b"x"})
    assert caught.value.remedy is not None
    kind.check({"password": b"x"}, also=["username"])


def test_a_derived_field_cannot_be_given() -> None:
    with pytest.raises(InvalidError, match="url of type postgres-login is derived"):
        get_type("postgres-login").check({"username": b"u", "url": b"x"})


def test_a_url_is_derived_once_its_parts_are_there_and_quoted() -> None:
    kind = get_type("postgres-login")
    stored = {
        "username": b"ada",
        "password": b"p@ss/w:rd",
        "host": b"db",
        "port": b"5432",
        "database": b"pay",
    }
    assert kind.derivable(["username"]) == ()
    assert kind.derivable(stored) == ("url",)
    assert kind.derive("url", stored) == b"postgresql://ada:p%40ss%2Fw%3Ard@db:5432/pay"


def test_a_url_has_the_usual_port_where_none_is_given() -> None:
    kind = get_type("postgres-login")
    stored = {"username": b"a", "password": b"p", "host": b"db", "database": b"a b"}
    assert kind.derivable(stored) == ("url",)
    assert kind.derive("url", stored) == b"postgresql://a:p@db:5432/a%20b"


@pytest.mark.parametrize(
    "host", [b"db", b"db-1.example.org", b"10.0.0.1", b"[::1]", b"%2Frun%2Fpostgresql"]
)
def test_a_host_is_a_name_an_address_or_a_quoted_folder(host: bytes) -> None:
    get_type("postgres-login").check({"username": b"u", "host": host})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("host", b""),
        ("host", b"evil.example/@db"),
        ("host", b"db\nx"),
        ("host", b"db:1"),
        ("host", b"db?host=evil.example"),
        ("host", b"-db"),
        ("port", b"5432/x"),
        ("port", b"\xd9\xa3"),
        ("port", b"123456"),
    ],
)
def test_what_stands_unquoted_in_a_url_cannot_lead_it_elsewhere(name: str, value: bytes) -> None:
    kind = get_type("postgres-login")
    with pytest.raises(InvalidError, match=f"the field {name} of type postgres-login") as caught:
        kind.check({"username": b"u", name: value})
    assert not value or value.decode("utf-8", "replace") not in str(caught.value)
    stored = {"username": b"u", "password": b"p", "host": b"h", "database": b"d", name: value}
    with pytest.raises(InvalidError, match=name):
        kind.derive("url", stored)


def test_each_type_has_a_primary_field_and_a_way_to_make_it() -> None:
    for kind in TYPES.values():
        assert kind.primary
        assert generate(kind.generate_spec(kind.primary))


@pytest.mark.parametrize(
    ("spec", "length", "alphabet"),
    [
        ("alnum:40", 40, string.ascii_letters + string.digits),
        ("alnum", 32, string.ascii_letters + string.digits),
        ("hex:16", 32, "0123456789abcdef"),
        ("password:24", 24, string.ascii_letters + string.digits + "-_.!~"),
    ],
)
def test_a_generator_keeps_to_its_length_and_letters(spec: str, length: int, alphabet: str) -> None:
    value = generate(spec)
    assert len(value) == length
    assert set(value.decode()) <= set(alphabet)
    assert generate(spec) != value


def test_bytes_and_base64_have_the_length_that_was_asked_for() -> None:
    assert len(generate("bytes:48")) == 48
    assert len(base64.b64decode(generate("base64:48"))) == 48


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("", "KIND:LENGTH"),
        ("uuid", "KIND:LENGTH"),
        ("alnum:", "KIND:LENGTH"),
        ("alnum:-5", "KIND:LENGTH"),
        ("alnum:³", "KIND:LENGTH"),
        ("alnum:12:3", "KIND:LENGTH"),
        ("alnum:8", "at least 17, for 96 bits"),
        ("hex:11", "at least 12"),
        ("hex:5000", "at most 4096"),
        ("hex:" + "9" * 5000, "at most 4096"),
    ],
)
def test_what_is_no_generator_or_too_weak_is_refused(spec: str, says: str) -> None:
    with pytest.raises(InvalidError, match=says):
        generate(spec)


@given(st.sampled_from(sorted(DEFAULTS)), st.integers(0, 5000))
def test_every_length_makes_a_value_or_an_error(kind: str, length: int) -> None:
    with suppress(InvalidError):
        assert generate(f"{kind}:{length}")
