"""Framing, sans-I/O: bytes in, messages out, and back.  Both sides use it; the format is told in client/PROTOCOL.md.

Rules that hold here: no socket, no clock, no logging; a message is a dict; what arrives is never echoed.
A frame is a length of four bytes, big-endian, and one msgpack map.  A message whose map would not fit one frame is
sent in parts: frames of {"part": bytes, "more": bool} that nothing may interrupt, whose parts joined are the map.

FrameError is final for a connection (the place of the next frame is unknown); InvalidError is not.
"""

from collections import deque

from secret_agent_client.codec import Plain, pack, unpack
from secret_agent_client.errors import InvalidError

MAX_FRAME = 256 * 1024  # bytes after the length; ssh-agent's limit for a message
MAX_MESSAGE = 1280 * 1024  # bytes of a joined message: fields of 1 MiB in all, and their names
PART = MAX_FRAME - 64  # bytes of a part; leaves room for the map around it
HEADER = 4  # bytes of length

Message = dict[str, Plain]


class FrameError(InvalidError):
    """The stream is no longer in step: the connection is answered once and closed."""


def encode(message: Message) -> bytes:
    """The bytes that send a message: one frame, or as many parts as it needs.

    Raises InvalidError where the message is larger than MAX_MESSAGE.
    """
    payload = pack(message)
    if len(payload) <= MAX_FRAME:
        return len(payload).to_bytes(HEADER, "big") + payload
    if len(payload) > MAX_MESSAGE:
        raise InvalidError(f"a message has {len(payload)} bytes; the most is {MAX_MESSAGE}")
    out = bytearray()
    for at in range(0, len(payload), PART):
        frame = pack({"part": payload[at : at + PART], "more": at + PART < len(payload)})
        out += len(frame).to_bytes(HEADER, "big")
        out += frame
    return bytes(out)


class Decoder:
    """Feed it what arrived; take messages from it until it has none.

    `max_message` bounds what one message may make us hold, in bytes.
    """

    __slots__ = ("_buffer", "_max_message", "_parts", "_size")

    def __init__(self, *, max_message: int = MAX_MESSAGE) -> None:
        self._buffer = bytearray()
        self._parts: deque[bytes] = deque()
        self._size = 0
        self._max_message = max_message

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Take bytes as they came, in pieces of any size."""
        self._buffer += data

    @property
    def holds_partial(self) -> bool:
        """Whether something has begun that has not ended: a peer is expected to go on at once."""
        return bool(self._buffer or self._parts)

    def next(self) -> Message | None:
        """The next message, or None until more bytes come.

        Raises FrameError where the stream cannot go on, and InvalidError for a frame that is no message, after
        which the next one can be taken.
        """
        while True:
            frame = self._next_frame()
            if frame is None:
                return None
            message = unpack(frame)
            if not isinstance(message, dict):
                raise InvalidError("a frame holds something other than a map")
            if "part" not in message:
                if self._parts:
                    raise FrameError("a message was interrupted between its parts")
                return message
            if self._add_part(message):
                return self._join()

    def _next_frame(self) -> bytes | None:
        if len(self._buffer) < HEADER:
            return None
        length = int.from_bytes(self._buffer[:HEADER], "big")
        if length == 0:
            raise FrameError("a frame of zero length")
        if length > MAX_FRAME:
            raise FrameError(f"a frame of {length} bytes; the most is {MAX_FRAME}")
        if len(self._buffer) < HEADER + length:
            return None
        frame = bytes(self._buffer[HEADER : HEADER + length])
        del self._buffer[: HEADER + length]
        return frame

    def _add_part(self, message: Message) -> bool:
        """Keep a part; whether it was the last."""
        part, more = message["part"], message.get("more")
        if not isinstance(part, bytes) or not isinstance(more, bool) or len(message) != 2:
            raise FrameError("a part of a message that does not look like one")
        self._size += len(part)
        if self._size > self._max_message or not part:
            raise FrameError(f"a message of more than {self._max_message} bytes, or an empty part")
        self._parts.append(part)
        return not more

    def _join(self) -> Message:
        payload = b"".join(self._parts)
        self._parts.clear()
        self._size = 0
        message = unpack(payload)
        if not isinstance(message, dict):
            raise InvalidError("the parts of a message join to something other than a map")
        return message
