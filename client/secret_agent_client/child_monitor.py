"""The process between `run` and the command: it starts the command, watches it and tells of it.

Why it is there.  The command's session and its terminal need a leader that is not the command
itself: a process group whose parent is in another session is orphaned, and the kernel never stops
such a group, so that Ctrl-Z would do nothing.  And somebody has to be left when `run` is killed
with SIGKILL: the monitor notices, because its pipe of orders ends, puts the terminal's modes back,
and ends the command's process group as `--on-revoke terminate` would.

    order    two bytes:  what, argument
    report   five bytes: what, number (32 bits, big-endian)

Rules that hold here: it was forked and never runs anything; it holds no descriptor of the
command's streams, so that their ends are seen; it survives every signal that can be survived.
"""

import contextlib
import os
import select
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NoReturn

from secret_agent_client.child import Command, become, close_all_but, load_prctl
from secret_agent_client.pty_terminal import Modes, acquire, set_modes

GRACE_S = 10.0  # seconds between SIGTERM and SIGKILL

ORDER_SIGNAL = 1  # argument: the signal, sent to the command's process group
ORDER_FOREGROUND = 2  # go on, in the foreground of its terminal
ORDER_BACKGROUND = 3  # go on, in the background
ORDER_BYTES = 2

REPORT_FORKED = 1  # number: the pid of what is about to become the command
REPORT_FAILED = 2  # number: the errno of exec
REPORT_STOPPED = 3  # number: the signal
REPORT_ENDED = 4  # number: the exit status, 128+N by signal N
REPORT_BYTES = 5

_SURVIVED: Final = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGTSTP,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGPIPE,
    signal.SIGUSR1,
    signal.SIGUSR2,
)


@dataclass(frozen=True, slots=True)
class Leash:
    """What the monitor is given.

    orders, reports: the ends of its two pipes.  slave: the command's terminal, or None.
    terminal, modes: a descriptor of the terminal of `run`, and the modes to be put back there.
    foreground: whether the command begins in the foreground of its terminal.
    """

    orders: int
    reports: int
    slave: int | None
    terminal: int | None
    modes: Modes
    foreground: bool


def watch(
    command: Command, streams: tuple[int, int, int], leash: Leash, mask: Iterable[int]
) -> NoReturn:
    """Be the monitor: called in a process just forked, with all signals blocked; never returns."""
    try:
        monitor = _Monitor(leash)
        monitor.start(command, streams, mask)
        monitor.serve()
    finally:
        os._exit(0)


class _Monitor:
    def __init__(self, leash: Leash) -> None:
        self._leash = leash
        self._is_foreground = leash.foreground
        self._pid = 0
        self._woken, self._wake = os.pipe()
        os.set_blocking(self._woken, False)
        os.set_blocking(self._wake, False)

    def start(self, command: Command, streams: tuple[int, int, int], mask: Iterable[int]) -> None:
        """Fork and exec the command; tell its errno where that fails."""
        self._lead()
        prctl = load_prctl()
        failed, report = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            self._join_group(0)
            # The command itself tells, before it can do anything: were we killed before we told,
            # nobody would know what to end.
            self._report(REPORT_FORKED, os.getpid())
            become(command, streams, report=report, mask=mask, prctl=prctl)
        self._join_group(self._pid)
        os.close(report)
        self._let_go_of_everything_else(failed)
        self._listen()
        errno_bytes = os.read(failed, 4)
        os.close(failed)
        if errno_bytes:
            self._report(REPORT_FAILED, int.from_bytes(errno_bytes, "big"))
            os._exit(0)

    def _lead(self) -> None:
        """Become the leader of the terminal's session; without a terminal stay in ours."""
        if self._leash.slave is not None:
            os.setsid()
            acquire(self._leash.slave)

    def _join_group(self, pid: int) -> None:
        """Both sides of the fork do it, so that neither can be ahead of it."""
        with contextlib.suppress(OSError):  # it has exec'ed already, and so it has joined
            os.setpgid(pid, pid)
        if self._is_foreground:
            self._put_forward(pid or os.getpid())

    def _put_forward(self, group: int) -> None:
        if self._leash.slave is not None:
            with contextlib.suppress(OSError):  # the group has ended
                os.tcsetpgrp(self._leash.slave, group)

    def _let_go_of_everything_else(self, failed: int) -> None:
        leash = self._leash
        mine = {leash.orders, leash.reports, failed, self._woken, self._wake}
        mine |= {number for number in (leash.slave, leash.terminal) if number is not None}
        close_all_but(mine, first=0)

    def _listen(self) -> None:
        for number in _SURVIVED:
            signal.signal(number, signal.SIG_IGN)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())

    def serve(self) -> None:
        """Carry out orders and tell of changes until the command has ended."""
        poll = select.poll()
        poll.register(self._leash.orders, select.POLLIN)
        poll.register(self._woken, select.POLLIN)
        while not self._tell_changes():
            for descriptor, _ in poll.poll():
                if descriptor == self._leash.orders and not self._obey():
                    self._end()
                    return

    def _tell_changes(self) -> bool:
        """Report what happened to the command; whether it has ended."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._woken, 512)
        pid, status = os.waitpid(self._pid, os.WNOHANG | os.WUNTRACED)
        if pid == 0:
            return False
        if os.WIFSTOPPED(status):
            self._is_foreground = False
            self._report(REPORT_STOPPED, os.WSTOPSIG(status))
            return False
        by_signal = os.WIFSIGNALED(status)
        code = 128 + os.WTERMSIG(status) if by_signal else os.WEXITSTATUS(status)
        self._report(REPORT_ENDED, code)
        return True

    def _obey(self) -> bool:
        """Carry out one order; False where there will be none any more."""
        order = os.read(self._leash.orders, ORDER_BYTES)
        if not order:
            return False
        what, argument = order
        if what == ORDER_SIGNAL:
            self._signal(argument)
            return True
        self._is_foreground = what == ORDER_FOREGROUND
        self._put_forward(self._pid if self._is_foreground else os.getpgrp())
        self._signal(signal.SIGCONT)
        return True

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._pid, number)

    def _end(self) -> None:
        """`run` is gone without a word: it was killed."""
        if self._is_foreground and self._leash.terminal is not None:
            with contextlib.suppress(Exception):  # a terminal that is gone needs no modes
                set_modes(self._leash.terminal, self._leash.modes)
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGCONT)  # one that is stopped ends only when it goes on
        deadline = time.monotonic() + GRACE_S
        poll = select.poll()
        poll.register(self._woken, select.POLLIN)
        while not self._tell_changes():
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                self._signal(signal.SIGKILL)
                return
            poll.poll(left_s * 1000)

    def _report(self, what: int, number: int) -> None:
        with contextlib.suppress(BrokenPipeError):  # `run` is gone; the orders' end says it too
            os.write(self._leash.reports, bytes([what]) + number.to_bytes(4, "big"))
