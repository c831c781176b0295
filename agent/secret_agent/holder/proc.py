"""Parse the text of /proc (proc(5)); pure: bytes in, values out.

Rules that hold here: nothing is opened; a text that does not have its documented shape is a
ValueError that names the file and never shows the text, for a process chooses its own name.  What a
process chooses (name, paths, arguments) is decoded so that any bytes give printable-or-escapable
text without lone surrogates, which no wire or log could carry.
"""

from typing import NamedTuple

Layout = tuple[bytes, ...]
"""Addresses that exec draws at random and fork copies; see `Stat.layout`."""

_PTS_MAJORS = range(136, 144)  # devices.txt: Unix98 pseudo-terminal slaves
_FIELDS_NEEDED = 49  # of /proc/PID/stat, counted after the name: up to env_end, field 51


class Stat(NamedTuple):
    """What we use of /proc/PID/stat: nothing that changes while a process merely runs."""

    pid: int
    name: str  # comm: at most 15 bytes, chosen by the process
    ppid: int
    session_id: int
    tty_device: int  # device number of the controlling terminal, 0 for none
    start_time: int  # clock ticks since boot
    layout: Layout | None
    """startcode, startstack, start_brk, arg_start and env_end, or None where the kernel hides them.

    exec draws new ones (address space randomisation, and the place of arguments and environment
    even without it); a fork that never calls exec has its parent's.
    """


class Status(NamedTuple):
    """What we use of /proc/PID/status: ids as (real, effective, saved, file system)."""

    uids: tuple[int, ...]
    gids: tuple[int, ...]


class PidfdInfo(NamedTuple):
    """What /proc/self/fdinfo/N says of a pidfd."""

    pid: int  # -1: reaped; 0: outside our pid namespace
    ns_pids: tuple[
        int, ...
    ]  # its pid in our namespace and in each one nested below, outermost first


class CgroupLine(NamedTuple):
    """One line of /proc/PID/cgroup."""

    hierarchy: int  # 0 is the unified one (cgroups(7))
    controllers: str
    path: str


def text_of(raw: bytes) -> str:
    r"""Bytes that a process chose, as text; what is not UTF-8 becomes `\xNN`."""
    return raw.decode("utf-8", "backslashreplace")


def parse_stat(raw: bytes) -> Stat:
    """Parse /proc/PID/stat.  The name may hold `) R 1 (` too: it ends at the last parenthesis."""
    opening, closing = raw.find(b" ("), raw.rfind(b") ")
    if opening < 0 or closing < opening:
        raise ValueError("malformed /proc/PID/stat: no name")
    rest = raw[closing + 2 :].split()
    if len(rest) < _FIELDS_NEEDED:
        raise ValueError("malformed /proc/PID/stat: too few fields")
    try:
        return Stat(
            int(raw[:opening]),
            text_of(raw[opening + 2 : closing]),
            int(rest[1]),
            int(rest[3]),
            int(rest[4]),
            int(rest[19]),
            # Hidden is startcode 1 and startstack 0; a kernel thread has 0 for both.
            (rest[23], rest[25], rest[44], rest[45], rest[48]) if rest[25] != b"0" else None,
        )
    except ValueError:
        raise ValueError("malformed /proc/PID/stat: a field is no number") from None


def parse_status(raw: bytes) -> Status:
    """Parse /proc/PID/status.  The kernel escapes newlines in its Name: lines can be trusted."""
    uids = _numbers(raw, b"Uid:", "status")
    gids = _numbers(raw, b"Gid:", "status")
    if len(uids) != 4 or len(gids) != 4:
        raise ValueError("malformed /proc/PID/status: Uid and Gid hold four ids each")
    return Status(uids, gids)


def parse_pidfd_info(raw: bytes) -> PidfdInfo:
    """Parse /proc/self/fdinfo/N of a pidfd (pidfd_open(2))."""
    pids = _numbers(raw, b"Pid:", "fdinfo")
    if len(pids) != 1:
        raise ValueError("malformed fdinfo: no single Pid")
    return PidfdInfo(pids[0], _numbers(raw, b"NSpid:", "fdinfo"))


def parse_cgroup(raw: bytes) -> tuple[CgroupLine, ...]:
    """Parse /proc/PID/cgroup: one line a hierarchy, `hierarchy:controllers:path`."""
    lines = []
    for line in raw.split(b"\n"):
        if not line:
            continue
        parts = line.split(b":", 2)
        if len(parts) != 3 or not parts[0].isdigit():
            raise ValueError("malformed /proc/PID/cgroup")
        lines.append(CgroupLine(int(parts[0]), text_of(parts[1]), text_of(parts[2])))
    return tuple(lines)


def parse_mount_ids(raw: bytes) -> frozenset[int]:
    """The ids of the mounts in /proc/PID/mountinfo.  No two live mounts of a machine share one."""
    try:
        return frozenset(int(line.split(b" ", 1)[0]) for line in raw.split(b"\n") if line)
    except ValueError:
        raise ValueError("malformed /proc/PID/mountinfo: an id is no number") from None


def parse_arguments(raw: bytes) -> tuple[str, ...]:
    """The arguments in /proc/PID/cmdline: decoration, for the process may overwrite them."""
    return tuple(text_of(part) for part in raw.rstrip(b"\0").split(b"\0")) if raw else ()


def terminal_name(device: int) -> str | None:
    """The name under /dev of a controlling terminal's device number, None for none.

    Unknown devices become `tty:MAJOR:MINOR`: named, and not mistaken for another.
    """
    if device == 0:
        return None
    device &= 0xFFFFFFFF  # the kernel prints it signed
    major, minor = (device >> 8) & 0xFFF, (device & 0xFF) | ((device >> 12) & 0xFFF00)
    if major in _PTS_MAJORS:
        return f"/dev/pts/{minor + 256 * (major - _PTS_MAJORS.start)}"
    if major == 4:
        return f"/dev/tty{minor}" if minor < 64 else f"/dev/ttyS{minor - 64}"
    if (major, minor) == (5, 1):
        return "/dev/console"
    return f"tty:{major}:{minor}"


def _numbers(raw: bytes, label: bytes, file: str) -> tuple[int, ...]:
    """The numbers behind `label` at a line's start; none where there is no such line."""
    for line in raw.split(b"\n"):
        if line.startswith(label):
            try:
                return tuple(int(part) for part in line[len(label) :].split())
            except ValueError:
                raise ValueError(f"malformed {file}: a field is no number") from None
    return ()
