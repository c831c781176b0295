"""A closed loop on a socket: so many connections, each with one request under way, for a while.

The agent's frames and ssh-agent's are alike (four bytes of length, big-endian), so that one loop
drives both, and neither reply is looked into.
"""

import select
import socket
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.measure import percentile

HEADER = 4


@dataclass(frozen=True)
class Load:
    """What a loop came to."""

    rate: float  # replies a second
    p50_s: float
    p99_s: float


class _Connection:
    """One connection with one request under way."""

    def __init__(self, path: Path | str, greeting: bytes) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(str(path))
        self._buffer = b""
        self.begun = 0.0
        if greeting:
            self.socket.sendall(greeting)
            while not self.take():
                pass

    def ask(self, request: bytes) -> None:
        self.begun = time.perf_counter()
        self.socket.sendall(request)

    def take(self) -> bool:
        """Receive once; whether a whole reply has come."""
        data = self.socket.recv(65536)
        if not data:
            raise ConnectionError("the agent hung up")
        self._buffer += data
        if len(self._buffer) < HEADER:
            return False
        end = HEADER + int.from_bytes(self._buffer[:HEADER], "big")
        if len(self._buffer) < end:
            return False
        self._buffer = self._buffer[end:]
        return True


def loads_in_turns(loops: Mapping[str, Callable[[], Load]], *, rounds: int) -> dict[str, Load]:
    """The medians of what each loop came to, the loops taking turns."""
    taken: dict[str, list[Load]] = {name: [] for name in loops}
    for _ in range(rounds):
        for name, loop in loops.items():
            taken[name].append(loop())
    return {
        name: Load(
            statistics.median(load.rate for load in loads),
            statistics.median(load.p50_s for load in loads),
            statistics.median(load.p99_s for load in loads),
        )
        for name, loads in taken.items()
    }


def closed_loop(
    path: Path | str, request: bytes, *, connections: int, for_s: float, greeting: bytes = b""
) -> Load:
    """Send, wait for the reply, send again, on every connection, for so many seconds."""
    peers = [_Connection(path, greeting) for _ in range(connections)]
    try:
        return _run(peers, request, for_s)
    finally:
        for peer in peers:
            peer.socket.close()


def _run(peers: list[_Connection], request: bytes, for_s: float) -> Load:
    poll = select.epoll()
    by_fd = {peer.socket.fileno(): peer for peer in peers}
    for fd in by_fd:
        poll.register(fd, select.EPOLLIN)
    taken: list[float] = []
    begin = time.perf_counter()
    for peer in peers:
        peer.ask(request)
    while (now := time.perf_counter()) < begin + for_s:
        for fd, _ in poll.poll(1.0):
            peer = by_fd[fd]
            if peer.take():
                taken.append(time.perf_counter() - peer.begun)
                peer.ask(request)
    poll.close()
    return Load(len(taken) / (now - begin), percentile(taken, 0.5), percentile(taken, 0.99))
