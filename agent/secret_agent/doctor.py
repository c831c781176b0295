"""What protects here, tried by the agent on itself: one line a protection, with the mend where it
does not hold.

Called in a thread.  Nothing here changes the agent; what it tries it undoes.
"""

import os
import stat
import time
from pathlib import Path
from typing import Any

from secret_agent import hardening
from secret_agent.core import Places
from secret_agent.model import Holder

Check = dict[str, Any]


def checks(places: Places, holder: Holder) -> list[Check]:
    """All checks that only the agent can make; `holder` is the peer that asked, as the kernel
    showed it.
    """
    return [
        *_protections(),
        _peer(holder),
        _clock(),
        *(
            _private(path, name)
            for path, name in (
                (places.runtime, "socket folder"),
                (places.socket, "socket"),
                (places.store.parent, "data folder"),
                (places.store, "store"),
                (places.audit, "audit folder"),
            )
        ),
    ]


def _protections() -> list[Check]:
    return [
        _line(each.name, "ok" if each.held else "warn", each.detail) for each in hardening.report()
    ]


def _peer(holder: Holder) -> Check:
    if not holder.inspectable or not holder.exe:
        return _line("peer identity", "fail", "the kernel does not show who asks")
    return _line("peer identity", "ok", f"pid {holder.pid}, {holder.exe}, seen through its pidfd")


def _clock() -> Check:
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    awake = time.clock_gettime(time.CLOCK_MONOTONIC)
    slept = max(0, int(before - awake))
    return _line("clock", "ok", f"deadlines count suspend ({slept} s so far since boot)")


def _private(path: Path, name: str) -> Check:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return _line(name, "ok", f"{path} is not there yet")
    except OSError as error:
        return _line(name, "fail", f"{path}: {error.strerror}")
    if found.st_uid != os.geteuid() or stat.S_ISLNK(found.st_mode):
        return _line(name, "fail", f"{path} is not ours", f"ls -ld {path}")
    if found.st_mode & 0o077:
        mode = "700" if stat.S_ISDIR(found.st_mode) else "600"
        return _line(name, "fail", f"{path} is open to others", f"chmod {mode} {path}")
    return _line(name, "ok", f"{path} is ours alone")


def _line(name: str, state: str, detail: str, mend: str | None = None) -> Check:
    return {"name": name, "state": state, "detail": detail, "try": mend}
