"""Folders in which a `run` keeps secret files: made by the agent, so that the agent removes them
whatever becomes of `run`.

Each is 0700, has a random name below one folder of the runtime directory, belongs to one process
and is removed when that
process is gone, the session locks or the agent ends.  What a dead agent left is removed at the
next start.  No name of the
client's is used, and removal never follows a symlink (shutil.rmtree's descriptor-based walk).
"""

import os
import secrets
import shutil
from pathlib import Path

from secret_agent.leases.ending import Watcher
from secret_agent.model import ProcessKey
from secret_agent_client.errors import DeniedError, UnavailableError

MAX_WORKDIRS = 1024


class Workdirs:
    """The folders that exist."""

    def __init__(self, parent: Path, watcher: Watcher) -> None:
        self._parent = parent
        self._watcher = watcher
        self._of: dict[ProcessKey, list[Path]] = {}

    def clean_up(self) -> None:
        """Remove what an agent that did not end well left behind."""
        shutil.rmtree(self._parent, ignore_errors=True)

    def make(self, process: ProcessKey) -> Path:
        """A new folder for a process that is alive.  Raises DeniedError, UnavailableError (no
        room).
        """
        if sum(map(len, self._of.values())) >= MAX_WORKDIRS:
            raise DeniedError(f"there are {MAX_WORKDIRS} folders of runs already")
        if process not in self._of:
            self._watcher.watch(process, self._gone)
        path = self._parent / secrets.token_hex(16)
        self._of.setdefault(process, []).append(path)
        try:
            self._parent.mkdir(mode=0o700, exist_ok=True)
            path.mkdir(mode=0o700)
        except OSError as error:
            raise UnavailableError(f"no folder can be made for files: {error.strerror}") from None
        return path

    def remove_all(self) -> None:
        """Remove every folder: the session locks, or the agent ends."""
        for process in list(self._of):
            self._watcher.unwatch(process, self._gone)
            self._gone(process)

    def _gone(self, process: ProcessKey) -> None:
        for path in self._of.pop(process, []):
            shutil.rmtree(path, ignore_errors=True)


def is_tmpfs(path: Path) -> bool:
    """Whether a path lies on a file system that lives in memory, by the longest mount point above
    it.
    """
    resolved = os.path.realpath(path)
    best, kind = "", ""
    with Path("/proc/self/mountinfo").open(encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            before, _, after = line.partition(" - ")
            mount = before.split()[4].replace("\\040", " ")
            below = resolved == mount or resolved.startswith(mount.rstrip("/") + "/")
            if below and len(mount) >= len(best):
                best, kind = mount, after.split()[0]
    return kind in ("tmpfs", "ramfs")
