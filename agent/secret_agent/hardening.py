"""Keep the agent's memory and environment to itself; and tell what of that holds on this machine.

`harden_process()` first thing in the agent: before it no secret exists; after it no core is
written, and no other process of this uid may read our memory, environment or descriptors (the
kernel answers EACCES).  root may always.

Rules: a protection that the platform refuses never stops the agent; `report()` finds out by trying
whether each one holds, and `doctor` shows it.  Nothing here knows a secret; `LockedPage` lends
memory and does not look into it.

Two limits that no code can lift.  /proc/self/environ shows the environment that the agent was
*started* with, whatever becomes of os.environ: whoever starts it has to pass a clean one
(`clean_environment`).  And Python copies what it handles: a locked page protects the buffer in it
and not what was made from it.
"""

import ctypes
import mmap
import os
import resource
import subprocess
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

_PR_GET_DUMPABLE: Final = 3  # <linux/prctl.h>; Python has no names for these
_PR_SET_DUMPABLE: Final = 4
_MADV_WIPEONFORK: Final = 18  # <asm-generic/mman-common.h>; new in Python 3.13's mmap
MAX_FILES: Final = 1 << 20  # descriptors; more makes programs slow that close "all" of them

KEPT_VARIABLES: Final = frozenset(
    {
        "HOME", "USER", "LOGNAME",  # whose agent it is
        "PATH",  # where pinentry and the `exec` provider's programs are
        "LANG", "LANGUAGE", "TZ",  # how a prompt reads
        "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME",  # our files
        "XDG_SESSION_ID", "XDG_CURRENT_DESKTOP", "DBUS_SESSION_BUS_ADDRESS",  # screen lock, keyring
        "DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY",  # where a desktop prompt appears
        "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "NOTIFY_SOCKET",  # systemd: sd_listen_fds(3)
        "SSL_CERT_FILE", "SSL_CERT_DIR",  # which authorities a provider trusts
        "SECRET_AGENT_HOME", "SECRET_AGENT_SOCK",  # our own
    }
)  # fmt: skip  # one line a purpose
"""The variables that the agent needs; every other one is left behind when it is started.

What is not here is so on purpose: tokens and passwords of whatever shell started the agent, proxies
(their URLs hold passwords), and all that makes the loader or Python run other code (LD_*, PYTHON*).
"""
KEPT_PREFIXES: Final = ("LC_",)


@dataclass(frozen=True, slots=True)
class Protection:
    """One protection: whether it holds here, found by trying, and what that means."""

    name: str
    held: bool
    detail: str


def clean_environment(environ: Mapping[str, str], *, keep: Collection[str] = ()) -> dict[str, str]:
    """The part of an environment that an agent is to be started with, and `keep`."""
    return {
        name: value
        for name, value in environ.items()
        if name in KEPT_VARIABLES or name in keep or name.startswith(KEPT_PREFIXES)
    }


def harden_process(*, keep: Collection[str] = ()) -> None:
    """No cores, not dumpable, an environment of what is needed; `report` tells what holds."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Against readers of the same uid, and against cores sent to a pipe, which RLIMIT_CORE does not
    # stop (core(5)).
    _prctl(_PR_SET_DUMPABLE, 0)
    kept = clean_environment(os.environ, keep=keep)
    for name in [name for name in os.environ if name not in kept]:
        del os.environ[name]


def raise_file_limit() -> int:
    """Raise the soft limit of open files to the hard one, 2**20 at most; the limit that holds now.

    Each connection takes four descriptors and each watched process one.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_FILES)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return soft
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


class LockedPage:
    """Whole pages that are not swapped, dumped or copied by a fork, as far as the platform lets us.

    `buffer` is writable and zeroed.  `locked` tells whether mlock was granted.  `wipe` overwrites;
    `close` does so and gives the pages back, and views of the buffer must be released before.
    """

    def __init__(self, size: int = mmap.PAGESIZE) -> None:
        assert size > 0, "a page holds something"  # noqa: S101  # a bug of ours
        self._length = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
        self._pages = mmap.mmap(-1, self._length, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.buffer = memoryview(self._pages)[:size]
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self._pages))
        self.locked = _libc.mlock(ctypes.c_void_p(self.address), ctypes.c_size_t(self._length)) == 0
        if sys.platform == "linux":
            self._advise(mmap.MADV_DONTDUMP)
            self._advise(_MADV_WIPEONFORK)

    def wipe(self) -> None:
        """Overwrite all of it with zeros."""
        ctypes.memset(self.address, 0, self._length)

    def close(self) -> None:
        """Wipe, and give the pages back.  Calling it again does nothing."""
        if self._pages.closed:
            return
        self.wipe()
        self.buffer.release()
        self._pages.close()  # munmap unlocks too

    def _advise(self, advice: int) -> None:
        try:
            self._pages.madvise(advice)
        except OSError:
            return  # an older kernel; `report` looks at what came of it


