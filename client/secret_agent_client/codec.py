"""The subset of msgpack that the wire uses, strictly, in pure Python.

What is allowed: nil, booleans, integers of 64 bits, UTF-8 strings, binaries, arrays, and maps whose
keys are distinct strings; nested at most MAX_DEPTH deep; each in any of its encodings, minimal or
not.  What is refused: floats (NaN among them), extension types (timestamps among them), keys that
are no strings or stand twice, bad UTF-8, truncation, trailing bytes, and more values than the
reader has a use for.  Source: https://github.com/msgpack/msgpack/blob/master/spec.md

It is the only codec of both sides, so that no two decoders can disagree about one message, the
client runs on a bare Python, and `secret-agent get` imports almost nothing.  The msgpack library is
its reference in the tests.
"""

from secret_agent_client.errors import InvalidError

MAX_DEPTH = 8  # levels of arrays and maps; no message of ours needs more than five
MAX_VALUES = 4096  # values in one message; an empty map is one byte on the wire and sixty in memory

Plain = object
"""None, bool, int, str, bytes, a list of Plain or a dict from str to Plain."""


def pack(value: Plain) -> bytes:
    """Encode, each value in its shortest form.

    Raises TypeError for what the subset lacks (a bug of the caller), and InvalidError for a string
    that has no UTF-8 form: such strings come from file names and arguments that are not text.
    """
    out = bytearray()
    _pack(value, out, MAX_DEPTH)
    return bytes(out)


def unpack(data: bytes | bytearray | memoryview, *, max_values: int = MAX_VALUES) -> Plain:
    """Decode exactly one value.  Raises InvalidError naming the offset, never the content."""
    view = bytes(data)
    try:
        value, end = _unpack(view, 0, MAX_DEPTH, [max_values])
    except IndexError:
        raise InvalidError("the message ends in the middle of a value") from None
    if end != len(view):
        raise InvalidError(f"bytes after the end of the message at offset {end}")
    return value


def _pack(value: Plain, out: bytearray, depth: int) -> None:
    if value is None:
        out.append(0xC0)
    elif value is True or value is False:
        out.append(0xC3 if value else 0xC2)
    elif type(value) is int:
        _pack_int(value, out)
    elif type(value) is str:
        _pack_str(value, out)
    elif isinstance(value, bytes | bytearray):
        _pack_length(len(value), (0xC4, 0xC5, 0xC6), out)
        out += value
    elif depth == 0:
        raise TypeError(f"nested more than {MAX_DEPTH} deep")
    elif isinstance(value, list | tuple):
        _pack_list(value, out, depth)
    elif isinstance(value, dict):
        _pack_map(value, out, depth)
    else:
        raise TypeError(f"{type(value).__name__} cannot be sent")


def _pack_str(value: str, out: bytearray) -> None:
    try:
        data = value.encode()
    except UnicodeEncodeError:
        raise InvalidError("a string that has no UTF-8 form cannot be sent") from None
    if len(data) < 32:
        out.append(0xA0 | len(data))
    else:
        _pack_length(len(data), (0xD9, 0xDA, 0xDB), out)
    out += data


def _pack_list(value: "list[Plain] | tuple[Plain, ...]", out: bytearray, depth: int) -> None:
    if len(value) < 16:
        out.append(0x90 | len(value))
    else:
        _pack_length(len(value), (None, 0xDC, 0xDD), out)
    for item in value:
        _pack(item, out, depth - 1)


def _pack_map(value: "dict[str, Plain]", out: bytearray, depth: int) -> None:
    if len(value) < 16:
        out.append(0x80 | len(value))
    else:
        _pack_length(len(value), (None, 0xDE, 0xDF), out)
    for key, item in value.items():
        if type(key) is not str:
            raise TypeError("a map's key must be a string")
        _pack_str(key, out)
        _pack(item, out, depth - 1)


def _pack_int(value: int, out: bytearray) -> None:
    if -32 <= value < 128:
        out.append(value & 0xFF)
        return
    heads = (0xCC, 0xCD, 0xCE, 0xCF) if value >= 0 else (0xD0, 0xD1, 0xD2, 0xD3)
    for head, size in zip(heads, (1, 2, 4, 8), strict=True):
        try:
            number = value.to_bytes(size, "big", signed=value < 0)
        except OverflowError:
            continue
        out.append(head)
        out += number
        return
    raise TypeError("an integer of more than 64 bits cannot be sent")


def _pack_length(length: int, heads: "tuple[int | None, int, int]", out: bytearray) -> None:
    for head, size in zip(heads, (1, 2, 4), strict=True):
        if head is not None and length < 1 << (8 * size):
            out.append(head)
            out += length.to_bytes(size, "big")
            return
    raise TypeError("a value of more than 4 GiB cannot be sent")


