"""The shells that are registered with the agent, and what the end of the last one does.

Registration is by pid and start time, seen by the kernel to be the asking process or an ancestor
of it; the pidfd tells of
the end even where no exit hook could run.
"""

from collections.abc import Callable

from secret_agent.leases.ending import Opener, Watcher
from secret_agent.model import Ancestor, Holder, ProcessKey
from secret_agent_client.errors import DeniedError

MAX_SHELLS = 4096


class ShellRegistry:
    """The registered shells; `last_gone` is called once each time their number falls to none."""

    def __init__(self, watcher: Watcher, *, last_gone: Callable[[], None]) -> None:
        self._watcher = watcher
        self._last_gone = last_gone
        self._shells: dict[ProcessKey, str] = {}

    def __len__(self) -> int:
        return len(self._shells)

    def __contains__(self, shell: ProcessKey) -> bool:
        return shell in self._shells

    def register(self, shell: ProcessKey, name: str, *, opener: Opener) -> None:
        """Watch a shell from now on; again is nothing.  Raises DeniedError when it is gone or too
        many are there.
        """
        if shell in self._shells:
            return
        if len(self._shells) >= MAX_SHELLS:
            raise DeniedError(f"{MAX_SHELLS} shells are registered already")
        self._watcher.watch(shell, self._gone, opener=opener)
        self._shells[shell] = name

    def unregister(self, shell: ProcessKey) -> bool:
        """The courtesy of an exit hook; whether the shell was registered."""
        if shell not in self._shells:
            return False
        self._watcher.unwatch(shell, self._gone)
        self._gone(shell)
        return True

    def _gone(self, shell: ProcessKey) -> None:
        del self._shells[shell]
        if not self._shells:
            self._last_gone()


def claimed_shell(holder: Holder, claimed_pid: int | None) -> tuple[ProcessKey, str] | None:
    """The shell that a holder may register: the one found above it, or the claimed one if it is it
    or above it.

    Raises DeniedError for a claimed pid that is neither.
    """
    if claimed_pid is None:
        return None if holder.shell is None else (holder.shell, holder.shell_name or "shell")
    if claimed_pid == holder.pid:
        return holder.process, holder.shell_name or "shell"
    for ancestor in holder.ancestry:
        if ancestor.key.pid == claimed_pid and ancestor.uid == holder.uid:
            return ancestor.key, _name(ancestor)
    raise DeniedError("the pid to register is neither the asking process nor above it")


def _name(ancestor: Ancestor) -> str:
    return ancestor.exe.rpartition("/")[2] or ancestor.name
