"""One run of a child from start to end: a loop over everything that may happen meanwhile.

    the child writes            masked and passed on            (run_streams.py)
    keys                        to its pty, while it is in front
    the monitor tells           stopped, ended                  (child_running.py, pty_jobs.py)
    a signal for us             passed on to the child's group
    the agent speaks, time      leases end or are renewed       (run_leases.py)

Rules that hold here: nothing in the loop blocks; whatever ends it, our terminal's modes and our
signal handlers are as they were; the child's last output is passed on before its end is told.
"""

import os
import select
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from secret_agent_client import child_monitor as monitor
from secret_agent_client.child import Command, exec_error
from secret_agent_client.child_running import Child
from secret_agent_client.masking_patterns import Patterns
from secret_agent_client.pty_jobs import Jobs
from secret_agent_client.pty_terminal import Terminal
from secret_agent_client.run_plumbing import lay
from secret_agent_client.run_signals import caught_signals

DRAIN_S = 0.05  # seconds without output after the child's end, where others still hold its streams
SETTLE_S = 0.01  # seconds without output after which a child that was stopped has said it all
SETTLE_ROUNDS = 200  # of reading and writing until then: others may go on writing for ever

_ENDING = frozenset({signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM})

Reaction = Literal["none", "terminate", "hup", "restart"]
"""What a lost lease means for the child; "none" where it means nothing, or nothing was lost."""


class Watch(Protocol):
    """Who watches over the leases meanwhile."""

    def fileno(self) -> int | None: ...
    @property
    def deadline(self) -> float | None: ...
    def take(self, now: float) -> Reaction: ...


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended.  status: for us to exit with.  restart: it was ended to be begun again."""

    status: int
    restart: bool = False


class Run:
    """One child, from start to end."""

    def __init__(
        self,
        command: Command,
        *,
        terminal: Terminal | None,
        patterns: Patterns | None,
        watch: Watch,
        clock: Callable[[], float],
        grace_s: float = monitor.GRACE_S,
    ) -> None:
        self._command = command
        self._terminal = terminal
        self._watch = watch
        self._clock = clock
        self._grace_s = grace_s
        self._plumbing = lay(terminal, patterns)
        in_front = os.isatty(0) and os.isatty(1)
        self._jobs = Jobs(terminal, self._plumbing.master, starts_in_front=in_front)
        self._kill_at: float | None = None
        self._restart = False
        self._status = 0

    def run(self) -> Ended:
        """Start the child and stay with it.  Raises CommandError where it cannot be executed."""
        with caught_signals() as woken:
            in_front = self._jobs.begin()
            try:
                child = self._start(in_front=in_front)
                self._stay(child, woken)
                child.wait()
                self._drain(woken)
            finally:
                self._jobs.end()
                self._plumbing.close()
        return Ended(self._status, restart=self._restart)

    def _start(self, *, in_front: bool) -> Child:
        plumbing = self._plumbing
        child = Child.start(
            self._command,
            plumbing.streams,
            slave=plumbing.slave,
            terminal=self._terminal,
            foreground=in_front,
        )
        plumbing.has_started()
        return child

    def _stay(self, child: Child, woken: int) -> None:
        self._on_losses(child, self._clock())  # what was told together with the values
        while not child.has_ended:
            ready = self._wait(woken, child)
            now = self._clock()
            if woken in ready:
                self._pass_signals(child, woken)
            self._plumbing.flow(ready, now)
            if child.reports in ready:
                self._hear(child)
            if self._is_due(ready, now):
                self._on_losses(child, now)
            self._kill_late(child, now)

    def _wait(self, woken: int, child: Child) -> dict[int, int]:
        """What is ready, by descriptor, once anything is or a deadline has passed."""
        poll = select.poll()
        poll.register(woken, select.POLLIN)
        poll.register(child.reports, select.POLLIN)
        agent = self._watch.fileno()
        if agent is not None:
            poll.register(agent, select.POLLIN)
        self._plumbing.register(poll, in_front=self._jobs.is_in_front)
        deadlines = [self._watch.deadline, self._kill_at]
        deadlines += [output.deadline for output in self._plumbing.outputs]
        return dict(poll.poll(self._left_ms(deadlines)))

    def _left_ms(self, deadlines: list[float | None]) -> float | None:
        known = [deadline for deadline in deadlines if deadline is not None]
        if not known:
            return None
        return max(0.0, min(known) - self._clock()) * 1000 + 1  # poll rounds down

    def _pass_signals(self, child: Child, woken: int) -> None:
        for number in os.read(woken, 512):
            if number == signal.SIGWINCH:
                self._jobs.resized()
            elif number == signal.SIGCONT:
                self._jobs.continued(child)
            else:
                child.signal(number)

    def _hear(self, child: Child) -> None:
        for report in child.read_reports():
            if report.what == monitor.REPORT_STOPPED:
                self._show_what_came()
                self._jobs.stopped(child, report.number)
            elif report.what == monitor.REPORT_ENDED:
                self._status = report.number
            elif report.what == monitor.REPORT_FAILED:
                child.wait()
                raise exec_error(report.number)

    def _show_what_came(self) -> None:
        """We are about to be stopped ourselves: what the child wrote before it stopped goes first.

        The kernel hands on what is written to a pty a moment later.
        """
        for _ in range(SETTLE_ROUNDS):
            poll = select.poll()
            self._plumbing.register(poll, in_front=False)
            ready = dict(poll.poll(SETTLE_S * 1000))
            if not ready:
                return
            self._plumbing.flow(ready, self._clock())

    def _is_due(self, ready: dict[int, int], now: float) -> bool:
        """Whether there is something for the one who watches over the leases."""
        deadline = self._watch.deadline
        return self._watch.fileno() in ready or (deadline is not None and now >= deadline)

    def _on_losses(self, child: Child, now: float) -> None:
        reaction = self._watch.take(now)
        if reaction == "hup":
            child.signal(signal.SIGHUP)
        elif reaction != "none" and self._kill_at is None:
            self._restart = reaction == "restart"
            self._kill_at = now + self._grace_s
            child.signal(signal.SIGTERM)
            child.signal(signal.SIGCONT)  # one that is stopped ends only when it goes on

    def _kill_late(self, child: Child, now: float) -> None:
        if self._kill_at is not None and now >= self._kill_at:
            child.signal(signal.SIGKILL)
            self._kill_at = now + self._grace_s

    def _drain(self, woken: int) -> None:
        """Pass on what the child has written; a signal that would end us ends this.

        What it left behind may hold its streams for ever, and is not waited for.
        """
        plumbing = self._plumbing
        while plumbing.is_flowing:
            poll = select.poll()
            poll.register(woken, select.POLLIN)
            plumbing.register(poll, in_front=False)
            reading = [output for output in plumbing.outputs if output.wants_read]
            ready = dict(poll.poll(DRAIN_S * 1000 if reading else None))
            for output in reading:
                if output.source not in ready:
                    output.finish()
            plumbing.flow(ready, self._clock())
            if woken in ready and set(os.read(woken, 512)) & _ENDING:
                return
