"""Asking at a terminal: nothing is shown, nobody is asked in vain, the terminal is left as it was
(abuse 35, T35).
"""

import os
import signal
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secret_agent_client.cli.prompts import (
    MAX_ANSWER,
    DismissedError,
    confirm,
    in_ci,
    may_prompt,
    passphrase_from,
    weakness,
    wipe,
)
from secret_agent_client.errors import DeniedError, InvalidError, UsageError
from support.agent import SOURCES
from support.terminal import Terminal

# Asks, and says what came of it on the terminal; `read` is a call of cli.prompts.
ASKER = """
import sys
from argparse import Namespace
from secret_agent_client.cli import prompts
args = Namespace(no_input=False)
try:
    answer = {read}
    print("<answer:", type(answer).__name__, repr(answer), ">", flush=True)
except BaseException as error:
    print("<raised:", type(error).__name__, str(error), ">", flush=True)
"""


@contextmanager
def asked(read: str, *, stdio: str = "") -> Iterator[Terminal]:
    """A terminal in which the call is being made, from a script whose stdio goes elsewhere."""
    program = [sys.executable, "-c", ASKER.replace("{read}", read)]
    argv = ["sh", "-c", f'"$@" {stdio}; stty -a; echo "<end>"', "sh", *program]
    with Terminal(argv, env={**os.environ, "PYTHONPATH": SOURCES, "CI": ""}) as terminal:
        yield terminal


def finished(terminal: Terminal) -> str:
    """All that was seen; asserts that the terminal echoes again."""
    terminal.expect("<end>")
    seen = terminal.seen.decode(errors="replace")
    assert " echo " in seen.replace("\r\n", " ")
    assert "-echo " not in seen.replace("\r\n", " ")
    return seen


def test_what_is_typed_is_not_shown_and_comes_as_a_bytearray() -> None:
    with asked('prompts.read_passphrase("Passphrase: ")') as terminal:
        terminal.expect("Passphrase: ")
        terminal.send("hunter-two\n")
        seen = finished(terminal)
    assert "<answer: bytearray bytearray(b'hunter-two') >" in seen
    assert seen.count("hunter-two") == 1, "the answer was echoed"


def test_it_asks_on_the_terminal_wherever_stdio_goes() -> None:
    """FIELD 17: `x=$(command)` and `command < file` are no reasons not to ask."""
    with asked('prompts.read_passphrase("P: ")', stdio="</dev/null | cat >&2") as terminal:
        terminal.expect("P: ")
        terminal.send("pw\n")
        assert "bytearray(b'pw')" in finished(terminal)


def test_a_new_passphrase_is_asked_for_twice_with_a_hint_where_it_is_weak() -> None:
    with asked('prompts.read_passphrase("New passphrase: ", confirm=True)') as terminal:
        terminal.expect("New passphrase: ")
        terminal.send("weak\n")
        terminal.expect("five random words")
        terminal.expect("The same passphrase again: ")
        terminal.send("weak\n")
        assert "bytearray(b'weak')" in finished(terminal)


def test_two_answers_that_differ_are_refused() -> None:
    with asked('prompts.read_passphrase("New passphrase: ", confirm=True)') as terminal:
        terminal.expect("New passphrase: ")
        terminal.send("correct horse battery staple\n")
        terminal.expect("again: ")
        terminal.send("correct horse battery stable\n")
        assert "<raised: InvalidError the two passphrases differ" in finished(terminal)


@pytest.mark.parametrize("typed", ["\n", "\x04"], ids=["empty line", "Ctrl-D"])
def test_no_answer_dismisses(typed: str) -> None:
    with asked('prompts.read_passphrase("Passphrase: ")') as terminal:
        terminal.expect("Passphrase: ")
        terminal.send(typed)
        assert "<raised: DismissedError" in finished(terminal)


def test_ctrl_c_dismisses_and_the_echo_is_back() -> None:
    with asked('prompts.read_passphrase("Passphrase: ")') as terminal:
        terminal.expect("Passphrase: ")
        terminal.send("half\x03")
        # The shell around it gets the signal too and ends: the program's own word is enough.
        terminal.expect("<raised: KeyboardInterrupt")
        assert "half" not in terminal.seen.decode()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_ends_the_program_as_it_should_with_the_echo_back(number: signal.Signals) -> None:
    ask = "print('<pid', __import__('os').getpid(), '>', flush=True)"
    with asked(f'({ask}, prompts.read_passphrase("Passphrase: "))') as terminal:
        pid = int(terminal.expect(r"<pid (\d+) >")[1])
        terminal.expect("Passphrase: ")
        os.kill(pid, number)
        assert "<answer" not in finished(terminal)


def test_stopped_and_continued_it_asks_again(tmp_path: Path) -> None:
    """Ctrl-Z gives the terminal back with its echo; `fg` asks anew."""
    with Terminal(
        ["bash", "--norc", "--noprofile", "-i"],
        env={**os.environ, "PYTHONPATH": SOURCES, "CI": "", "PS1": "$ "},
    ) as terminal:
        program = tmp_path / "ask.py"
        program.write_text(ASKER.replace("{read}", 'prompts.read_passphrase("Passphrase: ")'))
        terminal.send(f"{sys.executable} {program}\n")
        terminal.expect("Passphrase: ")
        terminal.send("\x1a")
        terminal.expect("Stopped")
        before = len(terminal.seen)
        terminal.send("stty -a\n")
        terminal.expect(r"[^-]echo ", start=before)
        before = len(terminal.seen)
        terminal.send("fg\n")
        terminal.expect("Passphrase: ", start=before)
        terminal.send("pw\n")
        terminal.expect(r"bytearray\(b'pw'\)", start=before)