def report(*, keep: Collection[str] = ()) -> list[Protection]:
    """Try each protection on this process and tell whether it holds.

    Blocks for some milliseconds (a process is started that tries to read us): call it from a
    worker thread.
    """
    return [
        _report_cores(),
        _report_readers(),
        *_report_page(),
        _report_environment(keep),
        _report_swap(),
        _report_files(),
    ]


def _report_cores() -> Protection:
    limit = resource.getrlimit(resource.RLIMIT_CORE)
    dumpable = _prctl(_PR_GET_DUMPABLE)
    return Protection(
        "no-core",
        limit == (0, 0) and dumpable == 0,
        f"core size limit {limit[0]}, dumpable {dumpable}",
    )


def _report_readers() -> Protection:
    """Have another process of our uid read our environment, as any program of it could try."""
    attempt = subprocess.run(
        ["cat", f"/proc/{os.getpid()}/environ"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={"PATH": os.defpath}, check=False,
    )  # fmt: skip
    if attempt.returncode:
        return Protection("unreadable", True, "another process of this user was refused")
    why = "root reads every process" if os.geteuid() == 0 else "the process is dumpable"
    return Protection("unreadable", False, f"another process read this one: {why}")


def _report_page() -> list[Protection]:
    """Make a locked page and ask the kernel what it thinks of it (VmFlags, proc_pid_smaps(5))."""
    page = LockedPage()
    try:
        flags = _vm_flags(page.address)
        soft = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    finally:
        page.close()
    granted = "unlimited" if soft == resource.RLIM_INFINITY else f"{soft // 1024} KiB"
    return [
        Protection("locked-page", "lo" in flags, f"pages may be locked up to {granted}"),
        Protection("page-not-dumped", "dd" in flags, "keys are left out of any core"),
        Protection("page-wiped-on-fork", "wf" in flags, "a fork finds the keys' page empty"),
    ]


def _report_environment(keep: Collection[str]) -> Protection:
    """Look at the block that the agent was started with; not even names are told."""
    names = {name.partition("=")[0]: "" for name in _initial_environment()}
    extra = len(names) - len(clean_environment(names, keep=keep))
    return Protection(
        "clean-environment",
        extra == 0,
        f"{extra} variables that the agent does not need were there when it was started",
    )


def _report_swap() -> Protection:
    """Whether pages that are not locked can reach a disk."""
    with open("/proc/swaps", "rb") as file:  # noqa: PTH123  # a file of the kernel
        devices = file.read().split(b"\n")[1:]
    used = sum(1 for device in devices if device)
    return Protection("no-swap", used == 0, f"{used} swap devices are in use")


def _report_files() -> Protection:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return Protection(
        "file-limit",
        soft == hard or soft >= MAX_FILES,
        f"{soft} descriptors may be open: one a watched process, four a connection",
    )


def _initial_environment() -> list[str]:
    """What /proc/self/environ shows, read where it lies.

    A process that is not dumpable may not open its own (the file is root's then), but the bounds of
    the block stand in its stat (fields 50 and 51, proc_pid_stat(5)).
    """
    with open("/proc/self/stat", "rb") as file:  # noqa: PTH123  # a file of the kernel
        fields = file.read().rpartition(b") ")[2].split()
    start, end = int(fields[47]), int(fields[48])
    return [
        os.fsdecode(entry) for entry in ctypes.string_at(start, end - start).split(b"\0") if entry
    ]


def _vm_flags(address: int) -> frozenset[str]:
    """The VmFlags of the mapping that holds an address; empty where the kernel does not tell."""
    inside = False
    with open("/proc/self/smaps", encoding="ascii", errors="replace") as file:  # noqa: PTH123  # a file of the kernel
        for line in file:
            first = line.split(None, 1)[0]
            if "-" in first and not first.endswith(":"):
                start, _, end = first.partition("-")
                inside = int(start, 16) <= address < int(end, 16)
            elif inside and first == "VmFlags:":
                return frozenset(line.split()[1:])
    return frozenset()


def _prctl(option: int, value: int = 0) -> int:
    """prctl(2) on this process; negative where it was refused or there is no such call."""
    if sys.platform != "linux":
        return -1
    return int(_libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0))


_libc = ctypes.CDLL(None, use_errno=True)
