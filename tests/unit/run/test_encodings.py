"""Every form in which programs print a value is in the table, and none that would ruin a log."""

import base64
import html
import json
import re
import shlex
import subprocess
from collections.abc import Callable
from urllib.parse import quote, quote_plus
from xml.sax.saxutils import escape, quoteattr

import pytest

from secret_agent_client.encodings import (
    LARGE,
    MANY_LINES,
    MIN_CHARACTERS,
    forms_of,
    has_short_lines,
    is_maskable,
    lines_of,
)
from secret_agent_client.masking import Masker

# Every character that some escaper treats on its own.
AWKWARD = "pä ss/wörd+<&>\"'\\$`%=?;:@,!()*~\t|^#{}[]é"
VALUES = [AWKWARD, "correct-horse-battery-staple", "S3cr3t/+=value", "user&pass&+word&tail"]
PEM = (
    "-----BEGIN PRIVATE KEY-----\n"
    + "\n".join(base64.b64encode(bytes([n]) * 48).decode() for n in range(1, 5))
    + "\n-----END PRIVATE KEY-----\n"
)


DOTNET = {"\\": "\\\\", "\t": "\\t"}


def masked(value: str | bytes, data: str | bytes) -> bytes:
    masker = Masker([value if isinstance(value, bytes) else value.encode()])
    return masker.feed(data if isinstance(data, bytes) else data.encode()) + masker.flush()


def javascript_uri_component(text: str) -> str:
    return quote(text, safe="-_.!~*'()")


ESCAPERS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "url": lambda text: quote(text, safe=""),
    "url path": quote,
    "url form": quote_plus,
    "url lower case": lambda text: re.sub(
        "%..", lambda found: found[0].lower(), quote(text, safe="")
    ),
    "javascript": javascript_uri_component,
    "json": lambda text: json.dumps(text)[1:-1],
    "json utf-8": lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    "json php": lambda text: json.dumps(text)[1:-1].replace("/", "\\/"),
    "json go": lambda text: (
        json.dumps(text, ensure_ascii=False)[1:-1]
        .replace("<", "\\u003c")
        .replace(">", "\\u003e")
        .replace("&", "\\u0026")
    ),
    "json .net": lambda text: "".join(
        f"\\u{ord(char):04X}"
        if char in "\"'<>&+`äöé"
        else {"\\": "\\\\", "\t": "\\t"}.get(char, char)
        for char in text
    ),
    "html": html.escape,
    "html text": lambda text: html.escape(text, quote=False),
    "xml": escape,
    "xml attribute": lambda text: quoteattr(text)[1:-1],
    "xml numeric": lambda text: html.escape(text).encode("ascii", "xmlcharrefreplace").decode(),
    "shlex": lambda text: shlex.quote("'" + text)[6:-1],
    "sql": lambda text: text.replace("'", "''"),
    "csv": lambda text: text.replace('"', '""'),
    "windows command line": lambda text: text.replace('"', '\\"'),
    "python repr": lambda text: repr(text)[1:-1],
    "python repr of bytes": lambda text: repr(text.encode())[2:-1],
    "hex": lambda text: text.encode().hex(),
    "HEX": lambda text: text.encode().hex().upper(),
}


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("escaper", ESCAPERS)
def test_what_an_escaper_prints_is_masked(escaper: str, value: str) -> None:
    assert masked(value, f"<<{ESCAPERS[escaper](value)}>>") == b"<<*****>>"


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("before", [b"", b"u", b"us", b"user:", b"user:x", b"user:xx"])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_base64_of_something_that_holds_the_value_shows_at_most_what_the_neighbours_share(
    encode: Callable[[bytes], bytes], before: bytes, value: str
) -> None:
    text = encode(before + value.encode() + b":after")
    left, right = masked(value, text).split(b"*****")
    assert len(left) == len(before) // 3 * 4 + (0, 2, 3)[len(before) % 3]
    after = len(before + value.encode())
    assert len(text) - after // 3 * 4 - (after % 3) - len(right) in (0, 1)  # 1: by chance


@pytest.mark.parametrize("length", range(6, 20))
@pytest.mark.parametrize("before", [b"", b"u", b"us"])
def test_base64_that_ends_with_the_value_leaves_nothing_of_its_end(
    before: bytes, length: int
) -> None:
    value = bytes(range(97, 97 + length))
    padded = base64.b64encode(before + value)
    for text in (padded, padded.rstrip(b"=")):
        seen = masked(value, text)
        assert seen.endswith(b"*****")
        assert len(seen) == (0, 2, 3)[len(before)] + 5


@pytest.mark.parametrize("columns", [64, 76])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("newline", ["", "\n"])
def test_wrapped_base64_is_masked_as_a_whole_and_line_by_line(
    columns: int, line_end: str, newline: str
) -> None:
    value = "x".join(f"{n:03}" for n in range(60))
    text = base64.b64encode((value + newline).encode()).decode()
    lines = [text[at : at + columns] for at in range(0, len(text), columns)]
    assert masked(value, line_end.join(lines)) == b"*****"
    for line in lines:
        assert len(line) < MIN_CHARACTERS or masked(value, f"| {line} |") == b"| ***** |"


