"""The tally: a sum that depends on what is there, not on how it came to be, and fits only that."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secret_agent.store.keys import Keys
from secret_agent.store.rows import KEY_SIZE, MARK_SIZE
from secret_agent.store.tally import (
    MODULUS,
    Count,
    Tally,
    agrees,
    open_tally,
    seal_tally,
    term_of,
)
from secret_agent_client.errors import InvalidError

STORE_ID = bytes(range(16))
DIGEST_KEY = bytearray(range(32))

marks = st.binary(min_size=MARK_SIZE, max_size=MARK_SIZE)
tables = st.dictionaries(
    st.integers(1, 1 << 40).map(lambda number: number.to_bytes(KEY_SIZE, "big")),
    marks,
    max_size=8,
)
tallies = st.builds(
    Tally,
    rows=st.integers(0, 1 << 40),
    secrets=st.integers(0, 1 << 40),
    generation=st.integers(0, 1 << 60),
    digest=st.integers(0, MODULUS - 1),
    slots=st.binary(min_size=32, max_size=32),
    anchor=st.none() | st.tuples(st.integers(0, 1 << 60), st.text(max_size=64)),
)


@pytest.fixture
def tree() -> Iterator[Keys]:
    made = Keys(bytearray(os.urandom(32)), STORE_ID)
    yield made
    made.forget()


def count_of(table: dict[bytes, bytes]) -> Count:
    return Count.of(DIGEST_KEY, sorted(table.items()))


@given(tables, st.randoms(use_true_random=False))
def test_adding_rows_in_any_order_gives_what_counting_finds(
    table: dict[bytes, bytes], random: object
) -> None:
    pairs = list(table.items())
    random.shuffle(pairs)  # type: ignore[attr-defined]  # hypothesis types its Random as object
    tally = Tally()
    for key, mark in pairs:
        tally = tally.plus(term_of(DIGEST_KEY, key, mark))
    assert agrees(tally, count_of(table))


@given(tables, tables)
def test_taking_rows_away_undoes_adding_them(
    table: dict[bytes, bytes], more: dict[bytes, bytes]
) -> None:
    tally = Tally()
    for key, mark in [*table.items(), *more.items()]:
        tally = tally.plus(term_of(DIGEST_KEY, key, mark))
    for key, mark in more.items():
        tally = tally.minus(term_of(DIGEST_KEY, key, mark))
    assert agrees(tally, count_of(table))


@given(tables, tables)
def test_two_tables_have_the_same_count_only_if_they_are_the_same(
    one: dict[bytes, bytes], other: dict[bytes, bytes]
) -> None:
    assert (count_of(one) == count_of(other)) == (one == other)


def test_swapping_the_marks_of_two_rows_changes_the_digest() -> None:
    one, two = bytes(KEY_SIZE - 1) + b"1", bytes(KEY_SIZE - 1) + b"2"
    a, b = bytes(MARK_SIZE), b"\1" * MARK_SIZE
    straight, crossed = count_of({one: a, two: b}), count_of({one: b, two: a})
    assert straight.rows == crossed.rows
    assert straight.digest != crossed.digest


def test_the_digest_needs_the_key() -> None:
    key, mark = bytes(KEY_SIZE - 1) + b"1", bytes(MARK_SIZE)
    assert term_of(DIGEST_KEY, key, mark) != term_of(bytearray(32), key, mark)


@pytest.mark.parametrize(
    "pairs",
    [
        [(b"\2" * KEY_SIZE, bytes(MARK_SIZE)), (b"\1" * KEY_SIZE, bytes(MARK_SIZE))],
        [(b"\1" * KEY_SIZE, bytes(MARK_SIZE))] * 2,
        [(b"\1" * (KEY_SIZE - 1), bytes(MARK_SIZE))],
        [(b"\1" * KEY_SIZE, bytes(MARK_SIZE + 1))],
        [(b"", bytes(MARK_SIZE))],
    ],
    ids=["out of order", "twice", "short key", "long mark", "no key"],
)
def test_a_row_that_a_lookup_could_miss_is_refused(pairs: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(InvalidError, match="a row stands where it cannot be found"):
        Count.of(DIGEST_KEY, pairs)


@pytest.mark.parametrize("mark", [None, 7, 1.5, "text"])
def test_a_cell_of_another_type_is_refused(mark: object) -> None:
    with pytest.raises(InvalidError, match="a cell of another type"):
        Count.of(DIGEST_KEY, [(b"\1" * KEY_SIZE, mark)])  # type: ignore[list-item]  # on purpose


@given(tallies)
def test_a_sealed_tally_opens_to_itself(tally: Tally) -> None:
    tree = Keys(bytearray(32), STORE_ID)
    assert open_tally(tree, STORE_ID, seal_tally(tree, STORE_ID, tally)) == tally


@pytest.mark.parametrize("at", [0, 12, 28, -1])
def test_an_altered_tally_is_named(tree: Keys, at: int) -> None:
    sealed = bytearray(seal_tally(tree, STORE_ID, Tally(slots=bytes(32))))
    sealed[at] ^= 1
    with pytest.raises(InvalidError, match="the store's tally was altered"):
        open_tally(tree, STORE_ID, bytes(sealed))


def test_a_tally_of_another_store_or_one_too_short_is_named(tree: Keys) -> None:
    sealed = seal_tally(tree, bytes(16), Tally())
    for wrong in (sealed, sealed[:20], b""):
        with pytest.raises(InvalidError, match="the store's tally was altered"):
            open_tally(tree, STORE_ID, wrong)
