"""The terminal that `run` was started from, and the pty that stands between it and the child.

Why a pty of its own: the child keeps colours, line editing and window size while its output is
masked on the way (FIELD 5), and it cannot push keys into our terminal (TIOCSTI, CVE-2005-4890):
it is in another session, and holds no descriptor of our terminal at all.

Rules that hold here: modes are changed only while we are in the foreground; whatever happens they
are put back (by the monitor, should we be killed); /dev/tty is opened without becoming its owner.
"""

import fcntl
import os
import signal
import termios
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

_SIZE = 8  # bytes of struct winsize: rows, columns, and pixels twice, two bytes each

_OFLAG = 1  # index in what tcgetattr gives

Modes = list[Any]
"""What tcgetattr gives and tcsetattr takes."""


class Terminal:
    """Our terminal, by one descriptor of it."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.modes: Modes = termios.tcgetattr(descriptor)
        self.is_raw = False

    @classmethod
    def find(cls) -> "Terminal | None":
        """Standard input if it is a terminal, else the one that controls us, else another stream.

        None where there is none: then no pty is made, and nobody can be asked for anything.
        """
        for descriptor in (0, None, 1, 2):
            if descriptor is None:
                with suppress(OSError):
                    return cls(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
            elif os.isatty(descriptor):
                return cls(descriptor)
        return None

    @property
    def is_foreground(self) -> bool:
        """Whether we may read from it and change its modes now."""
        try:
            return os.tcgetpgrp(self.descriptor) == os.getpgrp()
        except OSError:
            return True  # it does not control us, so it keeps nobody in the background

    def make_raw(self) -> None:
        """Pass every key on unread: the child's own terminal decides what it means."""
        if not self.is_raw:
            with suppress(termios.error):  # it is gone, and a SIGHUP on its way
                self.modes = termios.tcgetattr(self.descriptor)
                set_modes(self.descriptor, _raw(self.modes))
                self.is_raw = True

    def restore(self) -> None:
        """The modes from before `make_raw`.  A terminal that is gone needs none."""
        if self.is_raw:
            self.is_raw = False
            with suppress(termios.error):
                set_modes(self.descriptor, self.modes)

    @contextmanager
    def readable(self) -> Iterator[None]:
        """For a line of ours on standard error: with the output modes in which a newline is one.

        The input modes stay: a Ctrl-C that is typed just now is still the child's.
        """
        output_modes = self.modes[_OFLAG]
        self._set_output_modes(output_modes)
        try:
            yield
        finally:
            self._set_output_modes(output_modes & ~termios.OPOST)

    def _set_output_modes(self, flags: int) -> None:
        if self.is_raw:
            with suppress(termios.error):  # it is gone, and a SIGHUP on its way
                modes = termios.tcgetattr(self.descriptor)
                modes[_OFLAG] = flags
                set_modes(self.descriptor, modes)

    def open_pty(self) -> tuple[int, int]:
        """(master, slave) of a new pty with our terminal's modes and size; master never blocks."""
        master, slave = os.openpty()
        set_modes(slave, self.modes)
        os.set_blocking(master, False)
        self.copy_size(master)
        return master, slave

    def copy_size(self, master: int) -> None:
        """Give the pty our terminal's size; the kernel sends SIGWINCH to who is in front there."""
        with suppress(OSError):
            size = fcntl.ioctl(self.descriptor, termios.TIOCGWINSZ, bytes(_SIZE))
            fcntl.ioctl(master, termios.TIOCSWINSZ, size)


def acquire(slave: int) -> None:
    """Make a pty the controlling terminal of our session, which we lead and which has none."""
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)


def set_modes(descriptor: int, modes: Modes) -> None:
    """Set modes at once, also from another session or the background (SIGTTOU would stop us)."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTTOU])
    try:
        termios.tcsetattr(descriptor, termios.TCSANOW, modes)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _raw(modes: Modes) -> Modes:
    """cfmakeraw(3); tty.setraw leaves INLCR and IGNCR alone."""
    iflag, oflag, cflag, lflag, ispeed, ospeed, characters = modes
    iflag &= ~(termios.IGNBRK | termios.BRKINT | termios.PARMRK | termios.INPCK | termios.ISTRIP)
    iflag &= ~(termios.INLCR | termios.IGNCR | termios.ICRNL | termios.IXON)
    oflag &= ~termios.OPOST
    cflag = cflag & ~(termios.CSIZE | termios.PARENB) | termios.CS8
    lflag &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
    characters = list(characters)
    characters[termios.VMIN], characters[termios.VTIME] = 1, 0
    return [iflag, oflag, cflag, lflag, ispeed, ospeed, characters]
