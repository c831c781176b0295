"""The signals that are for `run`, as bytes to be read: which they are, and how they are caught.

Rules that hold here: a handler does nothing, the loop does; what was ignored when we were started
(nohup, a background job) stays ignored, for us and so for the child; afterwards all is as it was.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_CAUGHT: Final = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGTSTP,
    signal.SIGCONT,
    signal.SIGWINCH,
)


@contextmanager
def caught_signals() -> Iterator[int]:
    """A descriptor from which the numbers of signals for us can be read, one byte each."""
    woken, wake = os.pipe()
    os.set_blocking(woken, False)
    os.set_blocking(wake, False)
    before_wakeup = signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    before = {}
    try:
        for number in _CAUGHT:
            if signal.getsignal(number) != signal.SIG_IGN:
                before[number] = signal.signal(number, lambda *_: None)
        yield woken
    finally:
        for number, disposition in before.items():
            signal.signal(number, disposition)
        signal.set_wakeup_fd(before_wakeup)
        os.close(woken)
        os.close(wake)
