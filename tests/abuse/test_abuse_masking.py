"""Abuse 26 to 30 and 53: real children try to get a value past the masker of `run`.

What they manage to show is asserted too: masking is for accidents, and its limits are documented.
"""

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support.real import need
from support.terminal import DEADLINE_S
from unit.run.driving import SECRET, Driver

PEM = (
    "-----BEGIN PRIVATE KEY-----\n"
    + "\n".join(base64.b64encode(bytes([n]) * 48).decode() for n in range(1, 5))
    + "\n-----END PRIVATE KEY-----\n"
)
MARK = b"*****"


@pytest.fixture
def driver(tmp_path: Path) -> Driver:
    return Driver(tmp_path)


def python(driver: Driver, code: str, value: str = SECRET) -> bytes:
    """What a Python child shows: `v` is the value, `w` writes bytes at once."""
    head = (
        "import base64, html, json, os, select, sys, urllib.parse\n"
        "v = os.environ['TOKEN']\n"
        "w = lambda b, fd=1: os.write(fd, b if isinstance(b, bytes) else b.encode())\n"
    )
    done = driver.run(sys.executable, "-c", head + code, values={"TOKEN": value})
    assert done.returncode == 0, done.stderr
    return done.stdout


class TestPieces:
    """Abuse 26."""

    def test_one_byte_a_write(self, driver: Driver) -> None:
        assert python(driver, "for c in '<' + v + '>': w(c)") == b"<*****>"

    def test_one_byte_a_write_with_pauses_shows_at_most_five_bytes(self, driver: Driver) -> None:
        code = "for c in v[:8]: w(c); select.select([], [], [], 0.15)\nw(v[8:])"
        seen = python(driver, code)
        assert seen.endswith(MARK)
        assert len(seen) <= 5 + len(MARK)

    @pytest.mark.parametrize("border", [4096, 65536])
    def test_across_the_border_of_a_buffer(self, driver: Driver, border: int) -> None:
        code = f"for s in range(1, 15): w('.' * ({border} - s) + v + '.' * {border})"
        seen = python(driver, code)
        assert seen.count(MARK) == 14
        assert SECRET.encode() not in seen
        assert len(seen) == sum(2 * border - s + len(MARK) for s in range(1, 15))

    def test_half_at_once_and_half_by_another_process(self, driver: Driver) -> None:
        code = "w(v[:7]); os.system('printf %s \"$TOKEN\" | tail -c 8')"
        assert python(driver, code) == MARK


def each(driver: Driver, codes: list[str], value: str) -> dict[str, bytes]:
    """What each piece of code shows, all of them in one child."""
    seen = python(driver, "\n".join(f"{code}\nw('<=>')" for code in codes), value)
    return dict(zip(codes, seen.split(b"<=>")[:-1], strict=True))


class TestLines:
    """Abuse 27."""

    CODES = [  # noqa: RUF012  # a table that nobody changes
        "w(v)",
        "w(v.strip())",
        "w(v.replace('\\n', '\\r\\n'))",
        "w(json.dumps(v))",
        "w(json.dumps({'key': v}))",
        "w(json.dumps(json.dumps(v)))",
        "[w('| ' + line + ' |\\n') for line in v.splitlines()]",
        "[w(line) for line in v.splitlines()]",
        "w(' '.join(v.split('\\n')))",
        "w(repr(v))",
    ]

    def test_no_line_of_a_key_comes_through(self, driver: Driver) -> None:
        for code, seen in each(driver, self.CODES, PEM).items():
            assert MARK in seen, code
            shown = [line for line in PEM.splitlines() if line.encode() in seen]
            assert shown == [], code


class TestEncodings:
    """Abuse 28."""

    CODES = [  # noqa: RUF012  # a table that nobody changes
        "w(base64.b64encode(v.encode()))",
        "w(base64.urlsafe_b64encode(v.encode()))",
        "w(base64.b64encode(v.encode()).rstrip(b'='))",
        "w(v.encode().hex())",
        "w(v.encode().hex().upper())",
        "w(urllib.parse.quote(v, safe=''))",
        "w(urllib.parse.quote_plus(v))",
        "w(html.escape(v))",
        "w(json.dumps(v, ensure_ascii=False)[1:-1])",
        "w(repr(v)[1:-1])",
    ]

    @pytest.mark.parametrize("value", [SECRET, "p/ss+w?rd&<>\"'ä", PEM])
    def test_an_encoding_of_the_value_is_one_mark(self, driver: Driver, value: str) -> None:
        for code, seen in each(driver, self.CODES, value).items():
            assert seen.strip() == MARK, code

    @pytest.mark.parametrize("user", ["u", "us", "use", "user"])
    def test_basic_authentication_does_not_show_it(self, driver: Driver, user: str) -> None:
        seen = python(driver, f"w(base64.b64encode(('{user}:' + v).encode()))")
        plain = base64.b64encode(f"{user}:{SECRET}".encode())
        left = seen.removesuffix(MARK)
        assert seen.endswith(MARK)
        assert plain.startswith(left)
        assert len(left) <= len(user) * 4 // 3 + 4

    def test_the_base64_command_does_not_show_a_long_value(self, driver: Driver) -> None:
        value = "-".join(f"{n:04}" for n in range(60))
        done = driver.shell('printf %s "$TOKEN" | base64', values={"TOKEN": value})
        assert done.stdout.replace(b"\n", b"") == MARK

    def test_a_shell_that_traces_itself_does_not_show_it(self, driver: Driver) -> None:
        done = driver.run(
            need("bash"), "-xc", 'curl() { :; }; curl -u "me:$TOKEN" http://x',
            values={"TOKEN": "it's $ecret; \"quoted\""},
        )  # fmt: skip
        assert b"ecret" not in done.stderr
        assert MARK in done.stderr


