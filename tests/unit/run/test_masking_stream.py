"""The masker, piece by piece, gives what a slow and obvious masker gives for the whole."""

import itertools
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secret_agent_client.encodings import forms_of
from secret_agent_client.masking import MARK, Masker
from secret_agent_client.masking_patterns import HEAD, Patterns, compile_patterns

SECRET = b"hunter2-hunter2"

Values = list[bytes]
Case = tuple[Values, bytes, list[bytes]]


def places(values: Values, data: bytes) -> list[tuple[int, int]]:
    """Every place of every form, found one byte at a time."""
    forms = set().union(*(forms_of(value) for value in values))
    return sorted(
        (at, at + len(form))
        for form in forms
        for at in range(len(data))
        if data.startswith(form, at)
    )


def without_marks(data: bytes) -> bytes:
    return data.replace(b"*", b"")


def obvious(values: Values, data: bytes) -> bytes:
    """The whole with its places masked; places that overlap are one."""
    out: list[bytes] = []
    shown = end = 0
    for start, stop in places(values, data):
        if start >= end:
            out += [data[shown:start], MARK]
        end = max(end, stop)
        shown = end
    return b"".join([*out, data[shown:]])


def streamed(values: Values, pieces: list[bytes]) -> bytes:
    masker = Masker(values)
    return b"".join([*map(masker.feed, pieces), masker.flush()])


def split(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    ends = sorted({place % (len(data) + 1) for place in cuts} | {0, len(data)})
    return [data[a:b] for a, b in itertools.pairwise(ends)]


# Few letters, so that values overlap, nest and repeat themselves.
few = st.binary(max_size=24).map(lambda raw: bytes(b"ab\n-"[byte % 4] for byte in raw))
values_of_few = st.lists(few, max_size=4)


@st.composite
def outputs(draw: st.DrawFn) -> tuple[list[bytes], bytes, list[bytes]]:
    values = draw(st.lists(st.one_of(few, st.binary(max_size=40)), min_size=1, max_size=3))
    forms = sorted(set().union(*(forms_of(value) for value in values))) or [b"x"]
    part = st.one_of(
        few,
        st.binary(max_size=12),
        st.sampled_from(forms),
        st.sampled_from(forms).flatmap(
            lambda form: st.integers(0, len(form)).map(lambda n: form[:n])
        ),
        st.sampled_from(forms).flatmap(
            lambda form: st.integers(0, len(form)).map(lambda n: form[n:])
        ),
    )
    data = b"".join(draw(st.lists(part, max_size=10)))
    return values, data, split(data, draw(st.lists(st.integers(0, 10_000), max_size=12)))


@settings(max_examples=300, deadline=None)
@given(outputs())
def test_any_split_gives_what_the_whole_gives(case: Case) -> None:
    values, data, pieces = case
    assert streamed(values, pieces) == obvious(values, data)


@settings(max_examples=200, deadline=None)
@given(values_of_few, few, few)
def test_one_byte_at_a_time_gives_what_the_whole_gives(
    values: Values, left: bytes, right: bytes
) -> None:
    data = left + b"".join(values) + right
    assert streamed(values, [bytes([byte]) for byte in data]) == obvious(values, data)


@settings(max_examples=200, deadline=None)
@given(outputs(), st.lists(st.booleans(), min_size=13, max_size=13))
def test_letting_go_at_any_time_changes_only_how_much_of_a_beginning_is_seen(
    case: Case, silences: list[bool]
) -> None:
    values, data, pieces = case
    masker = Masker(values)
    shown = []
    for piece, silent in zip(pieces, itertools.cycle(silences), strict=False):
        shown.append(masker.feed(piece))
        if silent:
            shown.append(masker.let_go())
    seen = without_marks(b"".join([*shown, masker.flush()]))
    least = without_marks(obvious(values, data))
    assert len(least) <= len(seen) <= len(least) + 5 * len(places(values, data))


@pytest.mark.parametrize("cut", range(1, len(SECRET)))
def test_a_value_cut_anywhere_is_masked_as_one(cut: int) -> None:
    data = b"<" + SECRET + b">"
    assert streamed([SECRET], [data[: cut + 1], data[cut + 1 :]]) == b"<*****>"


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 4095, 4096, 4097])
def test_a_value_across_the_border_of_a_buffer_is_masked(chunk: int) -> None:
    for shift in range(len(SECRET) + 2):
        data = b"." * (4096 - shift) + SECRET + b"." * 50
        pieces = [data[at : at + chunk] for at in range(0, len(data), chunk)]
        assert streamed([SECRET], pieces) == b"." * (4096 - shift) + MARK + b"." * 50


