"""config.toml -> frozen settings.  Every error names the file, the key and what it may be; unknown
keys are errors.

    [session]
    lifetime      = "8h"      # locks so long after unlock; default: no limit
    idle          = "30m"     # locks so long after the last use; default: no limit
    on_last_shell = "lock"    # what the end of the last registered shell does: keep, lock or stop
    [leases]
    ttl           = "15m"     # what a lease gets when the request names no ttl
    [audit]
    sync          = "group"   # "group": on disk before a value leaves; "none": handed to the kernel
    max_file      = 16        # MiB, at which a new file is begun

The settings of the command line of `start` go over these.
"""

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from secret_agent_client.duration import parse_duration
from secret_agent_client.errors import InvalidError

OnLastShell = Literal["keep", "lock", "stop"]
Sync = Literal["group", "none"]

MAX_CONFIG = 256 * 1024  # bytes; a file of settings that is larger is something else


@dataclass(frozen=True, slots=True)
class Settings:
    """What a person may set, with our defaults.  Durations in seconds, sizes in bytes."""

    lifetime_s: int | None = None
    idle_s: int | None = None
    on_last_shell: OnLastShell = "lock"
    lease_ttl_s: int = 15 * 60
    audit_sync: Sync = "group"
    audit_max_file: int = 16 * 1024 * 1024


def load_settings(path: Path) -> Settings:
    """The settings of a file, or the defaults where there is none.  Raises InvalidError."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_CONFIG + 1)
    except FileNotFoundError:
        return Settings()
    except OSError as error:
        raise InvalidError(f"{path} cannot be read: {error.strerror}") from None
    if len(text) > MAX_CONFIG:
        raise InvalidError(f"{path} has more than {MAX_CONFIG} bytes")
    return parse_settings(text, source=str(path))


def parse_settings(text: bytes, *, source: str) -> Settings:
    """The settings that a TOML text makes.  Raises InvalidError naming the key."""
    try:
        tables = tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidError(f"{source} is not TOML: {error}") from None
    except RecursionError:
        raise InvalidError(f"{source}: its arrays or tables are nested too deep") from None
    settings = Settings()
    for table, keys in tables.items():
        known = _KEYS.get(table)
        if known is None or not isinstance(keys, dict):
            raise InvalidError(f"{source}: no table [{table}]; there are {', '.join(_KEYS)}")
        for key, value in keys.items():
            settings = _apply(settings, source, table, key, value, known)
    return settings


def _apply(
    settings: Settings, source: str, table: str, key: str, value: Any, known: Mapping[str, "_Key"]
) -> Settings:
    if key not in known:
        raise InvalidError(f"{source}: [{table}] has no {key}; it has {', '.join(known)}")
    setting, read = known[key]
    try:
        return replace(settings, **{setting: read(value)})
    except InvalidError as error:
        raise InvalidError(f"{source}: [{table}] {key}: {error.message}") from None


def _duration(value: Any) -> int:
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise InvalidError('a duration is wanted, such as "15m"')
    seconds = parse_duration(str(value))
    if seconds < 1:
        raise InvalidError("a duration of at least one second is wanted")
    return seconds


def _one_of(*words: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if value not in words:
            raise InvalidError(f"one of {', '.join(words)} is wanted")
        return str(value)

    return read


def _mebibytes(value: Any) -> int:
    if type(value) is not int or not 1 <= value <= 1024:
        raise InvalidError("a whole number of MiB from 1 to 1024 is wanted")
    return value * 1024 * 1024


_Key = tuple[str, Callable[[Any], Any]]

_KEYS: dict[str, dict[str, _Key]] = {
    "session": {
        "lifetime": ("lifetime_s", _duration),
        "idle": ("idle_s", _duration),
        "on_last_shell": ("on_last_shell", _one_of("keep", "lock", "stop")),
    },
    "leases": {"ttl": ("lease_ttl_s", _duration)},
    "audit": {
        "sync": ("audit_sync", _one_of("group", "none")),
        "max_file": ("audit_max_file", _mebibytes),
    },
}
