"""The frozen values that the parts of the agent hand to each other.  No behaviour beyond small
derived facts, no I/O.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Action = Literal["read", "write", "list", "rotate", "revoke", "delegate", "admin"]
Effect = Literal["allow", "deny", "confirm"]

DEFAULT_STAGE = ""
"""The stage of a secret that was written without one.  Shown as nothing; matched by a rule without
stages, or `""`.
"""


@dataclass(frozen=True, slots=True)
class ProcessKey:
    """A process that cannot be mistaken for a later one with the same pid."""

    pid: int
    start_time: int  # clock ticks since boot, field 22 of /proc/PID/stat (proc(5))


@dataclass(frozen=True, slots=True)
class Ancestor:
    """One process on the way from a holder up to init."""

    key: ProcessKey
    exe: str  # path as the kernel shows it; "" where it may not be read
    name: str  # comm, at most 15 bytes, chosen by the process itself: decoration
    uid: int
    session_id: int
    tty: str | None


@dataclass(frozen=True, slots=True)
class Holder:
    """Who asks: the identified peer of a connection, as it was when it asked.

    uid, gid and the scope are boundaries.  Everything else can be forged by a process of the same
    uid and is a guardrail.
    """

    uid: int
    gid: int
    process: ProcessKey
    exe: str
    exe_id: (
        tuple[int, int] | None
    )  # (st_dev, st_ino) of the executable, None where it may not be read
    cwd: str
    tty: str | None
    session_id: int  # POSIX session id, the pid of the session's leader
    ancestry: tuple[Ancestor, ...] = ()  # parent first
    shell: ProcessKey | None = None  # the nearest ancestor (or the process itself) that is a shell
    shell_name: str | None = None  # "bash"
    foreign_namespaces: tuple[str, ...] = ()  # those of "user", "pid", "mnt" that differ from ours
    container: str | None = (
        None  # its id from the cgroup, or "namespace:<inode>" where none is named
    )
    cgroup: str = ""
    scope: str | None = None  # id of the scope whose socket it came by
    inspectable: bool = True  # False: not dumpable, /proc shows neither exe nor cwd

    @property
    def pid(self) -> int:
        return self.process.pid


@dataclass(frozen=True, slots=True)
class Limits:
    """What an allowing rule grants at most."""

    ttl_s: int = 3600
    uses: int | None = None
    reason: bool = False  # a reason must be given


@dataclass(frozen=True, slots=True)
class Request:
    """What policy decides on."""

    holder: Holder
    action: Action
    secret: str | None  # a checked name; None for actions on the session as a whole
    stage: str = DEFAULT_STAGE
    provider: str = "store"
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What policy decided and why."""

    effect: Effect
    rule: str | None  # id of the deciding rule; None: no rule matched
    limits: Limits = field(default_factory=Limits)
    because: str = ""  # one sentence: which condition failed, or which rule granted
    remedy: str | None = None  # what the holder may do instead: a command
    policy_digest: str = ""

    @property
    def allowed(self) -> bool:
        return self.effect == "allow"


Fields = Mapping[str, bytes]
