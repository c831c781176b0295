"""What `doctor` tries on this machine by itself, whether or not an agent runs.

Rules that hold here: what can be tried is tried, and of the rest the kernel's own setting is read;
each check has a deadline and says what it found, what follows and what mends it; nothing is changed
on the machine.
`fail` is what makes an agent refuse or a promise void; `warn` is a protection that is not there.
"""

import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from secret_agent_client.errors import SecretAgentError
from secret_agent_client.paths import (
    check_private_dir,
    check_private_file,
    check_runtime_base,
    check_socket_path,
    default_paths,
)
from secret_agent_client.spawn import agent_environment

State = Literal["ok", "warn", "fail"]
BUS_S = 2.0  # seconds that a bus may take to greet
KEYRING_S = 8.0  # seconds; a locked keyring may wait for a dialog that nobody sees
SANE_SINCE = 1_700_000_000  # Unix seconds; a clock that shows less was never set

# Asks the keyring for something that is not in it: it must answer, and nothing is written.
_ASK_KEYRING = """
import keyring
backend = keyring.get_keyring()
print(type(backend).__module__, backend.priority)
keyring.get_password("secret-agent-doctor", "probe")
print("answers")
"""


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the doctor.  mend: a command, or None where nothing is to be typed."""

    name: str
    state: State
    detail: str
    mend: str | None = None

    def as_json(self) -> dict[str, str | None]:
        return {"name": self.name, "state": self.state, "detail": self.detail, "try": self.mend}


def machine_checks(environ: Mapping[str, str]) -> list[Check]:
    """All of them.  None raises: what cannot be tried is a warning that says so."""
    tries: tuple[tuple[str, Callable[[Mapping[str, str]], Check]], ...] = (
        ("folders", folders),
        ("memory locking", memory_locking),
        ("clocks", clocks),
        ("session bus", session_bus),
        ("system bus", system_bus),
        ("lock detection", lock_detection),
        ("keyring", keyring),
        ("swap", swap),
        ("ptrace", ptrace),
        ("core dumps", core_dumps),
        ("shell set-up", shell_set_up),
    )
    return [_tried(name, check, environ) for name, check in tries]


def folders(environ: Mapping[str, str]) -> Check:
    """The folders and files that exist are ours alone, and the socket's path is short enough."""
    paths = default_paths(environ)
    check_socket_path(paths.socket)
    check_runtime_base(environ)
    found = 0
    for path, check in (
        *((folder, check_private_dir) for folder in (paths.runtime, paths.config, paths.data)),
        (paths.state, check_private_dir),
        *((file, check_private_file) for file in (paths.store, paths.audit, paths.policy_file)),
    ):
        if os.path.lexists(path):
            check(path)
            found += 1
    return Check("folders", "ok", f"{found} of ours exist, none open to others; {paths.runtime}")


