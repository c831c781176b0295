"""What is printed, where, and what of it a terminal could obey (T4, T8, abuse 32)."""

import io
import json
import unicodedata
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secret_agent_client.cli.output import MAX_SHOWN, Output, OutputError, escape, jsonable
from secret_agent_client.errors import DeniedError


class Stream(io.BytesIO):
    """A stream that can claim to be a terminal, and take little at a time."""

    def __init__(self, *, terminal: bool = False, takes: int = 1 << 20) -> None:
        super().__init__()
        self.terminal = terminal
        self.takes = takes

    def isatty(self) -> bool:
        return self.terminal

    def write(self, data: "bytes | bytearray | memoryview") -> int:  # type: ignore[override]  # enough of it
        return super().write(bytes(data)[: self.takes])


def output(
    *, terminal: bool = False, as_json: bool = False, environ: Mapping[str, str] | None = None
) -> tuple[Output, Stream, Stream]:
    stdout, stderr = Stream(terminal=terminal), Stream(terminal=terminal)
    out = Output(as_json=as_json, stdout=stdout, stderr=stderr, environ=environ or {})
    return out, stdout, stderr


HOSTILE = {
    "escape": ("a\x1b[31mb", "a\\x1b[31mb"),
    "newline": ("a\nb\r", "a\\x0ab\\x0d"),
    "tab and bell": ("\t\x07", "\\x09\\x07"),
    "delete and C1": ("\x7f\x9b", "\\x7f\\x9b"),
    "bidi override": ("a\u202eb\u2066", "a\\u202eb\\u2066"),
    "zero width": ("\u200b\ufeff", "\\u200b\\ufeff"),
    "line separator": ("\u2028\u2029", "\\u2028\\u2029"),
    "lone surrogate": ("\udc80", "\\udc80"),
    "tag characters": ("\U000e0041", "\\U000e0041"),
}


@pytest.mark.parametrize(("text", "shown"), HOSTILE.values(), ids=HOSTILE)
def test_what_a_terminal_would_obey_is_written_as_its_code(text: str, shown: str) -> None:
    assert escape(text) == shown


def test_what_people_write_stays_as_it_is() -> None:
    assert escape("grüße, 秘密 🔑 à") == "grüße, 秘密 🔑 à"


@given(st.text(st.characters(categories=None)))
def test_no_character_of_control_or_format_comes_through(text: str) -> None:
    shown = escape(text)
    assert all(unicodedata.category(char)[0] != "C" for char in shown)
    assert len(shown.splitlines()) <= 1
    shown.encode()


def test_a_text_without_end_loses_its_middle() -> None:
    shown = escape("a" * 9000 + "z" * 9000)
    assert len(shown) == MAX_SHOWN
    assert (shown[0], shown[-1]) == ("a", "z")
    assert "…" in shown


def test_a_value_is_exact_and_has_a_newline_on_a_terminal_only() -> None:
    for terminal, written in ((False, b"\x00\xffv"), (True, b"\x00\xffv\n")):
        out, stdout, stderr = output(terminal=terminal)
        out.value(b"\x00\xffv")
        assert (stdout.getvalue(), stderr.getvalue()) == (written, b"")


def test_a_stream_that_takes_little_at_a_time_gets_all() -> None:
    stdout = Stream(takes=3)
    Output(stdout=stdout, stderr=Stream(), environ={}).value(b"0123456789")
    assert stdout.getvalue() == b"0123456789"


def test_what_was_asked_for_and_what_is_said_about_it_do_not_mix() -> None:
    out, stdout, stderr = output()
    out.line("asked")
    out.raw(b"raw\n")
    out.say("said")
    out.warn("careful")
    out.hint("perhaps")
    assert stdout.getvalue() == b"asked\nraw\n"
    assert stderr.getvalue() == b"said\nsecret-agent: warning: careful\n  perhaps\n"


def test_an_error_says_what_and_what_to_type() -> None:
    out, stdout, stderr = output()
    out.error(DeniedError("not\x1byours", remedy="secret-agent ls"))
    assert stderr.getvalue() == b"secret-agent: not\\x1byours\n  try: secret-agent ls\n"
    assert stdout.getvalue() == b""


def test_with_json_an_error_is_on_stdout_too() -> None:
    out, stdout, stderr = output(as_json=True)
    out.error(DeniedError("no", remedy="ask", rule="r1"))
    wanted = {"error": {"code": "denied", "message": "no", "try": "ask", "rule": "r1"}}
    assert json.loads(stdout.getvalue()) == wanted
    assert stderr.getvalue().startswith(b"secret-agent: no\n")


def test_bytes_in_json_are_text_where_they_are_and_base64_where_not() -> None:
    assert jsonable({"a": b"text", "b": [b"\xff", None], "c": (1, True)}) == {
        "a": "text",
        "b": [{"base64": "/w=="}, None],
        "c": [1, True],
    }
    out, stdout, _ = output()
    out.json({"v": b"\xff\x00"})
    assert json.loads(stdout.getvalue()) == {"v": {"base64": "/wA="}}


def test_a_line_of_json_is_one_line() -> None:
    out, stdout, _ = output()
    out.json_line({"v": "ü\n"})
    assert stdout.getvalue().count(b"\n") == 1
    assert json.loads(stdout.getvalue()) == {"v": "ü\n"}


def test_a_table_is_as_wide_as_it_needs_and_escapes_its_cells() -> None:
    out, stdout, _ = output()
    out.table(("NAME", "N"), [("a\nb", 1), ("long-name", None)])
    assert stdout.getvalue() == b"NAME       N\na\\x0ab     1\nlong-name\n"


def test_a_table_without_rows_is_nothing() -> None:
    out, stdout, _ = output()
    out.table(("NAME",), [])
    assert stdout.getvalue() == b""


@pytest.mark.parametrize(
    ("terminal", "environ", "coloured"),
    [
        (True, {}, True),
        (True, {"NO_COLOR": ""}, True),
        (True, {"NO_COLOR": "1"}, False),
        (True, {"TERM": "dumb"}, False),
        (False, {}, False),
    ],
)
def test_colour_is_for_terminals_that_want_it(
    terminal: bool,  # noqa: FBT001  # a parameter of the test
    environ: dict[str, str],
    coloured: bool,  # noqa: FBT001  # ditto
) -> None:
    out, stdout, stderr = output(terminal=terminal, environ=environ)
    out.line("x", "bold")
    out.error(DeniedError("no"))
    assert (b"\x1b[" in stdout.getvalue(), b"\x1b[" in stderr.getvalue()) == (coloured, coloured)


class Full(Stream):
    """A stdout on a full disk."""

    def write(self, data: object) -> int:
        raise OSError(28, "No space left on device")


def test_a_stdout_that_cannot_be_written_is_an_error_that_says_why() -> None:
    out = Output(stdout=Full(), stderr=Stream(), environ={})
    with pytest.raises(OutputError, match="no space left on device"):
        out.line("x")


def test_a_stderr_that_cannot_be_written_stops_nothing() -> None:
    stdout = Stream()
    out = Output(stdout=stdout, stderr=Full(), environ={})
    out.say("x")
    out.line("goes on")
    assert stdout.getvalue() == b"goes on\n"