@pytest.mark.slow
@pytest.mark.parametrize("value", [*VALUES, "x" * 200])
@pytest.mark.parametrize(
    "script",
    [
        'printf %s "$V"',
        'printf %q "$V"',
        'printf %s "$V" | base64',
        'printf %s "$V" | base64 -w0',
        'echo "$V" | base64',
        'printf %s "$V" | od -An -v -tx1 | tr -d " \\n"',
        '(set -x; : "$V") 2>&1',
        "declare -p V | cut -d= -f2-",
        'echo "${V@Q}"',
    ],
)
def test_what_bash_prints_is_masked(script: str, value: str) -> None:
    done = subprocess.run(
        ["bash", "-c", script],
        env={"V": value, "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
        capture_output=True,
        check=True,
    )
    seen = masked(value, done.stdout)
    assert b"*****" in seen
    assert len(seen) <= len("+ : '*****'\n") + 4, seen


class TestLines:
    @pytest.mark.parametrize(
        "printed",
        [
            PEM,
            PEM.strip(),
            PEM.replace("\n", "\r\n"),
            json.dumps(PEM)[1:-1],
            json.dumps(PEM.replace("\n", "\r\n"))[1:-1],
            PEM.encode().hex(),
            base64.b64encode(PEM.encode()).decode(),
            base64.b64encode(PEM.replace("\n", "\r\n").encode()).decode(),
            quote(PEM, safe=""),
            repr(PEM)[1:-1],
        ],
    )
    def test_a_value_of_several_lines_is_masked_whole(self, printed: str) -> None:
        assert masked(PEM, f"[{printed}]").replace(b"\r", b"").replace(b"\n", b"") == b"[*****]"

    @pytest.mark.parametrize("line", PEM.splitlines())
    def test_each_line_alone_is_masked_in_every_form(self, line: str) -> None:
        for escaper in (str, quote, lambda text: text.encode().hex()):
            assert masked(PEM, f"  {escaper(line)},") == b"  *****,"

    def test_lines_indented_by_whoever_prints_them_are_masked(self) -> None:
        indented = "".join(f"    {line}\n" for line in PEM.splitlines())
        assert set(masked(PEM, indented).split()) == {b"*****"}

    def test_lines_joined_by_blanks_are_masked(self) -> None:
        seen = masked("first line\nsecond line", "first line second line")
        assert seen == b"***** *****"

    def test_a_literal_backslash_n_between_lines_leaves_only_itself(self) -> None:
        seen = masked("first-line\nsecond-line", "first-line\\\\nsecond-line")
        assert seen == b"*****\\\\n*****"

    def test_short_lines_are_left_alone(self) -> None:
        value = '{\n  "key": "abcdef-123456"\n}\n'
        assert masked(value, "{ } {}\n") == b"{ } {}\n"
        assert lines_of(value.encode())[0] == b"{"

    def test_only_a_short_line_that_holds_something_is_worth_a_warning(self) -> None:
        assert has_short_lines(b"abcdefgh\nxyz\n")
        assert not has_short_lines(b"{\nabcdefgh\n}\n")
        assert not has_short_lines(b"short")


class TestShort:
    @pytest.mark.parametrize("value", [b"", b"{", b"a", b"true", b"12345", b"   a   ", b" " * 40])
    def test_a_value_under_six_characters_has_no_form(self, value: bytes) -> None:
        assert not is_maskable(value)
        assert forms_of(value) == set()

    @pytest.mark.parametrize("value", ["123456", "äöüßéè", "日本語日本語"])
    def test_six_characters_are_enough(self, value: str) -> None:
        assert masked(value, f"[{value}]") == b"[*****]"

    def test_characters_count_and_not_bytes(self) -> None:
        assert not is_maskable("日本".encode())

    def test_no_form_is_shorter_than_six_bytes(self) -> None:
        for value in (*VALUES, PEM, 'a"b&c d', '"abcdef"'):
            assert min(map(len, forms_of(value.encode()))) >= MIN_CHARACTERS


class TestSections:
    def test_quotes_around_a_value_may_be_gone(self) -> None:
        assert masked('"secret-value"', "secret-value") == b"*****"

    @pytest.mark.parametrize("part", ["secretpart1&secretpart2&", "secretpart3"])
    def test_powershell_prints_the_parts_around_the_last_ampersand(self, part: str) -> None:
        assert masked("secretpart1&secretpart2&secretpart3", f"[{part}]") == b"[*****]"

    @pytest.mark.parametrize("part", ["secretpart1&+", "ecretpart2&secretpart3"])
    def test_powershell_prints_the_parts_around_ampersand_plus(self, part: str) -> None:
        assert masked("secretpart1&+secretpart2&secretpart3", f"[{part}]") == b"[*****]"


class TestBounds:
    def test_a_large_value_has_few_forms(self) -> None:
        forms = forms_of(b"0123456789abcdef" * (LARGE // 8))
        assert sum(map(len, forms)) < 40 * LARGE * 2

    def test_a_value_of_very_many_lines_is_masked_line_by_line(self) -> None:
        value = "\n".join(f"line number {n:06}" for n in range(MANY_LINES + 1))
        assert value.encode().splitlines()[3].hex().encode() not in forms_of(value.encode())
        assert masked(value, "..line number 000007..") == b"..*****.."

    def test_bytes_that_are_no_text_have_forms_too(self) -> None:
        value = b"\xff\xfe\x00binary\x80"
        assert masked(value, b"<" + value + b">") == b"<*****>"
        assert masked(value, repr(value)[2:-1]) == b"*****"
        assert masked(value, base64.b64encode(value)) == b"*****"
