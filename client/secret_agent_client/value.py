"""SecretValue: the one type that carries a secret's bytes.

A value is a SecretValue from the moment it exists until the moment it is written to where it was
asked for.  It cannot be printed, formatted, pickled, copied or hashed by accident; the bytes come
out of `reveal()` alone, so that every place where a value leaves can be found by searching for that
word.

The buffer is a bytearray of ours and is overwritten by `wipe()`.  What `reveal()` returns is an
ordinary bytes object, which Python gives us no way to erase: see "memory" in SECURITY.md.
"""

from typing import NoReturn, SupportsIndex


class SecretValue:
    """Bytes that do not show themselves."""

    __slots__ = ("_buffer",)

    def __init__(self, value: bytes | bytearray) -> None:
        if not isinstance(value, bytes | bytearray):  # bytearray(5) would be five zeros
            raise TypeError("a secret value is made of bytes")
        self._buffer = bytearray(value)

    def reveal(self) -> bytes:
        """The value.  Keep what this returns for as short a time as the work allows."""
        return bytes(self._buffer)

    def wipe(self) -> None:
        """Overwrite our copy of the value; afterwards it is empty."""
        self._buffer[:] = bytes(len(self._buffer))
        self._buffer.clear()

    def __len__(self) -> int:
        return len(self._buffer)

    def __bool__(self) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SecretValue):
            return NotImplemented
        # Imported here: hmac brings OpenSSL with it, which would double the time of a `get`.
        from hmac import compare_digest

        return compare_digest(self._buffer, other._buffer)

    __hash__ = None  # type: ignore[assignment]  # a hash would be an oracle for the value

    def __repr__(self) -> str:
        return "SecretValue(…)"

    __str__ = __repr__

    def __format__(self, spec: str) -> NoReturn:
        raise TypeError(
            "a secret value cannot be formatted; use reveal() where it is meant to leave"
        )

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError("a secret value cannot be pickled or copied")
