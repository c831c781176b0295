"""Whether time per request stays flat as secrets and leases grow in number."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from bench.load import closed_loop, loads_in_turns
from bench.measure import Figure
from secret_agent.store.database import Store
from secret_agent_client.wire import Decoder, encode
from support.agent import PASSPHRASE, Agent

HELLO = encode({"id": 0, "verb": "hello", "body": {"version": 1}})
LOOP_S = 0.5  # seconds of one turn of a closed loop
BATCH = 64  # requests that are sent before the first reply is read


def secrets(folder: Path, *, counts: tuple[int, ...], rounds: int) -> list[Figure]:
    """get of one secret among so many, in turns with get of the only one."""
    figures = []
    with _filled(folder, 1) as alone:
        for count in counts:
            with _filled(folder, count) as among:
                figures.append(_against(alone, among, f"{count:,} secrets", rounds))
    return figures


def leases(folder: Path, *, counts: tuple[int, ...], rounds: int) -> list[Figure]:
    """get of one secret while so many leases are alive, in turns with get of the only lease."""
    figures = []
    with _filled(folder, 1) as alone, _filled(folder, max(counts)) as among:
        held = 0
        with among.connect() as holder:
            holder.hello()
            for count in counts:
                _hold(holder.socket, held, count)
                held = count
                figures.append(_against(alone, among, f"{count:,} leases", rounds))
    return figures


def _against(alone: Agent, among: Agent, what: str, rounds: int) -> Figure:
    request = encode({"id": 1, "verb": "get", "body": {"name": _name(0)}})
    loops = {
        name: partial(
            closed_loop, agent.socket, request, greeting=HELLO, connections=1, for_s=LOOP_S
        )
        for name, agent in (("alone", alone), ("among", among))
    }
    took = loads_in_turns(loops, rounds=rounds)
    return Figure(
        f"get among {what}", took["among"].p50_s, "us", "the only one", took["alone"].p50_s, 1.2
    )


def _name(number: int) -> str:
    return f"bench/{number // 1000}/{number}"


@contextmanager
def _filled(folder: Path, count: int) -> Iterator[Agent]:
    """An unlocked agent with so many secrets, written in one transaction with no agent between."""
    with Agent(base=folder) as agent:
        agent.unlock()
        agent.stop()
        store = Store.unlock(agent.path / "store.db", PASSPHRASE, clock_wall=time.time)
        with store.batch():
            for n in range(count):
                store.put(_name(n), "", {"value": b"a secret's value"}, type="generic", by="bench")
        store.close()
        agent.start()
        agent.unlock()
        yield agent


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
