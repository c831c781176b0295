"""SecretValue: no way of showing, copying or comparing it by accident gives its bytes away."""

import copy
import dataclasses
import json
import pickle
import traceback
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secret_agent_client.value import SecretValue

CANARY = b"cnry-0123456789abcdef"


@given(st.binary(max_size=100))
def test_reveal_gives_back_what_was_put_in(data: bytes) -> None:
    value = SecretValue(data)
    assert value.reveal() == data
    assert type(value.reveal()) is bytes
    assert len(value) == len(data)
    assert SecretValue(bytearray(data)).reveal() == data


@pytest.mark.parametrize(
    "show",
    [
        repr,
        str,
        lambda value: "%s" % value,  # noqa: UP031  # one of the ways of showing
        lambda value: "%r" % value,  # noqa: UP031  # one of the ways of showing
        lambda value: repr([value]),
        lambda value: repr({"password": value}),
        lambda value: f"{value!r}",
        lambda value: f"{value!s}",
        lambda value: str(vars(dataclasses.make_dataclass("D", ["v"])(value))),
    ],
)
def test_showing_it_shows_nothing(show: Any) -> None:
    shown = show(SecretValue(CANARY))
    assert "cnry" not in shown
    assert "SecretValue(…)" in shown


@pytest.mark.parametrize(
    "leak",
    [
        lambda value: f"{value}",
        lambda value: f"{value:>10}",
        format,
        pickle.dumps,
        copy.copy,
        copy.deepcopy,
        json.dumps,
        hash,
        bytes,
        list,
        lambda value: dataclasses.asdict(dataclasses.make_dataclass("D", ["v"])(value)),
        lambda value: value + b"",
        lambda value: b"" + value,
        vars,
    ],
)
def test_what_would_give_it_away_is_refused_without_showing_it(leak: Any) -> None:
    value = SecretValue(CANARY)
    with pytest.raises(TypeError) as caught:
        leak(value)
    told = "".join(
        traceback.TracebackException.from_exception(caught.value, capture_locals=True).format()
    )
    assert "cnry-0" not in told.replace(repr(CANARY), "")


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_two_values_are_equal_as_their_bytes_are(one: bytes, other: bytes) -> None:
    assert (SecretValue(one) == SecretValue(other)) is (one == other)
    assert SecretValue(one) == SecretValue(one)


def test_a_value_equals_no_plain_bytes() -> None:
    assert SecretValue(CANARY) != CANARY
    assert SecretValue(CANARY) != None  # noqa: E711  # the comparison itself is under test


def test_an_empty_value_is_still_a_value() -> None:
    assert SecretValue(b"")
    assert len(SecretValue(b"")) == 0


def test_wipe_overwrites_the_buffer_itself() -> None:
    value = SecretValue(CANARY)
    buffer = value._buffer
    size = len(buffer)
    view = memoryview(buffer)
    with pytest.raises(BufferError):  # the view keeps the buffer from shrinking, so that it shows
        value.wipe()
    assert bytes(view) == bytes(size)
    view.release()
    value.wipe()
    assert value.reveal() == b""


@pytest.mark.parametrize("wrong", ["text", 5, None, [1]])
def test_a_value_is_made_of_bytes_alone(wrong: Any) -> None:
    with pytest.raises(TypeError, match="made of bytes"):
        SecretValue(wrong)