# What a first byte says: (kind, bytes of length or of number that follow).
_HEADS: dict[int, tuple[str, int]] = {
    0xC4: ("bin", 1), 0xC5: ("bin", 2), 0xC6: ("bin", 4),
    0xCC: ("uint", 1), 0xCD: ("uint", 2), 0xCE: ("uint", 4), 0xCF: ("uint", 8),
    0xD0: ("int", 1), 0xD1: ("int", 2), 0xD2: ("int", 4), 0xD3: ("int", 8),
    0xD9: ("str", 1), 0xDA: ("str", 2), 0xDB: ("str", 4),
    0xDC: ("list", 2), 0xDD: ("list", 4), 0xDE: ("map", 2), 0xDF: ("map", 4),
}  # fmt: skip

# In what follows `at` is the offset of the next byte, `depth` the levels that may still be opened,
# and `left[0]` the values that may still come.  An IndexError means that the data ended early.


def _unpack(data: bytes, at: int, depth: int, left: list[int]) -> "tuple[Plain, int]":
    head = data[at]
    at += 1
    if head < 0x80 or head >= 0xE0:
        return (head if head < 0x80 else head - 256), at
    if head < 0x90:
        return _unpack_map(data, at, head & 15, depth, left)
    if head < 0xA0:
        return _unpack_list(data, at, head & 15, depth, left)
    if head < 0xC0:
        return _unpack_str(data, at, head & 31)
    if head in (0xC0, 0xC2, 0xC3):
        return (None, False, True)[max(0, head - 0xC1)], at
    return _unpack_long(data, at, head, depth, left)


def _unpack_long(
    data: bytes, at: int, head: int, depth: int, left: list[int]
) -> "tuple[Plain, int]":
    if head not in _HEADS:
        raise InvalidError(f"a type that the wire does not use (0x{head:02x}) at offset {at - 1}")
    kind, size = _HEADS[head]
    number = _take(data, at, size)
    at += size
    if kind == "int":
        return int.from_bytes(number, "big", signed=True), at
    length = int.from_bytes(number, "big")
    if kind == "uint":
        return length, at
    if kind == "str":
        return _unpack_str(data, at, length)
    if kind == "bin":
        return _take(data, at, length), at + length
    return (_unpack_list if kind == "list" else _unpack_map)(data, at, length, depth, left)


def _take(data: bytes, at: int, length: int) -> bytes:
    if at + length > len(data):
        raise IndexError
    return data[at : at + length]


def _unpack_str(data: bytes, at: int, length: int) -> "tuple[str, int]":
    try:
        return _take(data, at, length).decode(), at + length
    except UnicodeDecodeError:
        raise InvalidError(f"a string that is not UTF-8 at offset {at}") from None


def _unpack_list(
    data: bytes, at: int, length: int, depth: int, left: list[int]
) -> "tuple[list[Plain], int]":
    _open(data, at, length, depth, left)
    items = []
    for _ in range(length):
        item, at = _unpack(data, at, depth - 1, left)
        items.append(item)
    return items, at


def _unpack_map(
    data: bytes, at: int, length: int, depth: int, left: list[int]
) -> "tuple[dict[str, Plain], int]":
    _open(data, at, 2 * length, depth, left)
    items: dict[str, Plain] = {}
    for _ in range(length):
        start = at
        key, at = _unpack_key(data, at)
        if key in items:
            raise InvalidError(f"a map's key that stands twice at offset {start}")
        items[key], at = _unpack(data, at, depth - 1, left)
    return items, at


def _unpack_key(data: bytes, at: int) -> "tuple[str, int]":
    head = data[at]
    if 0xA0 <= head < 0xC0:
        return _unpack_str(data, at + 1, head & 31)
    kind, size = _HEADS.get(head, ("", 0))
    if kind != "str":
        raise InvalidError(f"a map's key that is no string at offset {at}")
    at += 1
    return _unpack_str(data, at + size, int.from_bytes(_take(data, at, size), "big"))


def _open(data: bytes, at: int, count: int, depth: int, left: list[int]) -> None:
    """Check, before anything is made, that an array or map of so many values may begin here."""
    if depth == 0:
        raise InvalidError(f"nested more than {MAX_DEPTH} deep at offset {at}")
    if count > len(data) - at:  # each value has one byte at least
        raise IndexError
    left[0] -= count
    if left[0] < 0:
        raise InvalidError(f"more values than a message may hold at offset {at}")
