"""The codec: what is packed is unpacked equal, and the msgpack library agrees on both ways."""

import time
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secret_agent_client.codec import MAX_DEPTH, MAX_VALUES, pack, unpack
from secret_agent_client.errors import InvalidError

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
LEAF = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.sampled_from(
        [sign * 2**n + d for n in (5, 7, 8, 16, 31, 32) for d in (-1, 0) for sign in (1, -1)]
    )
    | TEXT
    | st.binary(max_size=300)
)
VALUE = st.recursive(
    LEAF,
    lambda inner: st.lists(inner, max_size=18) | st.dictionaries(TEXT, inner, max_size=18),
    max_leaves=40,
).filter(lambda value: _depth(value) <= MAX_DEPTH)


def _depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return (isinstance(value, list | dict)) + max(map(_depth, inner), default=0)


def _damaged(data: bytes) -> st.SearchStrategy[bytes]:
    """The data with a byte changed, one taken out, or the end cut off."""
    if not data:
        return st.just(data)
    places = st.integers(0, len(data) - 1)
    return (
        st.tuples(places, st.integers(0, 255)).map(
            lambda edit: data[: edit[0]] + bytes([edit[1]]) + data[edit[0] + 1 :]
        )
        | places.map(lambda at: data[:at] + data[at + 1 :])
        | places.map(lambda at: data[:at])
    )


@given(VALUE)
def test_what_is_packed_is_unpacked_equal(value: Any) -> None:
    unpacked = unpack(pack(value))
    assert unpacked == value
    assert repr(unpacked) == repr(value)  # True is not 1, and order is kept


@given(VALUE)
def test_the_msgpack_library_packs_the_same_bytes(value: Any) -> None:
    assert pack(value) == msgpack.packb(value)


@given(VALUE)
def test_the_msgpack_library_unpacks_the_same_value(value: Any) -> None:
    assert msgpack.unpackb(pack(value)) == value


@given(st.binary(max_size=64) | VALUE.map(msgpack.packb).flatmap(_damaged))
def test_what_we_accept_the_msgpack_library_accepts_as_the_same(data: bytes) -> None:
    try:
        value = unpack(data)
    except InvalidError:
        return
    theirs = msgpack.unpackb(data, strict_map_key=True)
    assert repr(theirs) == repr(value)


@given(VALUE, st.data())
def test_no_beginning_of_a_value_is_a_value(value: Any, data: st.DataObject) -> None:
    packed = pack(value)
    cut = data.draw(st.integers(0, len(packed) - 1))
    with pytest.raises(InvalidError, match="ends in the middle"):
        unpack(packed[:cut])


@given(VALUE, st.binary(min_size=1, max_size=8))
def test_nothing_may_follow_a_value(value: Any, more: bytes) -> None:
    packed = pack(value)
    with pytest.raises(InvalidError, match=f"after the end of the message at offset {len(packed)}"):
        unpack(packed + more)


@pytest.mark.parametrize(
    "value",
    [
        1.5,
        float("nan"),
        {1: "integer key"},
        {b"k": "binary key"},
        {None: 1},
        2**64,
        -(2**63) - 1,
        object(),
        {"v": {1, 2}},
        memoryview(b"x"),
    ],
)
def test_what_the_wire_lacks_is_a_bug_of_the_caller(value: Any) -> None:
    with pytest.raises(TypeError):
        pack(value)


def test_a_type_error_names_the_type_and_not_the_value() -> None:
    with pytest.raises(TypeError, match=r"^float cannot be sent$"):
        pack({"v": 1.5})


def test_text_without_a_utf8_form_is_refused() -> None:
    """A file name or an argument that is not text arrives as surrogates."""
    for value in ("a\udcff", {"k\udcff": 1}):
        with pytest.raises(InvalidError, match="no UTF-8 form"):
            pack(value)


def test_tuples_and_bytearrays_are_sent_as_lists_and_binaries() -> None:
    assert unpack(pack({"t": (1, 2), "b": bytearray(b"x")})) == {"t": [1, 2], "b": b"x"}


@pytest.mark.parametrize("make", [lambda inner: [inner], lambda inner: {"v": inner}])
def test_depth_is_bounded_both_ways(make: Any) -> None:
    value: Any = 1
    for _ in range(MAX_DEPTH):
        value = make(value)
    assert unpack(pack(value)) == value
    with pytest.raises(TypeError, match="nested"):
        pack(make(value))
    with pytest.raises(InvalidError, match="nested"):
        unpack(msgpack.packb(make(value)))


def test_the_count_of_values_is_bounded() -> None:
    assert unpack(pack([None] * MAX_VALUES)) == [None] * MAX_VALUES
    with pytest.raises(InvalidError, match="more values"):
        unpack(pack([None] * (MAX_VALUES + 1)))
    assert unpack(pack([None] * 5), max_values=5) == [None] * 5
    with pytest.raises(InvalidError, match="more values"):
        unpack(pack({"a": [1, 2], "b": []}), max_values=5)


def test_lengths_of_every_size_are_written_and_read() -> None:
    for length in (31, 32, 255, 256, 65535, 65536):
        assert unpack(pack("s" * length)) == "s" * length
        assert unpack(pack(b"b" * length)) == b"b" * length
    for length in (15, 16, 65535, 65536):
        assert unpack(pack([0] * length), max_values=length) == [0] * length


def test_a_value_too_long_for_any_length_is_refused() -> None:
    class Endless(bytes):
        def __len__(self) -> int:
            return 2**32

    with pytest.raises(TypeError, match="4 GiB"):
        pack(Endless())


HOSTILE = {
    "nesting": b"\x91" * 262_000,
    "empty maps": b"\xdd" + (262_000).to_bytes(4, "big") + b"\x80" * 262_000,
    "small arrays": b"\xdc\x0f\xff" + (b"\xdc\x0f\xff" + b"\xc0" * 4095) * 64,
    "claims": b"\xdd\x00\xb7\x1b\x00" + b"\x01" * 16,
    "short keys": b"\xde\xff\xff"
    + b"".join(b"\xa3" + n.to_bytes(3, "big") for n in range(65_535)).replace(b"\xff", b"a"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_malformed_message_is_refused_within_50_ms(name: str) -> None:
    """SECURITY-CASES 5.8.  Measured in CPU time, so that a busy machine does not matter."""
    start = time.process_time()
    with pytest.raises(InvalidError):
        unpack(HOSTILE[name])
    assert time.process_time() - start < 0.05


def test_the_costliest_message_that_is_read_takes_less_than_50_ms() -> None:
    costliest = b"\xdc\x0f\xff" + b"\x80" * 4095
    start = time.process_time()
    assert unpack(costliest) == [{}] * 4095
    assert time.process_time() - start < 0.05
