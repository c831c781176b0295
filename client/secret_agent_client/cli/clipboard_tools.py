"""The clipboards of a desktop, of a Mac, and of a terminal by OSC 52: put, look, clear.

Rules that hold here: a value goes to a tool by its standard input and to a terminal by its escape
sequence, never into an argument; a tool that hangs is given up.
"""

import os
import shutil
import subprocess
import sys
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass

from secret_agent_client.errors import UnavailableError

TOOL_S = 5.0  # seconds that a tool may take; a Wayland compositor may have to draw first
MAX_OSC52 = 74_994  # bytes of value; xterm takes 100,000 bytes of sequence
_EMPTY = b""


@dataclass(frozen=True, slots=True)
class Clipboard:
    """One way to a clipboard.  `look` is None where it cannot be read back."""

    name: str
    put: tuple[str, ...]
    look: tuple[str, ...] | None
    clear: tuple[str, ...]


_WAYLAND = Clipboard("wl-copy", ("wl-copy",), ("wl-paste", "--no-newline"), ("wl-copy", "--clear"))
_XCLIP = Clipboard(
    "xclip",
    ("xclip", "-selection", "clipboard"),
    ("xclip", "-selection", "clipboard", "-o"),
    ("xclip", "-selection", "clipboard"),
)
_XSEL = Clipboard(
    "xsel",
    ("xsel", "--clipboard", "--input"),
    ("xsel", "--clipboard", "--output"),
    ("xsel", "--clipboard", "--clear"),
)
_MAC = Clipboard("pbcopy", ("pbcopy",), ("pbpaste",), ("pbcopy",))
TERMINAL = Clipboard("osc52", (), None, ())

BY_NAME = {each.name: each for each in (_WAYLAND, _XCLIP, _XSEL, _MAC, TERMINAL)}


def find_clipboard(environ: Mapping[str, str], *, has_terminal: bool) -> Clipboard:
    """The clipboard of where the person sits.  Raises UnavailableError where there is none."""
    candidates = []
    if environ.get("WAYLAND_DISPLAY"):
        candidates.append(_WAYLAND)
    if environ.get("DISPLAY"):
        candidates += [_XCLIP, _XSEL]
    if sys.platform == "darwin":
        candidates.append(_MAC)
    for each in candidates:
        if shutil.which(each.put[0], path=environ.get("PATH")):
            return each
    if has_terminal and environ.get("TERM", "dumb") != "dumb":
        return TERMINAL
    raise UnavailableError(
        "there is no clipboard here: no wl-copy, xclip, xsel or pbcopy with a display, no terminal"
    )


def put(clipboard: Clipboard, value: bytes, terminal: int | None) -> None:
    """Put the value there.  Raises UnavailableError."""
    if clipboard is not TERMINAL:
        _run(clipboard.put, value)
        return
    if len(value) > MAX_OSC52:
        raise UnavailableError(f"a terminal's clipboard takes {MAX_OSC52} bytes at most")
    _write(terminal, b"\x1b]52;c;" + b64encode(value) + b"\x07")


def look(clipboard: Clipboard) -> bytes | None:
    """What is there now; None where that cannot be told."""
    if clipboard.look is None:
        return None
    try:
        done = subprocess.run(
            clipboard.look,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=TOOL_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else _EMPTY


def clear(clipboard: Clipboard, terminal: int | None) -> None:
    """Empty it.  Raises UnavailableError."""
    if clipboard is TERMINAL:
        _write(terminal, b"\x1b]52;c;!\x07")  # what is no base64 clears the selection (xterm)
    else:
        _run(clipboard.clear, _EMPTY)


def _run(command: tuple[str, ...], data: bytes) -> None:
    # What these tools leave running in the background must hold none of our streams open.
    try:
        subprocess.run(
            command,
            input=data,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=TOOL_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        # `from None`: the exception of a timeout carries the input.
        raise UnavailableError(f"{command[0]} did not take what it was given") from None


def _write(terminal: int | None, data: bytes) -> None:
    if terminal is None:
        raise UnavailableError("there is no terminal whose clipboard could be used")
    while data:
        data = data[os.write(terminal, data) :]
