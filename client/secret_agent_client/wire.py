"""Framing, sans-I/O: bytes in, messages out, and back.  The format is told in client/PROTOCOL.md.

Rules that hold here: both sides use it; no socket, no clock, no logging; a message is a dict; what
arrives is never echoed.  A frame is a length of four bytes, big-endian, and one msgpack map.  A
message whose map would not fit one frame is sent in parts: frames of {"part": bytes, "more": bool}
that nothing may interrupt, whose parts joined are the map.

FrameError is final for a connection (the place of the next frame is unknown); InvalidError is not.
"""

from secret_agent_client.codec import MAX_VALUES, Plain, pack, unpack
from secret_agent_client.errors import InvalidError

MAX_FRAME = 256 * 1024  # bytes after the length; ssh-agent's limit for a message
MAX_MESSAGE = 1280 * 1024  # bytes of a joined message: fields of 1 MiB in all, and their names
MAX_REPLY = 64 * 1024 * 1024  # bytes of a joined reply: the list of 100,000 secrets and more
MAX_REPLY_VALUES = 4 * 1024 * 1024  # values in what a client reads; a list of secrets has many
PART = MAX_FRAME - 64  # bytes of a part; leaves room for the map around it
HEADER = 4  # bytes of length

Message = dict[str, Plain]


class FrameError(InvalidError):
    """The stream is no longer in step: the connection is answered once and closed."""


def encode(message: Message, *, most: int = MAX_MESSAGE) -> bytes:
    """The bytes that send a message: one frame, or as many parts as it needs.

    Raises InvalidError where the message is larger than `most` bytes; a reply may have MAX_REPLY.
    """
    payload = pack(message)
    if len(payload) <= MAX_FRAME:
        return len(payload).to_bytes(HEADER, "big") + payload
    if len(payload) > most:
        raise InvalidError(f"a message has {len(payload)} bytes; the most is {most}")
    out = bytearray()
    for at in range(0, len(payload), PART):
        frame = pack({"part": payload[at : at + PART], "more": at + PART < len(payload)})
        out += len(frame).to_bytes(HEADER, "big")
        out += frame
    return bytes(out)


class Decoder:
    """Feed it what arrived; take messages from it until it has none.

    `max_message` bounds the bytes that one message may make us hold, `max_values` the values in it:
    the defaults are what a request can need; a client reads with MAX_REPLY and MAX_REPLY_VALUES.
    """

    __slots__ = ("_buffer", "_max_message", "_max_values", "_parts")

    def __init__(self, *, max_message: int = MAX_MESSAGE, max_values: int = MAX_VALUES) -> None:
        self._buffer = bytearray()
        self._parts = bytearray()
        self._max_message = max_message
        self._max_values = max_values

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Take bytes as they came, in pieces of any size."""
        self._buffer += data

    @property
    def holds_partial(self) -> bool:
        """Whether something has begun that has not ended: a peer is expected to go on at once."""
        return bool(self._buffer or self._parts)

    def next(self) -> Message | None:
        """The next message, or None until more bytes come.

        Raises FrameError where the stream cannot go on, and InvalidError for a frame that is no
        message, after which the next one can be taken.
        """
        while True:
            frame = self._next_frame()
            if frame is None:
                return None
            message = self._read(frame)
            if "part" not in message:
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

    def _read(self, frame: bytes) -> Message:
        """The map in a frame; between the parts of a message nothing but a part may stand."""
        if not self._parts:
            return self._unpack(frame)
        try:
            message = self._unpack(frame)
        except InvalidError as error:
            raise FrameError(error.message) from None
        if "part" not in message:
            raise FrameError("a message was interrupted between its parts")
        return message

    def _unpack(self, payload: bytes | bytearray) -> Message:
        message = unpack(payload, max_values=self._max_values)
        if not isinstance(message, dict):
            raise InvalidError("a message that is something other than a map")
        return message

    def _add_part(self, message: Message) -> bool:
        """Keep a part; whether it was the last."""
        part, more = message["part"], message.get("more")
        if not isinstance(part, bytes) or not isinstance(more, bool) or len(message) != 2:
            raise FrameError("a part of a message that does not look like one")
        if not part:
            raise FrameError("an empty part of a message")
        self._parts += part
        if len(self._parts) > self._max_message:
            raise FrameError(f"a message of more than {self._max_message} bytes")
        return not more

    def _join(self) -> Message:
        payload = bytes(self._parts)
        self._parts.clear()
        message = self._unpack(payload)
        if "part" in message:
            raise InvalidError("the parts of a message join to a part")
        return message
