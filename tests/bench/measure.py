"""Timing, and the figures that come of it.

Every figure stands beside a reference that was measured in the same minute, in turns with it, so
that what slows the machine slows both.
"""

import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One line of the table.  `aim` is the most (or, with `at_least`, the least) ratio wanted."""

    name: str
    value: float
    unit: str
    reference: str
    reference_value: float
    aim: float | None = None
    at_least: bool = False

    @property
    def ratio(self) -> float:
        return self.value / self.reference_value

    @property
    def met(self) -> bool | None:
        if self.aim is None:
            return None
        return self.ratio >= self.aim if self.at_least else self.ratio <= self.aim

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "ratio": self.ratio, "met": self.met}


def in_turns(
    works: Mapping[str, Callable[[], float]], *, rounds: int, warm_up: int = 2
) -> dict[str, float]:
    """The median of what each piece of work returns, the pieces taking turns."""
    for _ in range(warm_up):
        for work in works.values():
            work()
    taken: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            taken[name].append(work())
    return {name: statistics.median(times) for name, times in taken.items()}


def seconds(work: Callable[[], object]) -> float:
    """How long a call takes."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def process_s(command: Sequence[str], environment: Mapping[str, str]) -> float:
    """How long a whole process takes, from spawning it to its end.  It must succeed."""

    def once() -> None:
        subprocess.run(
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
        )

    return seconds(once)


def percentile(values: Sequence[float], of: float) -> float:
    """The value that a share `of` (0 to 1) of the values does not pass."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(of * len(ordered)))]


_UNITS = {
    "s": (1e3, "ms"),
    "us": (1e6, "µs"),
    "/s": (1, "/s"),
    "MiB": (1, "MiB"),
    "MiB/s": (1, "MiB/s"),
}


def table(figures: Sequence[Figure]) -> str:
    """The figures for a person to read."""
    rows = [("figure", "value", "reference", "its value", "ratio", "aim", "")]
    for each in figures:
        factor, unit = _UNITS[each.unit]
        aim = "" if each.aim is None else f"{'≥' if each.at_least else '≤'} {each.aim:g}"
        verdict = {None: "", True: "met", False: "NOT MET"}[each.met]
        rows.append(
            (
                each.name,
                f"{each.value * factor:,.2f} {unit}",
                each.reference,
                f"{each.reference_value * factor:,.2f} {unit}",
                f"{each.ratio:.2f}",
                aim,
                verdict,
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
