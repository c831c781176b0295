"""Audit logs made for tests: an open one, and one written in a folder."""

import errno
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from secret_agent.audit.log import AuditLog
from secret_agent.audit.record import Chained, chain, prepare, time_text
from secret_agent.clock import Clock


@asynccontextmanager
async def running(folder: Path, **more: Any) -> AsyncIterator[AuditLog]:
    """A log that writes; what waits at the end is written."""
    log = AuditLog.open(folder, **{"clock": Clock(), "max_file": 1 << 20, **more})
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(log.run)
            yield log
            nursery.cancel_scope.cancel()
    finally:
        log.close()


async def write(folder: Path, count: int, **more: Any) -> list[tuple[int, str]]:
    """Append `count` records one after the other; where each stands."""
    async with running(folder, **more) as log:
        return [await log.append(fields(number)) for number in range(count)]


def fields(number: int) -> Mapping[str, Any]:
    """What a small record says."""
    return {"event": "decision", "action": "read", "outcome": "allow", "secret": f"s{number}"}


def failing(*_args: Any, **_more: Any) -> None:
    """Stands for a call of the system that fails."""
    raise OSError(errno.EIO, "Input/output error")


def encode(seq: int, wall_s: float, prev: str, said: Mapping[str, Any]) -> Chained:
    """A record in its place, made at once."""
    return chain(prepare(said), seq=seq, time=time_text(wall_s), prev=prev)