def memory_locking(_environ: Mapping[str, str]) -> Check:
    """A page can be locked."""
    import ctypes
    import mmap

    libc = ctypes.CDLL(None, use_errno=True)
    page = mmap.mmap(-1, mmap.PAGESIZE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    if libc.mlock(ctypes.c_void_p(address), ctypes.c_size_t(mmap.PAGESIZE)):
        why = os.strerror(ctypes.get_errno()).lower()
        return Check(
            "memory locking", "warn", f"a page cannot be locked: {why}", "ulimit -l unlimited"
        )
    libc.munlock(ctypes.c_void_p(address), ctypes.c_size_t(mmap.PAGESIZE))
    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    most = "no limit" if limit == resource.RLIM_INFINITY else f"at most {limit // 1024} KiB"
    return Check("memory locking", "ok", f"a page was locked; {most}")


def clocks(_environ: Mapping[str, str]) -> Check:
    """There is a clock that counts suspend, and the wall clock was set."""
    if not hasattr(time, "CLOCK_BOOTTIME"):
        return Check("clocks", "warn", "no clock here counts suspend: leases outlive it")
    boot = time.clock_gettime(time.CLOCK_BOOTTIME)
    if time.clock_gettime(time.CLOCK_BOOTTIME) < boot:
        return Check("clocks", "fail", "CLOCK_BOOTTIME goes backwards")
    if time.time() < SANE_SINCE:
        return Check("clocks", "warn", "the wall clock was never set", "timedatectl set-ntp true")
    return Check("clocks", "ok", "deadlines count suspend; the wall clock is set")


def session_bus(environ: Mapping[str, str]) -> Check:
    """The bus of the keyring and the screen lock answers."""
    address = environ.get("DBUS_SESSION_BUS_ADDRESS", "")
    if not address:
        return Check("session bus", "warn", "there is none here: no keyring, no screen to watch")
    return _bus("session bus", address)


def system_bus(environ: Mapping[str, str]) -> Check:
    """The bus of logind answers."""
    default = "unix:path=/run/dbus/system_bus_socket"
    return _bus("system bus", environ.get("DBUS_SYSTEM_BUS_ADDRESS", default))


def lock_detection(_environ: Mapping[str, str]) -> Check:
    """Nothing watches the screen or the lid yet, and that is said."""
    return Check(
        "lock detection",
        "warn",
        "locking the screen or suspending does not lock the session; time and idleness do",
        "secret-agent start --idle 15m",
    )


def keyring(environ: Mapping[str, str]) -> Check:
    """The OS keyring is asked for something, in a process that may hang."""
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-c", _ASK_KEYRING],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            env=agent_environment(environ),
            timeout=KEYRING_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Check(
            "keyring",
            "warn",
            f"it did not answer in {KEYRING_S:.0f} s: locked, with a dialog open?",
        )
    lines = done.stdout.decode("utf-8", "replace").split("\n")
    if b"No module named 'keyring'" in done.stderr:
        mend = "python3 -m pip install 'secret-agent-daemon[keyring]'"
        return Check("keyring", "warn", "the keyring package is not installed", mend)
    if done.returncode or "answers" not in lines or lines[0].startswith("keyring.backends.fail"):
        detail = "no keyring answers here: unlock --keyring cannot be used"
        return Check("keyring", "warn", detail, "secret-agent unlock")
    detail = f"{lines[0].split()[0]} answers; every program of this session can read what is in it"
    return Check("keyring", "ok", detail)


def swap(_environ: Mapping[str, str]) -> Check:
    """Where memory that is not locked may be written to."""
    with open("/proc/swaps", encoding="utf-8") as file:  # noqa: PTH123  # of /proc
        areas = [line.split()[0] for line in file.read().split("\n")[1:] if line]
    plain = [area for area in areas if not _is_safe_swap(area)]
    if plain:
        detail = f"{', '.join(plain)} is not encrypted: values in programs may be written there"
        return Check("swap", "warn", detail, "sudo swapoff -a")
    kind = "only in memory or encrypted" if areas else "none"
    return Check("swap", "ok", kind)


def ptrace(_environ: Mapping[str, str]) -> Check:
    """Whether any program of ours may read the memory of a `run` child."""
    try:
        with open("/proc/sys/kernel/yama/ptrace_scope", encoding="ascii") as file:  # noqa: PTH123  # of /proc
            level = int(file.read())
    except FileNotFoundError:
        level = 0
    if level:
        return Check("ptrace", "ok", f"programs may debug their own children at most ({level})")
    return Check(
        "ptrace",
        "warn",
        "every program of this user may read the memory of another, but not the agent's",
        "sudo sysctl kernel.yama.ptrace_scope=1",
    )


def core_dumps(_environ: Mapping[str, str]) -> Check:
    """Where the memory of a `run` child goes that crashes; the agent itself is never dumped."""
    with open("/proc/sys/kernel/core_pattern", encoding="utf-8") as file:  # noqa: PTH123  # of /proc
        pattern = file.read().strip()
    limit = resource.getrlimit(resource.RLIMIT_CORE)[0]
    if pattern.startswith("|"):
        handler = pattern[1:].split()[0].rpartition("/")[2] if pattern[1:].split() else "a program"
        return Check(
            "core dumps", "warn", f"the memory of a command that crashes goes to {handler}"
        )
    if limit:
        detail = "a command that crashes writes its memory to a file"
        return Check("core dumps", "warn", detail, "ulimit -c 0")
    return Check("core dumps", "ok", "a command that crashes leaves no memory behind")


def shell_set_up(environ: Mapping[str, str]) -> Check:
    """Whether the login shell's start-up file has our line."""
    shell = environ.get("SHELL", "").rpartition("/")[2]
    home = environ.get("HOME", "")
    config = environ.get("XDG_CONFIG_HOME") or f"{home}/.config"
    files = {
        "bash": (f"{home}/.bashrc", f"{home}/.bash_profile", f"{home}/.profile"),
        "zsh": (f"{environ.get('ZDOTDIR') or home}/.zshrc",),
        "fish": (f"{config}/fish/config.fish",),
    }.get(shell, ())
    if not files:
        return Check("shell set-up", "warn", f"no integration for {shell or 'an unknown shell'}")
    if any("secret-agent" in _text(file) for file in files):
        return Check("shell set-up", "ok", f"{shell} knows the agent")
    line = (
        f"secret-agent shell-init {shell} | source"
        if shell == "fish"
        else f'eval "$(secret-agent shell-init {shell})"'
    )
    detail = f"{files[0]} has no line of ours: leases end with the shell all the same"
    return Check("shell set-up", "warn", detail, f"echo '{line}' >> {files[0]}")


def _tried(name: str, check: Callable[[Mapping[str, str]], Check], env: Mapping[str, str]) -> Check:
    try:
        return check(env)
    except SecretAgentError as error:
        return Check(name, "fail", error.message, error.remedy)
    except (OSError, ValueError) as error:
        return Check(name, "warn", f"it cannot be tried here: {type(error).__name__}")


def _bus(name: str, address: str) -> Check:
    """Greet the first Unix socket of an address as D-Bus clients do (SASL EXTERNAL)."""
    place = _bus_place(address)
    if place is None:
        return Check(name, "warn", "its address names no Unix socket")
    uid = str(os.geteuid()).encode().hex().encode()
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as bus:
            bus.settimeout(BUS_S)
            bus.connect(place)
            bus.sendall(b"\0AUTH EXTERNAL " + uid + b"\r\n")
            greeted = bus.recv(64).startswith(b"OK ")
    except OSError as error:
        why = os.strerror(error.errno).lower() if error.errno else "too late"
        return Check(name, "warn", f"it does not answer: {why}")
    if not greeted:
        return Check(name, "warn", "it answers, and does not let us in")
    return Check(name, "ok", "it answers and lets us in")


def _bus_place(address: str) -> str | None:
    for each in address.split(";"):
        kind, _, rest = each.partition(":")
        keys = dict(part.partition("=")[::2] for part in rest.split(","))
        if kind == "unix" and "path" in keys:
            return keys["path"]
        if kind == "unix" and "abstract" in keys:
            return "\0" + keys["abstract"]
    return None


def _is_safe_swap(area: str) -> bool:
    """Compressed memory, or a device-mapper volume that dm-crypt made."""
    name = os.path.realpath(area).rpartition("/")[2]
    return name.startswith("zram") or _text(f"/sys/block/{name}/dm/uuid").startswith("CRYPT-")


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123  # a text, to the byte
            return file.read(1 << 20)
    except OSError:
        return ""
