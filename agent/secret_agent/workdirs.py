"""Folders in which a `run` keeps secret files: made by the agent, so that the agent removes them
whatever becomes of `run`.

Each is 0700, has a random name below one folder of the runtime directory, belongs to one process
and is removed when that process is gone, the session locks or the agent ends.  What a dead agent
left is removed at the next start, and nothing of a living one whose socket lies beside ours: each
holds a shared lock on the folder above, and only who can lock it alone clears it.  No name of the
client's is used, no symlink is followed into the folder above, and removal follows none either
(shutil.rmtree's descriptor-based walk).
"""

import fcntl
import os
import re
import secrets
import shutil
import stat
from pathlib import Path

from secret_agent.holder import open_pidfd
from secret_agent.leases.ending import Opener, Watcher
from secret_agent.model import ProcessKey
from secret_agent_client.errors import DeniedError, UnavailableError

MAX_WORKDIRS = 1024
MOUNTS = Path("/proc/self/mountinfo")

_OCTAL = re.compile(r"\\([0-7]{3})")  # how mountinfo writes blanks and backslashes (proc(5))


class Workdirs:
    """The folders that exist."""

    def __init__(self, parent: Path, watcher: Watcher) -> None:
        self._parent = parent
        self._watcher = watcher
        self._of: dict[ProcessKey, list[Path]] = {}
        self._lock: int | None = None  # of the folder above, held from the first folder on

    def clean_up(self) -> None:
        """Remove what an agent that did not end well left behind."""
        try:
            lock = _open_folder(self._parent)
        except OSError:
            return  # nothing was left; or it is not ours, which `make` will say
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for left in self._parent.iterdir():
                shutil.rmtree(left, ignore_errors=True)
        except OSError:
            return  # another agent lives there
        finally:
            os.close(lock)

    def make(self, process: ProcessKey, *, opener: Opener = open_pidfd) -> Path:
        """A new folder for a process that is alive.  Raises DeniedError, UnavailableError (no
        room).
        """
        if sum(map(len, self._of.values())) >= MAX_WORKDIRS:
            raise DeniedError(f"there are {MAX_WORKDIRS} folders of runs already")
        if process not in self._of:
            self._watcher.watch(process, self._gone, opener=opener)
        path = self._parent / secrets.token_hex(16)
        self._of.setdefault(process, []).append(path)
        try:
            self._take_parent()
            path.mkdir(mode=0o700)
        except OSError as error:
            self._give_up(process, path)
            why = error.strerror or "the one above is not ours alone"
            raise UnavailableError(
                f"no folder can be made for files: {why}", remedy=f"ls -ld {self._parent}"
            ) from None
        return path

    def remove_all(self) -> None:
        """Remove every folder: the session locks, or the agent ends."""
        for process in list(self._of):
            self._watcher.unwatch(process, self._gone)
            self._gone(process)

    def _take_parent(self) -> None:
        """Make the folder above where there is none, and hold it.  Raises OSError."""
        self._parent.mkdir(mode=0o700, exist_ok=True)
        lock = _open_folder(self._parent)
        if self._lock is not None:
            if os.path.sameopenfile(lock, self._lock):
                os.close(lock)
                return
            os.close(self._lock)  # somebody removed the folder, and this is another
        self._lock = lock
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)

    def _give_up(self, process: ProcessKey, path: Path) -> None:
        self._of[process].remove(path)
        if not self._of[process]:
            del self._of[process]
            self._watcher.unwatch(process, self._gone)

    def _gone(self, process: ProcessKey) -> None:
        for path in self._of.pop(process, []):
            shutil.rmtree(path, ignore_errors=True)


def is_tmpfs(path: Path) -> bool:
    """Whether a path is known to lie on a file system that lives in memory, by the longest mount
    point above it.
    """
    resolved = os.path.realpath(path)
    best, kind = "", ""
    try:
        table = MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return False  # for want of descriptors, say: then nothing is promised
    for line in table.split("\n")[:-1]:
        before, _, after = line.partition(" - ")
        mount = _OCTAL.sub(lambda found: chr(int(found[1], 8)), before.split()[4])
        below = resolved == mount or resolved.startswith(mount.rstrip("/") + "/")
        if below and len(mount) >= len(best):
            best, kind = mount, after.split()[0]
    return kind in ("tmpfs", "ramfs")


def _open_folder(path: Path) -> int:
    """A descriptor of a folder of ours that nobody else may enter.  Raises OSError."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    found = os.fstat(folder)
    if found.st_uid == os.geteuid() and not stat.S_IMODE(found.st_mode) & 0o077:
        return folder
    os.close(folder)
    raise PermissionError
