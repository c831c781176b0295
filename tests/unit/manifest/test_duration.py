"""Durations: every form of the command line is read, everything else is refused unechoed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secret_agent_client.duration import about_duration, format_duration, parse_duration
from secret_agent_client.errors import InvalidError
from secret_agent_client.messages import MAX_SECONDS


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("15m", 900), ("8h", 28800), ("2d", 172800), ("007m", 420)],
)
def test_each_documented_form_is_read(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "s",
        "-1",
        "+5",
        "1.5h",
        "1 h",
        " 1h",
        "1h ",
        "1w",
        "1H",
        "1h30m",
        "٣m",
        "1_0",
        "0x1",
        "²",
    ],
)
def test_what_is_no_duration_is_refused_and_not_echoed(text: str) -> None:
    with pytest.raises(InvalidError) as caught:
        parse_duration(text, what="--ttl")
    assert caught.value.message == "--ttl must be like 90, 90s, 15m, 8h or 2d"


@pytest.mark.parametrize("text", ["0", "0s", "00d"])
def test_nothing_is_no_duration(text: str) -> None:
    with pytest.raises(InvalidError, match="at least one second"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["3661d", "9" * 11, "9" * 5000, "9" * 5000 + "d"])
def test_what_is_too_long_is_refused_without_work(text: str) -> None:
    with pytest.raises(InvalidError, match="at most ten years"):
        parse_duration(text)


@given(st.integers(min_value=1, max_value=MAX_SECONDS))
def test_what_is_printed_is_read_back_as_the_same(seconds: int) -> None:
    assert parse_duration(format_duration(seconds)) == seconds


def test_the_shortest_exact_form_is_printed() -> None:
    assert [format_duration(s) for s in (59, 60, 5400, 7200, 86400)] == [
        "59s",
        "1m",
        "90m",
        "2h",
        "1d",
    ]


def test_about_rounds_down_to_the_largest_unit() -> None:
    assert [about_duration(s) for s in (-3, 0.9, 59, 3599, 7199, 200000)] == [
        "0s",
        "0s",
        "59s",
        "59m",
        "1h",
        "2d",
    ]
