"""Whatever arrives, however it is cut, the decoder ends with messages or with InvalidError.

What it makes of a stream does not depend on how the stream was cut, and what it accepts it would
itself send.
"""

import contextlib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from secret_agent_client.errors import InvalidError
from secret_agent_client.messages import check_request
from secret_agent_client.wire import Decoder, FrameError, encode
from support.vectors import wire_vectors

GOLDEN = [vector.data for vector in wire_vectors() if len(vector.data) < 4096]
FRAMED = st.binary(min_size=1, max_size=80).map(lambda data: len(data).to_bytes(4, "big") + data)
EDIT = st.tuples(st.integers(0, 4095), st.binary(max_size=3), st.integers(0, 3))


def _edited(data: bytes, edits: list[tuple[int, bytes, int]]) -> bytes:
    for at, put, gone in edits:
        at %= len(data) + 1  # noqa: PLW2901  # a place inside, wherever the draw fell
        data = data[:at] + put + data[at + gone :]
    return data


MUTATED = st.builds(_edited, st.sampled_from(GOLDEN), st.lists(EDIT, min_size=1, max_size=3))
PIECE = st.sampled_from(GOLDEN) | MUTATED | FRAMED | st.binary(max_size=40)
STREAM = st.lists(PIECE, max_size=4).map(b"".join)


def _read(pieces: list[bytes]) -> list[Any]:
    """What a server would see: messages, "invalid" for a frame that is none, "closed"."""
    decoder = Decoder()
    seen: list[Any] = []
    for piece in pieces:
        decoder.feed(piece)
        while True:
            try:
                message = decoder.next()
            except FrameError:
                return [*seen, "closed"]
            except InvalidError:
                seen.append("invalid")
                continue
            if message is None:
                break
            seen.append(message)
    return seen


@given(STREAM, st.data())
def test_the_cut_of_a_stream_makes_no_difference(stream: bytes, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert repr(_read(pieces)) == repr(_read([stream]))


@given(STREAM)
def test_what_is_read_reads_the_same_when_sent_again(stream: bytes) -> None:
    for message in _read([stream]):
        if isinstance(message, dict):
            assert repr(_read([encode(message)])) == repr([message])


@given(STREAM)
def test_any_message_is_a_request_or_refused(stream: bytes) -> None:
    for message in _read([stream]):
        if isinstance(message, dict):
            with contextlib.suppress(InvalidError):
                request_id, verb, body = check_request(message)
                assert request_id >= 0
                assert set(body) <= set(verb.fields)
