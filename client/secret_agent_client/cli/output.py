"""Everything that the command line prints, and the only place that prints.

Rules that hold here:

* stdout carries what was asked for and nothing else; what is said about it goes to stderr;
* text that came from elsewhere (names, reasons, titles of processes, messages of providers) has
  every character escaped that a terminal would obey or a reader not see: control characters,
  bidirectional overrides, zero-width characters, lone surrogates (T4, T8, abuse 32);
* a value is written by `value` alone, as bytes, exact; a newline follows on a terminal only;
* colour only on a terminal, and not with NO_COLOR or TERM=dumb;
* a reader that has gone away (`| head`) is no error of ours: BrokenPipeError goes up to main().
"""

import os
import sys

from secret_agent_client.errors import SecretAgentError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any, BinaryIO

PROGRAM = "secret-agent"
MAX_SHOWN = 4096  # characters of one text from elsewhere; longer ones lose their middle
_STYLES = {"bold": "1", "red": "31", "green": "32", "yellow": "33", "dim": "2"}
Style = str


class OutputError(Exception):
    """Stdout cannot be written: a full disk, a closed descriptor.  Its text says why."""


class Output:
    """Where a command prints.  `as_json`: errors are told on stdout too, as JSON."""

    def __init__(
        self,
        *,
        as_json: bool = False,
        stdout: "BinaryIO | None" = None,
        stderr: "BinaryIO | None" = None,
        environ: "Mapping[str, str]" = os.environ,
    ) -> None:
        self.as_json = as_json
        self._stdout = sys.stdout.buffer if stdout is None else stdout
        self._stderr = sys.stderr.buffer if stderr is None else stderr
        plain = bool(environ.get("NO_COLOR")) or environ.get("TERM") == "dumb"
        self._stdout_colour = not plain and self._stdout.isatty()
        self._stderr_colour = not plain and self._stderr.isatty()

    def value(self, value: bytes) -> None:
        """A secret's value, exact."""
        self._put(self._stdout, value + b"\n" if self._stdout.isatty() else value)

    def json(self, document: "Any") -> None:
        """One JSON document; bytes in it become text where they are UTF-8, base64 otherwise."""
        import json

        text = json.dumps(jsonable(document), indent=2, ensure_ascii=True)
        self._write(self._stdout, text + "\n")

    def json_line(self, document: "Any") -> None:
        """One JSON document on a line of its own, for streams that do not end (JSON Lines)."""
        import json

        self._write(self._stdout, json.dumps(jsonable(document)) + "\n")

    def line(self, text: str = "", style: Style | None = None) -> None:
        """One line of what was asked for."""
        self._write(self._stdout, self._styled(escape(text), style, self._stdout_colour) + "\n")

    def raw(self, data: bytes | bytearray) -> None:
        """Bytes of what was asked for, unchanged: a script, a filled template, quoted assignments.

        The caller vouches for what is in them.
        """
        self._put(self._stdout, data)

    def table(self, headers: "Sequence[str]", rows: "Iterable[Sequence[object]]") -> None:
        """Columns as wide as they need; None shows as nothing.  No rows: nothing at all."""
        cells = [[escape("" if cell is None else str(cell)) for cell in row] for row in rows]
        if not cells:
            return
        widths = [max(map(len, column)) for column in zip(headers, *cells, strict=True)]
        head = self._styled(_row(headers, widths), "bold", self._stdout_colour)
        self._write(self._stdout, "\n".join([head, *(_row(row, widths) for row in cells)]) + "\n")

    def say(self, text: str, style: Style | None = None) -> None:
        """One line for the person, on stderr."""
        self._write(self._stderr, self._styled(escape(text), style, self._stderr_colour) + "\n")

    def warn(self, text: str) -> None:
        """Something that went otherwise than the person may think."""
        self._report("warning", text, "yellow")

    def hint(self, text: str) -> None:
        """What may help, said quietly; never needed by a script."""
        self.say(f"  {text}", "dim")

    def error(self, error: SecretAgentError) -> None:
        """What happened, why, and what to type; with --json the same on stdout."""
        self._report(None, error.message, "red")
        if error.remedy is not None:
            self._write(self._stderr, f"  try: {escape(error.remedy)}\n")
        if self.as_json:
            self.json({"error": error.to_wire()})

    def _report(self, kind: str | None, text: str, style: Style) -> None:
        head = f"{PROGRAM}: " if kind is None else f"{PROGRAM}: {kind}: "
        self._write(
            self._stderr, self._styled(head, style, self._stderr_colour) + escape(text) + "\n"
        )

    def _styled(self, text: str, style: Style | None, colour: bool) -> str:  # noqa: FBT001  # of a stream
        return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if colour and style and text else text

    def _write(self, stream: "BinaryIO", text: str) -> None:
        self._put(stream, text.encode("utf-8", "backslashreplace"))

    def _put(self, stream: "BinaryIO", data: bytes | bytearray) -> None:
        """Write all of it; with PYTHONUNBUFFERED a stream may take less than it is given."""
        view = memoryview(data)
        try:
            while view:
                view = view[stream.write(view) :]
            stream.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            if stream is self._stdout:
                raise OutputError(os.strerror(error.errno or 0).lower()) from None


def escape(text: str, *, most: int = MAX_SHOWN) -> str:
    """The text on one line, with every character that does not show itself written as its code.

    Longer than `most` characters, its middle is left out.
    """
    if len(text) > most:
        text = f"{text[: most // 2]}…{text[len(text) - most // 2 + 1 :]}"
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _code(char) for char in text)


def jsonable(value: "Any") -> "Any":
    """The same with bytes as CLI.md shows them: text if they are UTF-8, else {"base64": …}."""
    if isinstance(value, dict):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    if isinstance(value, bytes | bytearray):
        return _bytes_in_json(bytes(value))
    return value


def _bytes_in_json(value: bytes) -> "Any":
    try:
        return value.decode()
    except UnicodeDecodeError:
        from base64 import b64encode

        return {"base64": b64encode(value).decode()}


def _code(char: str) -> str:
    number = ord(char)
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def _row(cells: "Sequence[str]", widths: "Sequence[int]") -> str:
    padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
    return "  ".join(padded).rstrip()
