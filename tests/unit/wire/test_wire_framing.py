"""Framing: messages of any size arrive as they were sent, and nothing makes a reader hold much."""

import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secret_agent_client.codec import MAX_VALUES, pack
from secret_agent_client.errors import InvalidError
from secret_agent_client.wire import (
    HEADER,
    MAX_FRAME,
    MAX_MESSAGE,
    MAX_REPLY,
    MAX_REPLY_VALUES,
    PART,
    Decoder,
    FrameError,
    encode,
)


def _frame(payload: bytes) -> bytes:
    return len(payload).to_bytes(HEADER, "big") + payload


def _part(part: Any, *, more: Any) -> bytes:
    return _frame(pack({"part": part, "more": more}))


def _of_payload(size: int) -> dict[str, Any]:
    """A message whose map has exactly so many bytes."""
    message = {"v": b"x" * (size - len(pack({"v": b"x" * size})) + size)}
    assert len(pack(message)) == size
    return message


@pytest.mark.parametrize(
    ("size", "frames"),
    [
        (MAX_FRAME - 1, 1),
        (MAX_FRAME, 1),
        (MAX_FRAME + 1, 2),
        (2 * PART, 2),
        (2 * PART + 1, 3),
        (MAX_MESSAGE, 6),
    ],
)
def test_a_message_is_sent_in_as_few_frames_as_hold_it(size: int, frames: int) -> None:
    message = _of_payload(size)
    data = encode(message)
    seen = 0
    at = 0
    while at < len(data):
        length = int.from_bytes(data[at : at + HEADER], "big")
        assert length <= MAX_FRAME
        at += HEADER + length
        seen += 1
    assert seen == frames
    decoder = Decoder()
    decoder.feed(data)
    assert decoder.next() == message


def test_a_message_that_is_too_large_is_not_sent() -> None:
    with pytest.raises(InvalidError, match=f"{MAX_MESSAGE + 1} bytes; the most is {MAX_MESSAGE}"):
        encode(_of_payload(MAX_MESSAGE + 1))


def test_a_reply_may_be_larger_than_a_request() -> None:
    message = _of_payload(MAX_MESSAGE + 1)
    decoder = Decoder(max_message=MAX_REPLY)
    decoder.feed(encode(message, most=MAX_REPLY))
    assert decoder.next() == message
    requests = Decoder()
    requests.feed(encode(message, most=MAX_REPLY))
    with pytest.raises(FrameError, match=f"more than {MAX_MESSAGE} bytes"):
        requests.next()


@given(st.lists(st.integers(0, 3 * 10**5), max_size=4), st.data())
def test_any_messages_cut_anywhere_arrive_in_order(sizes: list[int], data: st.DataObject) -> None:
    messages = [{"id": number, "v": bytes(size)} for number, size in enumerate(sizes)]
    stream = b"".join(map(encode, messages))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    decoder, arrived = Decoder(), []
    for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        decoder.feed(stream[begin:end])
        while (message := decoder.next()) is not None:
            arrived.append(message)
    assert arrived == messages
    assert not decoder.holds_partial


def test_holds_partial_tells_a_quiet_peer_from_a_slow_one() -> None:
    decoder = Decoder()
    seen = [decoder.holds_partial]
    for piece in (b"\0", encode({"id": 1})[1:], _part(b"\x80", more=True)):
        decoder.feed(piece)
        seen.append(decoder.holds_partial)
        decoder.next()
        seen.append(decoder.holds_partial)
    assert seen == [False, True, True, True, False, True, True]


def test_a_reader_can_be_told_to_hold_less() -> None:
    decoder = Decoder(max_message=100)
    decoder.feed(_part(b"x" * 100, more=True))
    assert decoder.next() is None
    decoder.feed(_part(b"x", more=True))
    with pytest.raises(FrameError, match="more than 100 bytes"):
        decoder.next()


def test_a_client_reads_longer_lists_than_the_agent_does() -> None:
    reply = {"id": 1, "ok": {"secrets": [None] * MAX_VALUES}}
    agents, clients = Decoder(), Decoder(max_values=MAX_REPLY_VALUES)
    agents.feed(encode(reply))
    clients.feed(encode(reply))
    assert clients.next() == reply
    with pytest.raises(InvalidError, match="more values"):
        agents.next()


def test_a_bomb_of_small_parts_is_held_in_as_many_bytes_as_it_has() -> None:
    """A list of two-byte objects would take thirty times their size."""
    decoder = Decoder()
    part = _part(b"ab", more=True)
    tracemalloc.start()
    try:
        for _ in range(15_000):
            decoder.feed(part)
            assert decoder.next() is None
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 120_000


def test_a_length_is_refused_before_anything_of_its_frame_has_come() -> None:
    decoder = Decoder()
    decoder.feed((MAX_FRAME + 1).to_bytes(HEADER, "big"))
    with pytest.raises(FrameError, match=f"{MAX_FRAME + 1} bytes; the most is {MAX_FRAME}"):
        decoder.next()


def test_a_stream_out_of_step_stays_so() -> None:
    decoder = Decoder()
    decoder.feed(bytes(HEADER) + encode({"id": 1}))
    for _ in range(3):
        with pytest.raises(FrameError):
            decoder.next()
