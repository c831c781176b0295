r"""Read a `.env` file: names and values, as they stand, and what could not be taken.

    file   = *( blank / comment / [ "export" ] NAME "=" value )
    value  = single / double / bare [ " #" comment ]
    single = 'as it stands, may span lines'
    double = "with \n \r \t \" \\ \$, may span lines"

Rules that hold here (T4, T7, T41):

* lines end at LF alone, with one CR before it dropped; no other character ends a line;
* nothing is expanded and nothing is run: `$NAME` stays those characters, and `expands` says that
  another reader would have put something else there;
* a line that fits no rule is left and told of by its number; its content is never echoed.

The grammar is told in client/REFERENCES.md.
"""

from dataclasses import dataclass

from secret_agent_client.errors import InvalidError
from secret_agent_client.value import SecretValue

MAX_FILE = 1024 * 1024  # bytes; what one secret may hold in all, and far more than people write

_FIRST = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_")
_REST = _FIRST | frozenset("0123456789")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "$": "$"}


@dataclass(frozen=True, slots=True)
class Assignment:
    """One `NAME=value`.  `expands`: it holds a `$` that other readers would expand."""

    name: str
    value: SecretValue
    line: int
    expands: bool


@dataclass(frozen=True, slots=True)
class Dotenv:
    """What a file holds: assignments in their order, and (line, why) of what was left."""

    assignments: tuple[Assignment, ...]
    left: tuple[tuple[int, str], ...]


def is_environment_name(name: str) -> bool:
    """Whether it is a name that every shell takes: `[A-Za-z_][A-Za-z0-9_]*`."""
    return bool(name) and name[0] in _FIRST and all(char in _REST for char in name)


def parse_dotenv(data: bytes) -> Dotenv:
    """Read the file.  Raises InvalidError where it is no text; single lines are left instead."""
    if len(data) > MAX_FILE:
        raise InvalidError(f"the .env file has more than {MAX_FILE} bytes")
    try:
        text = data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise InvalidError(f"the .env file is not UTF-8 at byte {error.start}") from None
    taken: list[Assignment] = []
    left: list[tuple[int, str]] = []
    at, line = 0, 1
    while at < len(text):
        end, found = _read_line(text, at, line)
        if isinstance(found, Assignment):
            taken.append(found)
        elif found is not None:
            left.append((line, found))
        line += text.count("\n", at, end)
        at = end
    return Dotenv(tuple(taken), tuple(left))


def _read_line(text: str, at: int, line: int) -> tuple[int, Assignment | str | None]:
    """Where the next line begins, and the assignment, why it was left, or None for a comment."""
    end = _line_end(text, at)
    stripped = text[at:end].strip(" \t\n")
    if not stripped or stripped.startswith("#"):
        return end, None
    name, equals, _ = stripped.partition("=")
    name = name.removeprefix("export ").strip(" \t")
    if not equals:
        return end, "no NAME=value"
    if not is_environment_name(name):
        return end, "what stands before = is no name of a variable"
    begin = text.index("=", at) + 1
    while text[begin : begin + 1] in (" ", "\t"):
        begin += 1
    quote = text[begin : begin + 1]
    if quote not in ("'", '"'):
        return end, _assignment(name, _bare(text[begin:end]), line, expandable=True)
    return _read_quoted(text, begin, name, line)


def _read_quoted(text: str, begin: int, name: str, line: int) -> tuple[int, Assignment | str]:
    quote = text[begin]
    close = begin + 1
    while close < len(text) and text[close] != quote:
        close += 2 if quote == '"' and text[close] == "\\" else 1
    if close >= len(text):
        return _line_end(text, begin), "a quoted value that does not end"
    end = _line_end(text, close)
    rest = text[close + 1 : end].strip(" \t\n")
    if rest and not rest.startswith("#"):
        return end, "something after a quoted value"
    inner = text[begin + 1 : close]
    if quote == "'":
        return end, _assignment(name, inner, line, expandable=False)
    return end, _assignment(
        name, _unescape(inner), line, expandable="$" in _unquoted_dollars(inner)
    )


def _assignment(name: str, value: str, line: int, *, expandable: bool) -> Assignment | str:
    if "\0" in value:
        return "a value with a NUL character"
    return Assignment(name, SecretValue(value.encode()), line, expandable and "$" in value)


def _bare(text: str) -> str:
    """An unquoted value: without a comment that a space sets off, and without space around it."""
    for at, char in enumerate(text):
        if char == "#" and (at == 0 or text[at - 1] in " \t"):
            text = text[:at]
            break
    return text.strip(" \t\n")


def _unescape(text: str) -> str:
    out, at = [], 0
    while at < len(text):
        if text[at] == "\\" and text[at + 1 : at + 2] in _ESCAPES:
            out.append(_ESCAPES[text[at + 1]])
            at += 2
        else:
            out.append(text[at])
            at += 1
    return "".join(out)


def _unquoted_dollars(text: str) -> str:
    return text.replace("\\\\", "").replace("\\$", "")


def _line_end(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end + 1
