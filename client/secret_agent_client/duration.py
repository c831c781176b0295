"""Durations as people write them: `90`, `90s`, `15m`, `8h`, `2d`; and back.

Rules that hold here: a whole number and at most one unit, nothing else; at least one second.  What
is not one is refused with the forms that are, and is never echoed.
"""

from collections.abc import Callable

from secret_agent_client.errors import InvalidError
from secret_agent_client.messages import MAX_SECONDS

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}  # seconds; ascending


def parse_duration(text: str, *, what: str = "a duration") -> int:
    """Whole seconds, from 1 to ten years.  Raises InvalidError that names `what`."""
    unit = _UNITS.get(text[-1:], 0)
    digits = text[:-1] if unit else text
    if not (digits.isascii() and digits.isdigit()):
        raise InvalidError(f"{what} must be like 90, 90s, 15m, 8h or 2d")
    # Eleven digits are over three thousand years; more would only make int() work.
    seconds = int(digits) * (unit or 1) if len(digits) <= 11 else MAX_SECONDS + 1
    if seconds == 0:
        raise InvalidError(f"{what} must be at least one second")
    if seconds > MAX_SECONDS:
        raise InvalidError(f"{what} must be at most ten years ({MAX_SECONDS // 86400}d)")
    return seconds


def format_duration(seconds: int) -> str:
    """The shortest text that `parse_duration` reads back as the same number: 5400 is `90m`."""
    unit, size = _largest(lambda size: seconds % size == 0)
    return f"{seconds // size}{unit}"


def about_duration(seconds: float) -> str:
    """For people: the largest unit that fits, rounded down; `0s` for what is over."""
    whole = max(0, int(seconds))
    unit, size = _largest(lambda size: whole >= size)
    return f"{whole // size}{unit}"


def _largest(fits: Callable[[int], bool]) -> tuple[str, int]:
    return next(((u, s) for u, s in reversed(_UNITS.items()) if fits(s)), ("s", 1))