def test_an_answer_that_is_too_long_is_refused() -> None:
    # The terminal's own line holds 4095 bytes; a descriptor can bring more.
    reader, writer = os.pipe()
    os.write(writer, b"x" * (MAX_ANSWER + 1))
    os.close(writer)
    with pytest.raises(InvalidError, match="more than 4096 bytes"):
        passphrase_from(reader)
    os.close(reader)


@pytest.mark.parametrize(
    ("given_", "read"),
    [(b"pw\n", b"pw"), (b"pw", b"pw"), (b"p\nw\n\n", b"p\nw\n"), (b"x" * 4096, b"x" * 4096)],
)
def test_a_descriptor_is_read_to_its_end_without_one_last_newline(
    given_: bytes, read: bytes
) -> None:
    reader, writer = os.pipe()
    os.write(writer, given_)
    os.close(writer)
    assert passphrase_from(reader) == bytearray(read)
    os.close(reader)


@pytest.mark.parametrize("empty", [b"", b"\n"])
def test_an_empty_descriptor_is_no_passphrase(empty: bytes) -> None:
    reader, writer = os.pipe()
    os.write(writer, empty)
    os.close(writer)
    with pytest.raises(DismissedError, match="empty"):
        passphrase_from(reader)
    os.close(reader)


def test_a_descriptor_that_is_not_open_is_a_usage_error_with_an_example() -> None:
    with pytest.raises(UsageError, match="bad file descriptor") as raised:
        passphrase_from(9999)
    assert raised.value.remedy is not None
    assert "--passphrase-fd 3 3<" in raised.value.remedy


@pytest.mark.parametrize(
    ("typed", "answer"),
    [("y\n", "NoneType"), ("YES\n", "NoneType"), ("\n", "DeniedError"), ("yep\n", "DeniedError")],
)
def test_only_yes_is_yes(typed: str, answer: str) -> None:
    with asked('prompts.confirm(args, "Sure?", remedy="x --yes")') as terminal:
        terminal.expect(r"Sure\? \[y/N\] ")
        terminal.send(typed)
        assert answer in finished(terminal)


def test_where_nobody_can_be_asked_a_yes_is_denied_with_the_mend() -> None:
    with pytest.raises(DeniedError, match="nobody can be asked") as raised:
        confirm(Namespace(no_input=True), "Sure?", remedy="x --yes")
    assert raised.value.remedy == "x --yes"


def test_without_a_terminal_nobody_is_asked() -> None:
    with asked("prompts.may_prompt(args)") as terminal:
        assert "<answer: bool True >" in finished(terminal)
    program = [sys.executable, "-c", ASKER.replace("{read}", "prompts.may_prompt(args)")]
    with Terminal(
        ["sh", "-c", 'setsid -w "$@"; stty -a; echo "<end>"', "sh", *program],
        env={**os.environ, "PYTHONPATH": SOURCES, "CI": ""},
    ) as terminal:
        assert "<answer: bool False >" in finished(terminal)


def test_from_the_background_nobody_is_asked(tmp_path: Path) -> None:
    """The terminal would stop us (SIGTTIN) instead of answering: a hang."""
    with Terminal(
        ["bash", "--norc", "--noprofile", "-i"],
        env={**os.environ, "PYTHONPATH": SOURCES, "CI": "", "PS1": "$ "},
    ) as terminal:
        script = tmp_path / "ask.py"
        script.write_text(ASKER.replace("{read}", "prompts.may_prompt(args)"))
        terminal.send(f"{sys.executable} {script} & wait\n")
        assert terminal.expect("<answer: bool (True|False) >")[1] == b"False"


@pytest.mark.parametrize(
    ("value", "job"),
    [("true", True), ("1", True), ("TRUE", True), ("", False), ("false", False), ("0", False)],
)
def test_ci_is_what_the_environment_says(value: str, job: bool) -> None:  # noqa: FBT001  # of the table
    assert in_ci({"CI": value}) is job
    if job:
        assert not may_prompt(Namespace(no_input=False), {"CI": value})


@pytest.mark.parametrize(
    ("passphrase", "weak"),
    [
        (b"password", True),
        (b"hunter2", True),
        (b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", True),
        (b"correct horse battery staple", False),
        (b"k3J9x!pQ2zL0", False),
        ("ünïcödé wörds thät are long".encode(), False),
    ],
)
def test_a_weak_passphrase_is_called_weak(passphrase: bytes, weak: bool) -> None:  # noqa: FBT001  # of the table
    assert (weakness(passphrase) is not None) is weak


@given(st.binary(max_size=200))
def test_the_hint_never_fails_and_never_shows_the_passphrase(passphrase: bytes) -> None:
    hint = weakness(passphrase)
    assert hint is None or hint.startswith("weak: ")


def test_wiping_leaves_nothing() -> None:
    buffer = bytearray(b"secret")
    wipe(buffer)
    assert buffer == bytearray()
