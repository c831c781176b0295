"""Which descriptors the child gets for its standard streams, and what flows where.

    ours is          the child gets
    a terminal       its own pty (one for all three; pty_terminal.py says why)
    anything else    stdin: ours, untouched; stdout, stderr: a pipe to be masked, or ours unmasked

Each stream is decided on its own: `run -- cmd 2>log` has a terminal and a pipe.  Where stdout and
stderr are one file (`>log 2>&1`), the child gets one pipe for both, so that their order is kept.
"""

import os
import select
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from secret_agent_client.masking import Masker
from secret_agent_client.masking_patterns import Patterns
from secret_agent_client.pty_terminal import Terminal
from secret_agent_client.run_streams import Keys, Output

_READABLE = select.POLLIN | select.POLLHUP | select.POLLERR
_WRITABLE = select.POLLOUT | select.POLLHUP | select.POLLERR


@dataclass(slots=True)
class Plumbing:
    """streams: what the child gets as 0, 1, 2.  master, slave: its pty, if it has one.

    given_away: our copies of what only the child is to keep; closed by `has_started`.
    """

    streams: tuple[int, int, int] = (0, 1, 2)
    outputs: list[Output] = field(default_factory=list)
    keys: Keys | None = None
    master: int | None = None
    slave: int | None = None
    given_away: list[int] = field(default_factory=list)

    @property
    def is_flowing(self) -> bool:
        """Whether something may still come from the child, or waits to be shown."""
        return any(output.is_open or output.wants_write for output in self.outputs)

    def register(self, poll: "select.poll", *, in_front: bool) -> None:
        """Ask for what can be done with.  in_front: whether our terminal's keys are the child's."""
        wanted: dict[int, int] = {}
        for reads, writes, flow in self._ends(in_front=in_front):
            if flow.wants_read:
                wanted[reads] = wanted.get(reads, 0) | select.POLLIN
            if flow.wants_write:
                wanted[writes] = wanted.get(writes, 0) | select.POLLOUT
        for descriptor, events in wanted.items():
            poll.register(descriptor, events)

    def flow(self, ready: Mapping[int, int], now: float) -> None:
        """Read and write what is ready, by descriptor.  One terminal may be both."""
        for reads, writes, flow in self._ends(in_front=True):
            if flow.wants_read and ready.get(reads, 0) & _READABLE:
                flow.on_readable(now)
            if flow.wants_write and ready.get(writes, 0) & _WRITABLE:
                flow.on_writable()
        for output in self.outputs:
            output.on_time(now)
            if not output.is_open and not output.wants_write:
                output.close()

    def _ends(self, *, in_front: bool) -> Iterator[tuple[int, int, Output | Keys]]:
        for output in self.outputs:
            yield output.source, output.sink, output
        if self.keys is not None and in_front:
            yield self.keys.terminal, self.keys.master, self.keys

    def has_started(self) -> None:
        """The child has its own copies now; ours would keep its pipes from ending."""
        for descriptor in self.given_away:
            os.close(descriptor)
        self.given_away = []
        self.slave = None

    def close(self) -> None:
        """Nothing flows any more."""
        self.has_started()
        for output in self.outputs:
            output.close()


def open_standard_streams() -> None:
    """See that 0, 1 and 2 are open, so that nothing of ours ever gets one of these numbers."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one


def lay(terminal: Terminal | None, patterns: Patterns | None) -> Plumbing:
    """Lay the pipes and the pty for one child.  patterns: None to mask nothing."""
    plumbing = Plumbing()
    stdin, stdout, stderr = 0, 1, 2
    if terminal is not None:
        slave = _lay_pty(plumbing, terminal, patterns)
        stdin, stdout, stderr = (slave if os.isatty(number) else number for number in (0, 1, 2))
    if stdout == 1 and patterns is not None:
        stdout = _lay_pipe(plumbing, 1, patterns)
    if stderr == 2 and patterns is not None:
        shares = not os.isatty(1) and _is_same_file(1, 2)
        stderr = stdout if shares else _lay_pipe(plumbing, 2, patterns)
    plumbing.streams = (stdin, stdout, stderr)
    return plumbing


def _lay_pty(plumbing: Plumbing, terminal: Terminal, patterns: Patterns | None) -> int:
    master, slave = terminal.open_pty()
    plumbing.master, plumbing.slave = master, slave
    plumbing.given_away.append(slave)
    sink = next((number for number in (1, 2) if os.isatty(number)), terminal.descriptor)
    masker = None if patterns is None else Masker(patterns)
    plumbing.outputs.append(Output(master, sink, masker, drops_unread=True))
    plumbing.keys = Keys(terminal.descriptor, master)
    return slave


def _lay_pipe(plumbing: Plumbing, sink: int, patterns: Patterns) -> int:
    source, child_end = os.pipe()
    os.set_blocking(source, False)
    plumbing.given_away.append(child_end)
    plumbing.outputs.append(Output(source, sink, Masker(patterns)))
    return child_end


def _is_same_file(one: int, other: int) -> bool:
    first, second = os.fstat(one), os.fstat(other)
    return (first.st_dev, first.st_ino) == (second.st_dev, second.st_ino)
