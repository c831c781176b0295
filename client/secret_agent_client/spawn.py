"""Start the agent, detached, and return once its socket answers.

Rules that hold here:

* the agent is `python -I -m secret_agent` of the interpreter that runs us: no PYTHON* variable, no
  current folder and no user's site directory decides what code it is.  Where our own code was found
  only by those (a source checkout, `pip install --user`), just what is needed of them is kept;
* its environment is built from nothing: names of _KEPT alone pass, so that no value that a shell
  holds is kept for days in a process (FIELD 16, T43);
* it has no terminal, no open file of ours, no folder that could not be unmounted, and no signal
  ignored that it did not ignore itself;
* it says on a pipe that it answers, or why it does not; what says nothing in time is ended.

The client never imports the agent: it asks the import system where it would be found.
"""

import os
import select
import signal
import sys
import time

from secret_agent_client.errors import BY_CODE, InternalError, SecretAgentError, UnavailableError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import NoReturn

READY_S = 30.0  # seconds until the socket answers; a start takes 0.2 on an idle machine
PACKAGE = "secret_agent"
FOREGROUND = "secret-agent start --foreground"
_MOST_DESCRIPTORS = 1 << 30  # more than a kernel gives; closerange() is one system call
_TOLD = 4096  # bytes that an agent may say on the pipe

# What of the environment the agent gets: who and where the user is, how to write text, the session
# bus (keyring, screen lock) and where a prompt may appear.
_KEPT = frozenset(
    {
        "HOME",
        "USER",
        "LOGNAME",
        "PATH",
        "LANG",
        "LANGUAGE",
        "TZ",
        "TMPDIR",
        "DBUS_SESSION_BUS_ADDRESS",
        "DISPLAY",
        "WAYLAND_DISPLAY",
        "XAUTHORITY",
        "SECRET_AGENT_HOME",
    }
)
_KEPT_PREFIXES = ("LC_", "XDG_")


def agent_environment(environ: "Mapping[str, str]") -> dict[str, str]:
    """The environment of an agent that is started from this one."""
    return {
        name: value
        for name, value in environ.items()
        if name in _KEPT or name.startswith(_KEPT_PREFIXES)
    }


def agent_command(environ: "Mapping[str, str]") -> tuple[list[str], dict[str, str]]:
    """The program with its first arguments, and the environment it needs beyond the usual.

    Raises UnavailableError where this interpreter has no agent beside its client.
    """
    from importlib.util import find_spec

    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise UnavailableError(
            "the agent is not installed here, only its client",
            remedy="python3 -m pip install secret-agent-daemon",
        )
    folder = os.path.dirname(os.path.dirname(spec.origin))  # noqa: PTH120  # pathlib costs start-up
    if folder in _from_user_site():
        return [sys.executable, "-E", "-P", "-m", PACKAGE], {}
    if folder in _from_python_path(environ):
        ours = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120  # as above
        return [sys.executable, "-s", "-P", "-m", PACKAGE], {
            "PYTHONPATH": os.pathsep.join((folder, ours))
        }
    return [sys.executable, "-I", "-m", PACKAGE], {}


def spawn(arguments: "Sequence[str]", environ: "Mapping[str, str]") -> None:
    """Start an agent with these arguments; return once it, or another at its socket, answers.

    Raises the error that the agent ended with; UnavailableError where it said nothing in time.
    """
    command, more = agent_command(environ)
    reader, writer = os.pipe()
    try:
        pid = _start_detached(
            [*command, *arguments, "--ready-fd", str(writer)],
            {**agent_environment(environ), **more},
            writer,
        )
        os.close(writer)
        writer = -1
        told = _read_until_told(reader, pid)
    finally:
        os.close(reader)
        if writer >= 0:
            os.close(writer)
    _check(told)