class TestShortAndOverlapping:
    """Abuse 29."""

    @pytest.mark.parametrize("value", ["{", "a", "true", "abc", "12345", "   {   "])
    def test_a_short_value_ruins_no_output_and_is_told_of_once(
        self, driver: Driver, value: str
    ) -> None:
        done = driver.shell(
            'echo "{a} true abc 12345"; echo "$TOKEN" >/dev/null', values={"TOKEN": value}
        )
        assert done.stdout == b"{a} true abc 12345\n"
        assert done.stderr == b"too short to be masked in the output: TOKEN\n"

    def test_several_are_one_line(self, driver: Driver) -> None:
        values = {"A": "x", "B": "long enough to be masked", "C": "y", "D": "abcdefgh\nab\n"}
        done = driver.run("true", values=values)
        assert done.stderr == b"too short to be masked in the output: A, C, some lines of D\n"

    def test_without_masking_nothing_is_said(self, driver: Driver) -> None:
        assert driver.run("true", values={"A": "x"}, mask=False).stderr == b""

    def test_an_empty_value_is_an_empty_variable(self, driver: Driver) -> None:
        done = driver.shell('echo "[${TOKEN-unset}]"', values={"TOKEN": ""})
        assert done.stdout == b"[]\n"

    def test_overlapping_and_nested_values_leave_nothing(self, driver: Driver) -> None:
        values = {"A": "abcdefgh", "B": "efghijkl", "C": "xxabcdefghxx"}
        done = driver.shell("echo '<abcdefghijkl> <xxabcdefghxx> <xxabcdefghijkl>'", values=values)
        assert done.stdout == b"<*****> <*****> <xx*****>\n"


class TestBytes:
    """Abuse 30."""

    def test_binary_output_is_intact(self, driver: Driver) -> None:
        data = os.urandom(1 << 20)
        assert driver.run("cat", stdin=data).stdout == data

    def test_invalid_utf8_around_a_value_is_intact(self, driver: Driver) -> None:
        seen = python(driver, "w(b'\\xff\\xfe' + v.encode() + b'\\x80\\x00')")
        assert seen == b"\xff\xfe*****\x80\x00"

    def test_the_status_is_kept_whatever_was_masked(self, driver: Driver) -> None:
        done = driver.shell("echo $TOKEN; exit 42")
        assert (done.stdout, done.returncode) == (b"*****\n", 42)

    @pytest.mark.slow
    def test_much_output_passes_quickly(self, driver: Driver, tmp_path: Path) -> None:
        """A floor that only a per-byte loop would miss; tests/bench measures."""
        size = 200_000_000
        line = driver.line("sh", "-c", f"yes 'an ordinary line of a log' | head -c {size}")
        process = driver.start(line, stdout=subprocess.DEVNULL)
        process.communicate(timeout=DEADLINE_S)
        assert process.returncode == 0


class TestNotPromised:
    """N5: what a table of forms cannot hold.  Where one of these fails, the documents are wrong."""

    @pytest.mark.parametrize(
        ("code", "shown"),
        [
            ("w(v[::-1])", SECRET[::-1]),
            ("w(v[:5] + chr(27) + '[31m' + v[5:])", f"{SECRET[:5]}\x1b[31m{SECRET[5:]}"),
            ("w(' '.join(v))", " ".join(SECRET)),
            ("w(v.swapcase())", SECRET.swapcase()),
            (
                "w(base64.b64encode(base64.b64encode(v.encode())))",
                base64.b64encode(base64.b64encode(SECRET.encode())).decode(),
            ),
        ],
    )
    def test_transformed_beyond_the_table_it_is_shown(
        self, driver: Driver, code: str, shown: str
    ) -> None:
        assert python(driver, code).decode() == shown


class TestFailures:
    """T31: whatever goes wrong before the command runs shows no value."""

    @pytest.mark.parametrize(
        "spec",
        [
            {"values": {"A": SECRET, "B": None}},
            {"values": {"A": SECRET, "B": "nul\0" + SECRET}},
            {"values": {"A": SECRET, "B": "\udcff" + SECRET}},
            {"values": {"A": SECRET + "x" * 200_000}},
            {"values": {"A": SECRET, "LD_PRELOAD": SECRET}},
            {"values": {}, "files": {"A": SECRET, "B": None}},
            {"values": {}, "files": {"A": SECRET}, "folder": "/no/such/folder"},
            {"values": {}, "files": {"A": SECRET}, "folder": "/tmp"},
        ],
        ids=lambda spec: json.dumps(spec)[:40],
    )
    def test_no_value_is_shown(self, driver: Driver, spec: dict[str, Any]) -> None:
        done = driver.run("env", **spec)
        assert done.returncode == 125
        assert done.stdout == b""
        assert SECRET.encode() not in done.stderr
        assert b"Traceback" not in done.stderr

    def test_a_command_that_cannot_be_executed_shows_none(
        self, driver: Driver, tmp_path: Path
    ) -> None:
        script = tmp_path / "script"
        script.write_text("#!/no/such/interpreter\n")
        script.chmod(0o755)
        done = driver.run(str(script))
        assert done.returncode == 127
        assert SECRET.encode() not in done.stdout + done.stderr
