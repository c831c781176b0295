"""Asking a person at the terminal.

Rules that hold here:

* the question goes to /dev/tty and the answer comes from there, whatever stdin and stdout are;
* nobody is asked with --no-input, with CI set, without a terminal of our own, or from the
  background, where the terminal would stop us instead of answering;
* what is typed is not shown, is read into a bytearray and never becomes a str; no readline, no
  history; the caller wipes it;
* the terminal is put back as it was on every way out: an answer, Ctrl-C, Ctrl-Z, a hang-up, a
  termination.  SIGKILL alone leaves it without echo, which nothing here can help (`stty sane`).
"""

import os
import select
import signal
import termios
from contextlib import contextmanager

from secret_agent_client.errors import DeniedError, InvalidError, LockedError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator, Mapping
    from types import FrameType

MAX_ANSWER = 4096  # bytes; what a terminal's line holds, and the wire's limit of a passphrase
WEAK_BITS = 60  # guessed bits under which a new passphrase is called weak
_CAUGHT = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGTSTP)
_ECHO = 3  # index of the local flags in what tcgetattr returns


class DismissedError(LockedError):
    """The person was asked and gave no answer: an empty line, Ctrl-D, Ctrl-C."""


class _Signalled(BaseException):
    """A signal came while the terminal was without echo."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def may_prompt(args: "Namespace", environ: "Mapping[str, str]" = os.environ) -> bool:
    """Whether a person may be asked here and now."""
    if getattr(args, "no_input", False) or in_ci(environ):
        return False
    try:
        terminal = _open_terminal()
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


def in_ci(environ: "Mapping[str, str]" = os.environ) -> bool:
    """Whether the environment says that this is a job and nobody watches."""
    return environ.get("CI", "").lower() not in ("", "0", "false", "no")


def read_passphrase(text: str, *, confirm: bool = False) -> bytearray:
    """Ask; the bytes that were typed, without the newline.  The caller wipes them.

    With `confirm` it is a new passphrase: asked twice, with a hint where it is weak.
    Raises DismissedError for an empty answer, InvalidError where two answers differ or one is too
    long.
    """
    terminal = _open_terminal()
    try:
        answer = _ask(terminal, text)
        if confirm:
            _confirm(terminal, answer)
        return answer
    finally:
        os.close(terminal)


def read_line(text: str) -> str:
    """Ask for something that is no secret and is shown as it is typed; "" for an empty answer."""
    terminal = _open_terminal()
    try:
        os.write(terminal, text.encode())
        answer, filled = _read_line(terminal)
        return answer[:filled].decode("utf-8", "replace").strip()
    finally:
        os.close(terminal)


def confirm(args: "Namespace", question: str, *, remedy: str) -> None:
    """Return if the person says yes; only `y` or `yes` is (Enter alone is no: abuse 33).

    Raises DeniedError for anything else, and with `remedy` where nobody may be asked.
    """
    if not may_prompt(args):
        raise DeniedError("this needs a yes, and nobody can be asked here", remedy=remedy)
    if read_line(f"{question} [y/N] ").lower() not in ("y", "yes"):
        raise DeniedError("the person at the terminal said no")


def passphrase_from(descriptor: int) -> bytearray:
    """The passphrase that waits at a descriptor, up to its end, without one last newline.

    Raises UsageError where nothing can be read there, InvalidError where it is empty or too long.
    """
    answer = bytearray(MAX_ANSWER + 2)
    filled = 0
    try:
        while filled < len(answer):
            count = os.readv(descriptor, [memoryview(answer)[filled:]])
            if not count:
                break
            filled += count
    except OSError as error:
        why = os.strerror(error.errno or 0).lower()
        raise UsageError(
            f"--passphrase-fd: nothing can be read from descriptor {descriptor}: {why}",
            remedy="secret-agent unlock --passphrase-fd 3 3< passphrase-file",
        ) from None
    return _trimmed(answer, filled, what="--passphrase-fd: the passphrase")


def weakness(passphrase: bytes | bytearray) -> str | None:
    """Why a new passphrase is weak, as a hint; None where it is not.

    A guess by length, kinds of characters and repetition: it says what is surely weak and cannot
    say what is strong.
    """
    pool = sum(
        size
        for kind, size in (
            (lambda b: 0x61 <= b <= 0x7A, 26),
            (lambda b: 0x41 <= b <= 0x5A, 26),
            (lambda b: 0x30 <= b <= 0x39, 10),
            (lambda b: b < 0x80 and not chr(b).isalnum(), 33),
            (lambda b: b >= 0x80, 64),
        )
        if any(map(kind, passphrase))
    )
    effective = min(len(passphrase), 2 * len(set(passphrase)))
    if effective * max(pool - 1, 0).bit_length() >= WEAK_BITS:
        return None
    return "weak: whoever has a copy of the store could try them all; five random words are better"


def wipe(buffer: bytearray) -> None:
    """Overwrite what was typed, where it is ours to overwrite."""
    buffer[:] = bytes(len(buffer))
    buffer.clear()


def _confirm(terminal: int, answer: bytearray) -> None:
    hint = weakness(answer)
    if hint is not None:
        os.write(terminal, f"  {hint}\n".encode())
    again = _ask(terminal, "The same passphrase again: ")
    same = again == answer
    wipe(again)
    if not same:
        wipe(answer)
        raise InvalidError("the two passphrases differ", remedy="secret-agent unlock")


def _open_terminal() -> int:
    return os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)


def _ask(terminal: int, text: str) -> bytearray:
    """One hidden answer; asked again after Ctrl-Z and `fg`."""
    while True:
        try:
            with _hidden(terminal) as alarm:
                os.write(terminal, text.encode())
                select.select([terminal, alarm], [], [])
                answer = _read(terminal)
        except _Signalled as signalled:
            os.write(terminal, b"\n")
            if signalled.number == signal.SIGINT:
                raise KeyboardInterrupt from None
            os.kill(os.getpid(), signalled.number)  # with its own effect, now that echo is back
            continue  # it was Ctrl-Z, and the person has come back
        os.write(terminal, b"\n")
        return answer


@contextmanager
def _hidden(terminal: int) -> "Iterator[int]":
    """No echo inside, and the signals that would leave it so raise _Signalled.

    What is yielded turns readable when one comes, and must be waited for beside the terminal.
    Python calls a handler between two of its own steps: a signal that comes just before a read
    would be noticed only after it, when the person has typed a line.
    """
    before = termios.tcgetattr(terminal)
    silent = [*before]
    silent[_ECHO] &= ~(termios.ECHO | termios.ECHONL)

    def interrupted(number: int, _frame: "FrameType | None") -> None:
        raise _Signalled(number)

    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    wakeup = signal.set_wakeup_fd(writer)
    handlers = {number: signal.signal(number, interrupted) for number in _CAUGHT}
    try:
        # FLUSH: what was typed before the question was not an answer to it.
        termios.tcsetattr(terminal, termios.TCSAFLUSH, silent)
        yield reader
    finally:
        # Drain and not flush: what was typed ahead for the shell stays.
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(wakeup)
        os.close(reader)
        os.close(writer)


def _read(terminal: int) -> bytearray:
    """One line that is not empty, without its end."""
    return _trimmed(*_read_line(terminal), what="the answer")


def _read_line(terminal: int) -> tuple[bytearray, int]:
    """A buffer, and how much of it one line filled, its end included."""
    answer = bytearray(MAX_ANSWER + 2)
    filled = 0
    while filled < len(answer):
        count = os.readv(terminal, [memoryview(answer)[filled:]])
        filled += count
        if not count or answer[filled - 1] == 0x0A:
            break
    return answer, filled


def _trimmed(answer: bytearray, filled: int, *, what: str) -> bytearray:
    """The filled part without its newline, in the same buffer."""
    if filled and answer[filled - 1] == 0x0A:
        filled -= 1
    if filled > MAX_ANSWER:
        wipe(answer)
        raise InvalidError(f"{what} has more than {MAX_ANSWER} bytes")
    if not filled:
        raise DismissedError(f"{what} is empty", remedy="secret-agent unlock")
    del answer[filled:]
    return answer
