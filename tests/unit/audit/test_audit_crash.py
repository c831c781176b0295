"""What was answered for survives SIGKILL at any moment, and what it leaves is no tampering."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from secret_agent.audit.log import AuditLog
from secret_agent.audit.reading import read
from secret_agent.audit.verify import verify
from secret_agent.clock import Clock
from support.tree import ROOT

WRITER = """
import sys, trio
from pathlib import Path
from support.audit import fields, running

async def main():
    async with running(Path(sys.argv[1]), max_file=20_000, max_files=3) as log:
        async def one(number):
            while True:
                seq, _ = await log.append(fields(number))
                sys.stdout.write(f"{seq}\\n")
                sys.stdout.flush()
        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(one, number)

trio.run(main)
"""


def killed_after(folder: Path, records: int) -> list[int]:
    """The numbers that a writer answered for before it was killed."""
    paths = (ROOT / part for part in ("agent", "client", "tests"))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE, env=environment
    ) as child:
        assert child.stdout is not None
        lines = [child.stdout.readline() for _ in range(records)]
        child.send_signal(signal.SIGKILL)
        lines += child.stdout.readlines()
    return [int(line) for line in lines if line.endswith(b"\n")]


@pytest.mark.slow
def test_a_killed_writer_leaves_every_record_that_it_answered_for(folder: Path) -> None:
    for round_ in range(4):
        answered = killed_after(folder, 40 + 37 * round_)
        AuditLog.open(folder, clock=Clock()).close()  # moves aside what is torn
        verified = verify(folder)
        assert verified.first_bad is None
        kept = {record["seq"] for record in read(folder, limit=100_000)}
        assert {seq for seq in answered if seq >= min(kept)} <= kept
        assert max(answered) <= max(kept)
