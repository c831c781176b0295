"""Measure everything and print a table; write the same as JSON.

    .venv/bin/python tests/bench/run.py [--quick] [--json FILE] [GROUP…]

Groups: processes, requests, start, memory, endings, running, secrets, leases.  Run it as root to
have the memory figures too: the agent shows its memory to nobody else.  Every figure is a ratio to
a reference that was measured in turns with it.
"""

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

_ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(_ROOT / "tests"), str(_ROOT / "agent"), str(_ROOT / "client")]

from bench import figures, scale  # noqa: E402  # found by what the lines above say
from bench.measure import Figure, table  # noqa: E402  # as above
from support.agent import Agent  # noqa: E402  # as above

RESULTS = Path(__file__).parent / "results.json"


def groups(folder: Path, agent: Agent, *, quick: bool) -> dict[str, Callable[[], list[Figure]]]:
    """Name -> what measures it.  `quick` is for trying the measurement itself."""
    rounds = 4 if quick else 40
    turns = max(2, rounds // 4)
    many = (1_000, 10_000) if quick else (1_000, 100_000)
    held = (1_000,) if quick else (1_000, 10_000)
    return {
        "processes": lambda: figures.whole_processes(agent, folder, rounds=rounds),
        "requests": lambda: figures.requests(agent, folder, rounds=turns),
        "start": lambda: figures.start_and_unlock(folder, rounds=turns),
        "memory": lambda: figures.memory(agent, folder),
        "endings": lambda: figures.endings(agent, rounds=rounds * 3),
        "running": lambda: figures.running(agent, folder, rounds=turns),
        "secrets": lambda: scale.secrets(folder, counts=many, rounds=turns),
        "leases": lambda: scale.leases(folder, counts=held, rounds=turns),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure secret-agent against its references.")
    parser.add_argument("--quick", action="store_true", help="few rounds")
    parser.add_argument("--json", type=Path, default=RESULTS, metavar="FILE")
    parser.add_argument("group", nargs="*", help="default: all of them")
    args = parser.parse_args()
    # Not /tmp, which is memory on many machines: the audit log is to be synced to a real disk.
    folder = Path(tempfile.mkdtemp(prefix="sa-bench-", dir="/var/tmp"))  # a private folder in it
    try:
        measured = _measure(folder, args.group, quick=args.quick)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(table(measured))
    machine = {
        "python": platform.python_version(),
        "kernel": platform.release(),
        "cores": os.cpu_count(),
    }
    args.json.write_text(
        json.dumps({"machine": machine, "figures": [each.as_json() for each in measured]}, indent=1)
    )
    return 0


def _measure(folder: Path, wanted: list[str], *, quick: bool) -> list[Figure]:
    measured: list[Figure] = []
    with Agent(base=folder) as agent:
        agent.unlock()
        agent.call("set", {"name": figures.NAME, "fields": {"value": b"a secret's value"}})
        for name, work in groups(folder, agent, quick=quick).items():
            if not wanted or name in wanted:
                print(f"measuring {name}", file=sys.stderr)
                measured += work()
    return measured


if __name__ == "__main__":
    sys.exit(main())
