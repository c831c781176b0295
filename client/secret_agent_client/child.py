"""What is to be run, and the last steps before it runs: between fork and exec, in the child.

Rules that hold here: the child sees descriptors 0, 1, 2 and those that were declared, nothing else
(CVE-2024-21626, T14); it is in a process group of its own, so that a signal reaches it once, from
us; it has the signal dispositions that a shell would have given it; no value is in its arguments;
it gets SIGTERM from the kernel when its parent dies, however that died.
"""

import errno
import os
import signal
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

from secret_agent_client.errors import SecretAgentError

NOT_FOUND = 127  # exit status of a shell for a command that is not there
NOT_EXECUTABLE = 126  # and for one that is there and cannot be run
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_MOST_DESCRIPTORS = 1 << 30  # more than a kernel gives; closerange() is one system call
_DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"

# Ignored by Python itself at its start, and so not by the wish of whoever started us.
_PYTHON_IGNORES: Final = (signal.SIGPIPE, signal.SIGXFSZ)


class CommandError(SecretAgentError):
    """The command cannot be run; `exit_status` is what a shell would exit with."""

    code = "usage"

    def __init__(self, message: str, exit_status: int) -> None:
        super().__init__(message)
        self.exit_status = exit_status


@dataclass(frozen=True, slots=True, repr=False)
class Command:
    """A program, its arguments and its whole environment (which holds values: no repr).

    descriptors: those beyond 0, 1, 2 that the child is to inherit, under the same numbers.
    """

    program: str
    argv: tuple[str, ...]
    environment: dict[bytes, bytes]
    descriptors: tuple[int, ...] = field(default=())


def find_program(name: str, path: str | None) -> str:
    """The file that a shell would run.  Raises CommandError with status 127 or 126."""
    if "/" in name or not name:
        _check_file(name, name)
        return name
    found_but = None
    for folder in (path if path is not None else _DEFAULT_PATH).split(os.pathsep):
        candidate = os.path.join(folder, name)  # noqa: PTH118  # "" stands for "." here
        try:
            _check_file(candidate, name)
        except CommandError as error:
            found_but = found_but or (error if error.exit_status == NOT_EXECUTABLE else None)
        else:
            return candidate
    raise found_but or CommandError(f"the command {name} was not found", NOT_FOUND)


def _check_file(path: str, name: str) -> None:
    if not path or not os.path.exists(path):  # noqa: PTH110  # no pathlib on this path: 5 ms
        raise CommandError(f"the command {name} was not found", NOT_FOUND)
    if os.path.isdir(path) or not os.access(path, os.X_OK):  # noqa: PTH112  # as above
        raise CommandError(f"the command {name} cannot be executed", NOT_EXECUTABLE)


def exec_error(number: int) -> CommandError:
    """What an exec that failed with that errno means."""
    if number in (errno.ENOENT, errno.ENOTDIR):
        return CommandError("the command, or the interpreter it names, was not found", NOT_FOUND)
    reason = os.strerror(number).lower()
    return CommandError(f"the command cannot be executed: {reason}", NOT_EXECUTABLE)


def declared_in(argv: tuple[str, ...]) -> tuple[int, ...]:
    """Descriptors that a shell opened for the command and names in its arguments: `<(…)`.

    They were inherited and are not ours: everything that we open ourselves closes on exec.
    """
    found = set()
    for argument in argv:
        for folder in ("/dev/fd/", "/proc/self/fd/"):
            _, named, rest = argument.partition(folder)
            digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
            if named and digits and len(digits) < 8:
                found.add(int(digits))
    return tuple(sorted(number for number in found if number > 2 and _is_inherited(number)))


def _is_inherited(descriptor: int) -> bool:
    try:
        return os.get_inheritable(descriptor)
    except OSError:
        return False


def load_prctl() -> Callable[..., Any] | None:
    """prctl(2), found before the fork; None in a Python built without ctypes.

    There the monitor still ends the child when we are killed, but nobody does when both are.
    """
    try:
        import ctypes
    except ImportError:
        return None
    prctl: Callable[..., Any] = ctypes.CDLL(None).prctl
    return prctl


def become(
    command: Command,
    streams: tuple[int, int, int],
    *,
    report: int,
    mask: Iterable[int],
    prctl: Callable[..., Any] | None,
) -> NoReturn:
    """Turn this process, just forked with all signals blocked, into the command.

    mask: the signals that were blocked when we were started.  Where it fails, the errno is written
    to `report` in four bytes, big-endian.
    """
    parent = os.getppid()
    try:
        if prctl is not None:
            prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
        _restore_signals(mask)
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        close_all_but((*command.descriptors, report), first=3)
        if os.getppid() == parent:  # otherwise it died before the kernel knew that we care
            _exec(command)
    except OSError as error:
        os.write(report, (error.errno or errno.EIO).to_bytes(4, "big"))
    finally:
        os._exit(NOT_EXECUTABLE)


def _restore_signals(mask: Iterable[int]) -> None:
    """Dispositions and mask as we were given them: what was ignored (nohup) stays ignored."""
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)) or number in _PYTHON_IGNORES:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def close_all_but(keep: Iterable[int], *, first: int) -> None:
    """Close every descriptor from `first` on that is not to be kept."""
    low = first
    for descriptor in (*sorted({number for number in keep if number >= first}), _MOST_DESCRIPTORS):
        if low < descriptor:  # closerange(0, 0) would close everything: close_range(0, UINT_MAX)
            os.closerange(low, descriptor)
        low = descriptor + 1


def _exec(command: Command) -> None:
    for descriptor in command.descriptors:
        os.set_inheritable(descriptor, True)
    try:
        os.execve(command.program, command.argv, command.environment)  # noqa: S606  # this is it
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
    # A script without `#!`: execvp(3) and every shell give it to sh.
    argv = ("sh", command.program, *command.argv[1:])
    os.execve("/bin/sh", argv, command.environment)  # noqa: S606  # this is it
