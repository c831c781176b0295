"""A command that runs under its monitor, as `run` sees it: orders go in, reports come out.

Rules that hold here: nothing blocks but `wait`; a monitor that ends without having told how the
command ended counts as the command's end by SIGKILL, and the command's group is killed.
"""

import os
import signal
from contextlib import suppress
from dataclasses import dataclass

from secret_agent_client import child_monitor as monitor
from secret_agent_client.child import Command
from secret_agent_client.pty_terminal import Terminal


@dataclass(frozen=True, slots=True)
class Report:
    """what: one of the REPORT_ constants of child_monitor; number: as is told there."""

    what: int
    number: int


class Child:
    """One run of a command."""

    def __init__(self, monitor_pid: int, orders: int, reports: int) -> None:
        self.reports = reports  # becomes readable when there is something to read
        self.pid: int | None = None  # known from the first report on
        self.has_ended = False
        self._monitor_pid = monitor_pid
        self._orders = orders

    @classmethod
    def start(
        cls,
        command: Command,
        streams: tuple[int, int, int],
        *,
        slave: int | None = None,
        terminal: Terminal | None = None,
        foreground: bool = False,
    ) -> "Child":
        """Fork the monitor, which forks the command.  How that went comes as the first report."""
        order_out, order_in = os.pipe()
        report_out, report_in = os.pipe()
        # No signal may be taken by a process that still has our handlers and our wake-up pipe.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            pid = os.fork()
            if pid == 0:
                os.close(order_in)
                os.close(report_out)
                leash = monitor.Leash(
                    orders=order_out,
                    reports=report_in,
                    slave=slave,
                    terminal=terminal.descriptor if terminal else None,
                    modes=terminal.modes if terminal else [],
                    foreground=foreground,
                )
                monitor.watch(command, streams, leash, mask)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.close(order_out)
        os.close(report_in)
        os.set_blocking(report_out, False)
        return cls(pid, order_in, report_out)

    def signal(self, number: int) -> None:
        """Send a signal to the command's process group."""
        self._order(monitor.ORDER_SIGNAL, number)

    def go_on(self, *, in_foreground: bool) -> None:
        """Continue it, in the foreground or the background of its terminal."""
        what = monitor.ORDER_FOREGROUND if in_foreground else monitor.ORDER_BACKGROUND
        self._order(what, 0)

    def read_reports(self) -> list[Report]:
        """What has been told since the last time."""
        reports = []
        with suppress(BlockingIOError):
            while not self.has_ended:
                reports.append(self._next_report())
        return reports

    def wait(self) -> None:
        """Wait until the monitor is gone too; it has nothing left to do."""
        os.waitpid(self._monitor_pid, 0)
        os.close(self._orders)
        os.close(self.reports)

    def _next_report(self) -> Report:
        data = os.read(self.reports, monitor.REPORT_BYTES)
        if not data:
            self.has_ended = True
            if self.pid is not None:
                with suppress(ProcessLookupError):
                    os.killpg(self.pid, signal.SIGKILL)
            return Report(monitor.REPORT_ENDED, 128 + signal.SIGKILL)
        report = Report(data[0], int.from_bytes(data[1:], "big"))
        if report.what == monitor.REPORT_FORKED:
            self.pid = report.number
        self.has_ended = report.what in (monitor.REPORT_ENDED, monitor.REPORT_FAILED)
        return report

    def _order(self, what: int, argument: int) -> None:
        with suppress(BrokenPipeError):  # it is ending; its report says so
            os.write(self._orders, bytes([what, argument]))
