"""The golden vectors hold: what is to be read is read, what is to be refused is refused.

They hold too however the bytes are cut on their way, and the frame after a bad one is still read.
"""

import msgpack
import pytest

from secret_agent_client.errors import InvalidError
from secret_agent_client.messages import check_request
from secret_agent_client.wire import HEADER, MAX_FRAME, Decoder, FrameError, Message, encode
from support.vectors import Vector, wire_vectors

NEXT = {"id": 7, "verb": "status"}


def _only(decoder: Decoder) -> Message | None:
    message = decoder.next()
    assert decoder.next() is None
    return message


@pytest.mark.parametrize("vector", wire_vectors("message"), ids=str)
def test_a_message_has_one_form(vector: Vector) -> None:
    assert vector.message is not None
    assert encode(vector.message) == vector.data


@pytest.mark.parametrize("vector", wire_vectors("accepted"), ids=str)
def test_what_is_only_accepted_has_another_form(vector: Vector) -> None:
    assert vector.message is not None
    assert encode(vector.message) != vector.data


@pytest.mark.parametrize("vector", wire_vectors("message", "accepted", "refused"), ids=str)
def test_a_message_is_read_whole(vector: Vector) -> None:
    decoder = Decoder()
    decoder.feed(vector.data)
    assert _only(decoder) == vector.message
    assert not decoder.holds_partial


@pytest.mark.parametrize("vector", wire_vectors("message", "accepted", "refused"), ids=str)
@pytest.mark.parametrize("pieces", [2, 3, 100])
def test_a_message_is_read_in_pieces(vector: Vector, pieces: int) -> None:
    size = max(1, len(vector.data) // pieces)
    decoder = Decoder()
    for at in range(0, len(vector.data), size):
        assert decoder.next() is None
        decoder.feed(vector.data[at : at + size])
        assert decoder.holds_partial
    assert _only(decoder) == vector.message


@pytest.mark.parametrize("vector", wire_vectors("message", "accepted", "refused"), ids=str)
def test_the_msgpack_library_reads_the_same(vector: Vector) -> None:
    length = int.from_bytes(vector.data[:HEADER], "big")
    if HEADER + length == len(vector.data):  # not in parts
        assert msgpack.unpackb(vector.data[HEADER:]) == vector.message


@pytest.mark.parametrize("vector", wire_vectors("invalid"), ids=str)
def test_a_bad_frame_is_refused_and_the_next_one_read(vector: Vector) -> None:
    decoder = Decoder()
    decoder.feed(vector.data + encode(NEXT))
    with pytest.raises(InvalidError) as caught:
        decoder.next()
    assert not isinstance(caught.value, FrameError)
    assert _only(decoder) == NEXT


@pytest.mark.parametrize("vector", wire_vectors("closed"), ids=str)
def test_a_stream_out_of_step_is_given_up(vector: Vector) -> None:
    decoder = Decoder()
    decoder.feed(vector.data)
    with pytest.raises(FrameError):
        decoder.next()


@pytest.mark.parametrize("vector", wire_vectors("more"), ids=str)
def test_a_beginning_is_waited_for(vector: Vector) -> None:
    decoder = Decoder()
    decoder.feed(vector.data)
    assert decoder.next() is None
    assert decoder.holds_partial


@pytest.mark.parametrize("vector", wire_vectors("refused"), ids=str)
def test_a_message_that_is_no_request_is_refused(vector: Vector) -> None:
    assert vector.message is not None
    with pytest.raises(InvalidError):
        check_request(vector.message)


@pytest.mark.parametrize("vector", wire_vectors("invalid", "closed"), ids=str)
def test_nothing_that_came_is_echoed(vector: Vector) -> None:
    """The words of an error are ours alone: letters that stand in the input do not come back."""
    decoder = Decoder()
    decoder.feed(vector.data)
    with pytest.raises(InvalidError) as caught:
        decoder.next()
    assert "HTTP" not in caught.value.message
    assert len(caught.value.message) < 100
    assert caught.value.message.isascii()


def test_the_largest_frame_is_among_the_vectors() -> None:
    assert (
        max(int.from_bytes(vector.data[:HEADER], "big") for vector in wire_vectors("message"))
        == MAX_FRAME
    )
