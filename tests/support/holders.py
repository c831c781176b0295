"""Holders made by hand, for the pure parts of the agent."""

from dataclasses import replace
from typing import Any

from secret_agent.model import Holder, ProcessKey


def holder(pid: int = 100, **more: Any) -> Holder:
    """A process of uid 1000 in our own namespaces."""
    plain = Holder(
        uid=1000,
        gid=1000,
        process=ProcessKey(pid, 7),
        exe="/usr/bin/python3",
        exe_id=(1, 2),
        cwd="/home/ada",
        tty="/dev/pts/1",
        session_id=90,
        shell=ProcessKey(90, 5),
        shell_name="bash",
    )
    return replace(plain, **more)
