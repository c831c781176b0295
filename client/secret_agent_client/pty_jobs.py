"""Job control: what `run` does when the command stops, when a shell resumes us, and at a resize.

The command lives in a session of its own with a pty (pty_terminal.py).  It is in the foreground
there only while we are in the foreground of ours and it has asked for the terminal; then our
terminal is raw and every key goes to the pty, whose line discipline makes signals of Ctrl-C and
Ctrl-Z.  Otherwise our terminal is left as it is: in `run -- cat big | less` the keys are less's.

    starts     in front, if standard input and output are our terminal and we are in front
    stops      by SIGTTIN or SIGTTOU, in the background: it wants the terminal.  We are in front:
               it is put in front and goes on.  We are not: we stop by the same signal
               by anything else: our modes are put back and we stop by the same signal
    SIGCONT    it goes on, in front if it was or wanted to be, and we are

We stop our whole process group, as the terminal would have: a script that called us stops with us.
Where nobody controls jobs (our group is orphaned) the kernel does not stop us, and the command goes
on at once, with a SIGHUP if it waits for a terminal: what the kernel does to such groups itself.
"""

import os
import signal

from secret_agent_client.child_running import Child
from secret_agent_client.pty_terminal import Terminal

_WANTS_TERMINAL = frozenset({signal.SIGTTIN, signal.SIGTTOU})


class Jobs:
    """Job control for one child; without a terminal it only passes stops and continuations on.

    master: the child's pty, which has our terminal's size.
    """

    def __init__(
        self, terminal: Terminal | None, master: int | None, *, starts_in_front: bool
    ) -> None:
        self._terminal = terminal
        self._master = master
        self._wants_terminal = starts_in_front
        self.is_in_front = False
        self._answered = 0  # continuations of ours that were answered before they were told

    def begin(self) -> bool:
        """Before the child starts; whether it starts in front."""
        self._to_front()
        return self.is_in_front

    def end(self) -> None:
        """After the child has ended: our terminal is as it was."""
        self._to_back()

    def stopped(self, child: Child, number: int) -> None:
        """The child was stopped by that signal."""
        was_in_front = self.is_in_front
        self._to_back()
        if number in _WANTS_TERMINAL and not was_in_front:
            self._wants_terminal = True
            if self._terminal is not None and self._terminal.is_foreground:
                self.resume(child)
                return
        was_stopped = _stop_ourselves(number)
        self._answered += was_stopped
        if not was_stopped and number in _WANTS_TERMINAL:
            child.signal(signal.SIGHUP)  # nobody will ever give it the terminal
        self.resume(child)

    def continued(self, child: Child) -> None:
        """A SIGCONT was told.

        One that ended a stop of ours was answered when it did: answered again it could wake the
        child from its next stop before that is known.
        """
        if self._answered:
            self._answered -= 1
        else:
            self.resume(child)

    def resume(self, child: Child) -> None:
        """Go on, in front where that is wanted and possible: after a stop, and at SIGCONT."""
        self.resized()  # a change while we were stopped was told to others
        self._to_front()
        child.go_on(in_foreground=self.is_in_front)

    def resized(self) -> None:
        """Our terminal may have another size now."""
        if self._terminal is not None and self._master is not None:
            self._terminal.copy_size(self._master)

    def _to_front(self) -> None:
        terminal = self._terminal
        if terminal is not None and self._wants_terminal and terminal.is_foreground:
            terminal.make_raw()
            self.is_in_front = True

    def _to_back(self) -> None:
        self.is_in_front = False
        if self._terminal is not None:
            self._terminal.restore()


def _stop_ourselves(number: int) -> bool:
    """Stop by that signal, return when continued; whether the kernel stopped us at all."""
    continued: list[int] = []
    on_continue = signal.signal(signal.SIGCONT, lambda got, _: continued.append(got))
    if number == signal.SIGSTOP:
        os.kill(os.getpid(), number)  # meant for one process, so not for our group
    else:
        on_stop = signal.signal(number, signal.SIG_DFL)
        os.killpg(0, number)
        signal.signal(number, on_stop)
    signal.signal(signal.SIGCONT, on_continue)
    return bool(continued)