class TestHolding:
    def test_what_cannot_begin_a_value_passes_at_once(self) -> None:
        masker = Masker([SECRET])
        assert masker.feed(b"password: ") == b"password: "
        assert masker.held == 0
        assert not masker.can_let_go

    def test_a_short_beginning_is_let_go_and_the_rest_is_masked_when_it_comes(self) -> None:
        masker = Masker([SECRET])
        assert masker.feed(b"> hunt") == b"> "
        assert masker.can_let_go
        assert masker.let_go() == b"hunt"
        assert masker.feed(b"er2-hunter2.") == b"*****."

    def test_what_was_let_go_and_was_no_value_is_not_shown_twice(self) -> None:
        masker = Masker([SECRET])
        shown = [masker.feed(b"hunt"), masker.let_go(), masker.feed(b"ing season"), masker.flush()]
        assert b"".join(shown) == b"hunting season"

    def test_a_value_written_a_byte_at_a_time_with_silences_shows_at_most_five_bytes(self) -> None:
        masker = Masker([SECRET])
        shown = b""
        for byte in SECRET:
            shown += masker.feed(bytes([byte]))
            shown += masker.let_go()
        assert shown + masker.flush() == b"hunte" + MARK

    def test_of_a_short_value_less_than_half_is_shown(self) -> None:
        masker = Masker([b"abcdef"])
        shown = b""
        for byte in b"abcdef":
            shown += masker.feed(bytes([byte])) + masker.let_go()
        assert shown == b"ab" + MARK

    def test_a_long_beginning_is_held_until_it_is_decided(self) -> None:
        masker = Masker([SECRET])
        assert masker.feed(b"hunter") == b""
        assert not masker.can_let_go
        assert masker.let_go() == b""
        assert masker.feed(b"!") == b"hunter!"

    def test_a_long_beginning_is_shown_when_the_stream_ends(self) -> None:
        masker = Masker([SECRET])
        assert masker.feed(SECRET[:-1]) == b""
        assert masker.flush() == SECRET[:-1]

    def test_what_stands_before_a_long_beginning_is_let_go(self) -> None:
        masker = Masker([b"xxxxxx-rest-of-it", b"aaaxxxxx-other"])
        assert masker.feed(b"aaxxxxxx") + masker.let_go() == b"aa"

    def test_a_masked_place_is_shown_although_another_may_go_on_from_within_it(self) -> None:
        masker = Masker([b"abcdef", b"defghi"])
        assert masker.feed(b"abcdef") == MARK
        assert masker.feed(b"ghi") == b""
        assert masker.feed(b"!") == b"!"

    def test_at_most_the_longest_pattern_is_held(self) -> None:
        patterns = compile_patterns([b"ab" * 300])
        masker = Masker(patterns)
        for _ in range(50):
            masker.feed(b"ab" * 100)
            assert len(masker._buffer) <= patterns.longest

    def test_after_flush_the_masker_begins_anew(self) -> None:
        masker = Masker([SECRET])
        masker.feed(SECRET[:9])
        masker.flush()
        assert masker.feed(SECRET[9:]) == SECRET[9:]


class TestPlaces:
    def test_overlapping_values_leave_no_residue(self) -> None:
        values = [b"abcdefgh", b"efghijkl"]
        assert streamed(values, [b"[abcdefghijkl]"]) == b"[*****]"

    def test_a_value_within_another_leaves_no_residue(self) -> None:
        values = [b"abcdefghijkl", b"defghi"]
        assert streamed(values, [b"[abcdefghijkl]"]) == b"[*****]"
        assert streamed(values, [b"[..defghi..]"]) == b"[..*****..]"

    def test_a_value_that_overlaps_itself_leaves_no_residue(self) -> None:
        assert streamed([b"abaabaa"], [b"abaabaabaa"]) == MARK

    def test_values_side_by_side_are_two_marks(self) -> None:
        assert streamed([SECRET], [SECRET + SECRET]) == MARK + MARK

    def test_a_longer_value_that_fails_does_not_hide_the_shorter_within_it(self) -> None:
        values = [b"token=abcdefXYZ", b"abcdef"]
        assert streamed(values, [b"token=abcdefQQQ"]) == b"token=*****QQQ"


def test_without_values_everything_passes_untouched() -> None:
    masker = Masker([])
    assert masker.feed(b"anything\xff\x00") == b"anything\xff\x00"
    assert masker.flush() == b""


def test_binary_passes_intact() -> None:
    data = bytes(range(256)) * 64
    assert streamed([SECRET], split(data, range(0, 16384, 97))) == data


def test_a_window_lies_within_the_head_of_its_pattern() -> None:
    patterns = compile_patterns([SECRET, b"-----BEGIN KEY-----\nabcdef\nghijkl"])
    for window, pairs in patterns.at.items():
        for offset, pattern in pairs:
            assert pattern[offset : offset + len(window)] == window
            assert offset + len(window) <= HEAD


def test_a_pattern_shorter_than_a_window_is_a_bug() -> None:
    with pytest.raises(AssertionError):
        Patterns([b"short"])