def replace_process(arguments: "Sequence[str]", environ: "Mapping[str, str]") -> "NoReturn":
    """Become the agent, in the foreground; stdio stays.

    Raises UnavailableError where it cannot be run.
    """
    command, more = agent_command(environ)
    sys.stdout.flush()
    _reset_signals()
    try:
        environment = {**agent_environment(environ), **more}
        os.execve(command[0], [*command, *arguments], environment)  # noqa: S606  # no shell is wanted
    except OSError as error:
        why = os.strerror(error.errno or 0).lower()
        raise UnavailableError(f"the agent cannot be run: {why}") from None


def client_command() -> list[str]:
    """How this very client is called again, as a program and its first arguments."""
    archive = sys.argv[0]
    if __file__.startswith(archive + os.sep):  # the one-file client
        return [sys.executable, archive]
    return [sys.executable, "-m", "secret_agent_client"]


def _from_user_site() -> list[str]:
    import site

    return [site.getusersitepackages()] if site.ENABLE_USER_SITE else []


def _from_python_path(environ: "Mapping[str, str]") -> list[str]:
    if sys.flags.ignore_environment:
        return []
    return [
        os.path.abspath(entry)  # noqa: PTH100  # pathlib costs start-up
        for entry in environ.get("PYTHONPATH", "").split(os.pathsep)
        if entry
    ]


def _start_detached(command: "list[str]", environment: "dict[str, str]", writer: int) -> int:
    """Fork twice, so that the agent is no child of ours and leads no session; its pid."""
    pid_reader, pid_writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setsid()
            agent = os.fork()
            if agent:
                os.write(pid_writer, str(agent).encode())
            else:
                _become_agent(command, environment, writer)
        finally:
            os._exit(0)
    os.close(pid_writer)
    try:
        os.waitpid(child, 0)
        return int(os.read(pid_reader, 32) or b"0")
    finally:
        os.close(pid_reader)


def _become_agent(command: "list[str]", environment: "dict[str, str]", writer: int) -> None:
    """The last steps between fork and exec.  Returns only where exec fails, having said so."""
    try:
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        os.closerange(3, writer)
        os.closerange(writer + 1, _MOST_DESCRIPTORS)
        os.set_inheritable(writer, True)  # os's own signature
        os.chdir("/")
        os.umask(0o077)
        _reset_signals()
        os.execve(command[0], command, environment)  # noqa: S606  # no shell is wanted
    except OSError as error:
        why = os.strerror(error.errno or 0).lower()
        os.write(writer, f"unavailable\nthe agent cannot be run: {why}\n".encode())


def _reset_signals() -> None:
    """Every signal as a new session would have it: what a shell ignored for `&` stays not so."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        try:
            signal.signal(number, signal.SIG_DFL)
        except OSError:  # the C library keeps two real-time signals for itself
            continue
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _read_until_told(reader: int, pid: int) -> bytes:
    """What the agent says before it closes the pipe; one that says nothing in time is ended."""
    until = time.monotonic() + READY_S
    told = b""
    while len(told) < _TOLD and not told.startswith(b"ok\n"):
        ready, _, _ = select.select([reader], [], [], max(0.0, until - time.monotonic()))
        if not ready:
            if pid:
                os.kill(pid, signal.SIGKILL)
            raise UnavailableError(
                f"the agent did not answer within {READY_S:.0f} s and was ended", remedy=FOREGROUND
            )
        data = os.read(reader, _TOLD)
        if not data:
            break
        told += data
    return told


def _check(told: bytes) -> None:
    """Return where the agent said ok; raise the error that it named: code, message, remedy."""
    if told.startswith(b"ok\n"):
        return
    lines = told.decode("utf-8", "replace").splitlines()
    if len(lines) < 2:
        raise UnavailableError("the agent ended before its socket answered", remedy=FOREGROUND)
    kind: type[SecretAgentError] = BY_CODE.get(lines[0], InternalError)
    raise kind(lines[1], remedy=lines[2] if len(lines) > 2 else None)
