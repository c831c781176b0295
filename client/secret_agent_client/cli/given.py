"""What a person gives a command beside references: files to be read, and permission bits."""

import os
import sys

from secret_agent_client.errors import InvalidError


def read_input(path: str | None, *, most: int, what: str) -> bytes:
    """All of a file, or of stdin where the path is `-` or None.

    Raises InvalidError, naming `what`, where it cannot be read or has more than `most` bytes.
    """
    try:
        if path in (None, "-"):
            data = sys.stdin.buffer.read(most + 1)
        else:
            with open(path, "rb") as file:  # noqa: PTH123  # Path("") would be the folder
                data = file.read(most + 1)
    except OSError as error:
        raise cannot_be_read(what, error) from None
    if len(data) > most:
        raise InvalidError(f"{what} has more than {most} bytes")
    return data


def cannot_be_read(what: str, error: OSError) -> InvalidError:
    """The error for a file that the system does not give us."""
    return InvalidError(f"{what} cannot be read: {os.strerror(error.errno or 0).lower()}")


def parse_octal(text: str, *, example: str) -> int:
    """Permission bits from octal digits.  Raises InvalidError; the caller knows which may be."""
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and not set(text) & set("89")):
        raise InvalidError(f"--mode must be octal digits, such as {example}")
    return int(text, 8)
