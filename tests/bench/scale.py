"""Whether time per request stays flat as secrets and leases grow in number."""

import time
from pathlib import Path
from typing import Any

from bench.load import closed_loop
from bench.measure import Figure
from secret_agent.store.database import Store
from secret_agent_client.wire import Decoder, encode
from support.agent import PASSPHRASE, Agent

HELLO = encode({"id": 0, "verb": "hello", "body": {"version": 1}})
BATCH = 64  # requests that are sent before the first reply is read


def secrets(folder: Path, *, counts: tuple[int, ...], for_s: float) -> list[Figure]:
    """get of one secret among so many."""
    took = {}
    for count in counts:
        with Agent(base=folder) as agent:
            _fill(agent, count)
            agent.unlock()
            took[count] = _get_s(agent, for_s)
    return _flat("secrets", took)


def leases(folder: Path, *, counts: tuple[int, ...], for_s: float) -> list[Figure]:
    """get of one secret while so many leases are alive."""
    took = {}
    with Agent(base=folder) as agent:
        _fill(agent, max(counts))
        agent.unlock()
        held = 0
        with agent.connect() as holder:
            holder.hello()
            for count in counts:
                _hold(holder.socket, held, count)
                held = count
                took[count] = _get_s(agent, for_s)
    return _flat("leases", took)


def _flat(what: str, took: dict[int, float]) -> list[Figure]:
    fewest = min(took)
    return [
        Figure(f"get among {count:,} {what}", taken, "us", f"among {fewest:,}", took[fewest], 1.2)
        for count, taken in took.items()
        if count != fewest
    ]


def _get_s(agent: Agent, for_s: float) -> float:
    request = encode({"id": 1, "verb": "get", "body": {"name": _name(0)}})
    return closed_loop(agent.socket, request, greeting=HELLO, connections=1, for_s=for_s).p50_s


def _name(number: int) -> str:
    return f"bench/{number // 1000}/{number}"


def _fill(agent: Agent, count: int) -> None:
    """Write secrets with no agent in between, in one transaction."""
    agent.unlock()
    agent.stop()
    store = Store.unlock(agent.path / "store.db", PASSPHRASE, clock_wall=time.time)
    with store.batch():
        for number in range(count):
            store.put(_name(number), "", {"value": b"a secret's value"}, type="generic", by="bench")
    store.close()
    agent.start()


def _hold(sock: Any, begin: int, end: int) -> None:
    """Take a lease on each of a range of secrets."""
    decoder = Decoder()
    for first in range(begin, end, BATCH):
        batch = range(first, min(first + BATCH, end))
        sock.sendall(
            b"".join(
                encode({"id": n, "verb": "get", "body": {"name": _name(n), "ttl_s": 3600}})
                for n in batch
            )
        )
        missing = len(batch)
        while missing:
            decoder.feed(sock.recv(65536))
            while (message := decoder.next()) is not None:
                assert "ok" in message, message
                missing -= 1
