"""Assignments in the words of a shell, from names and bytes that may be anything (T4).

Single quotes alone are used: between them no shell expands anything.  A value with a NUL cannot be
in an environment at all and is refused by name.
"""

from secret_agent_client.errors import InvalidError

SHELLS = ("bash", "zsh", "fish", "posix")


def assignment(shell: str, name: str, value: bytes) -> bytes:
    """A line, `;`-ended, that exports the name with exactly this value.

    Raises InvalidError for a value with a NUL.  The name has been checked.
    """
    if b"\0" in value:
        raise InvalidError(f"the value for {name} has a NUL, which no environment can hold")
    if shell == "fish":
        return b"set -gx %s %s;" % (name.encode(), _fish(value))
    if shell == "posix":
        return b"%s=%s; export %s;" % (name.encode(), _posix(value), name.encode())
    return b"export %s=%s;" % (name.encode(), _posix(value))


def _posix(value: bytes) -> bytes:
    return b"'" + value.replace(b"'", b"'\\''") + b"'"


def _fish(value: bytes) -> bytes:
    return b"'" + value.replace(b"\\", b"\\\\").replace(b"'", b"\\'") + b"'"
