"""`start` and `stop`: one agent a user, and the lines that tell a shell of it.

Rules that hold here:

* stdout is for `eval`, also unquoted, in bash, zsh, dash, ksh and (by `source`) fish: assignments
  only, each ended by `;`, in characters that no shell splits, expands or globs.  A socket whose
  path needs others is refused rather than quoted: what one shell quotes another expands;
* `start` goes by the well-known place, whatever SECRET_AGENT_SOCK says: a shell in an old tmux gets
  the living agent instead of the dead one;
* `start` returns once the socket answers, `stop` once the process has ended: both ask the kernel.
"""

import fcntl
import os
import secrets
import select
import signal
import subprocess
import time
from argparse import ArgumentParser, Namespace
from contextlib import suppress

from secret_agent_client.cli.callers import SHELLS, calling_shell, shell_syntax
from secret_agent_client.cli.command import Command
from secret_agent_client.cli.output import Output
from secret_agent_client.connection import Connection
from secret_agent_client.dial import is_stopped, too_late
from secret_agent_client.duration import parse_duration
from secret_agent_client.errors import (
    DeniedError,
    InvalidError,
    NoAgentError,
    SecretAgentError,
    UnavailableError,
    UsageError,
)
from secret_agent_client.paths import (
    check_socket_path,
    default_paths,
    make_private_dir,
    socket_path,
)
from secret_agent_client.spawn import replace_process, spawn

END_S = 10.0  # seconds that an agent may take for its orderly end
REGISTER_S = 5.0  # seconds for the registration of a shell
NOT_HAD, NOT_EXECUTABLE, NOT_FOUND = 125, 126, 127  # exit codes of CLI.md for `-- CMD`
PRIVATE = "private-"  # what the name of a private agent's folder begins with; 16 digits follow
SETTLED_S = 60.0  # seconds after which a lock file is surely held by its agent, or by nobody
PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+:@%,")
_FORWARDED = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_OF_THE_TERMINAL = (signal.SIGINT, signal.SIGQUIT)


def assignments(syntax: str, socket: str, pid: int) -> str:
    """What a shell evaluates to know the agent.

    Raises InvalidError for a path that needs quotes.
    """
    if set(socket) - PLAIN:
        raise InvalidError(
            "the socket's path has characters that not every shell takes unquoted",
            remedy="SECRET_AGENT_HOME=/a/plain/path secret-agent start",
        )
    if syntax == "fish":
        return f"set -gx SECRET_AGENT_SOCK {socket}; set -gx SECRET_AGENT_PID {pid};"
    return (
        f"SECRET_AGENT_SOCK={socket}; export SECRET_AGENT_SOCK; "
        f"SECRET_AGENT_PID={pid}; export SECRET_AGENT_PID;"
    )


def unsets(syntax: str) -> str:
    """What a shell evaluates to forget the agent."""
    if syntax == "fish":
        return "set -e SECRET_AGENT_SOCK; set -e SECRET_AGENT_PID;"
    return "unset SECRET_AGENT_SOCK; unset SECRET_AGENT_PID;"


def _configure_start(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--shell", choices=SHELLS, help="in whose words to print; found if not said"
    )
    parser.add_argument(
        "--pid", type=int, metavar="N", help="the shell to register; the calling one if not said"
    )
    parser.add_argument(
        "--foreground", action="store_true", help="be the agent: for systemd, containers, debugging"
    )
    parser.add_argument(
        "--private", action="store_true", help="an agent of this shell alone, gone with it"
    )
    parser.add_argument("--lifetime", metavar="D", help="lock so long after each unlock")
    parser.add_argument("--idle", metavar="D", help="lock after so long without a request")
    parser.add_argument("--socket", metavar="PATH", help="listen here, not at the well-known place")


def _start(args: Namespace, out: Output) -> int:
    if args.command is not None:
        return _start_for_command(args, out)
    place = _place(args)
    terms = _terms(args)
    if args.foreground:
        replace_process([*terms, *_socket_argument(args, place)], os.environ)
    syntax = args.shell or shell_syntax(os.environ)
    assignments(syntax, place, 0)  # before anything is started: whether it can be told of at all
    if args.private:
        terms += ["--private", "--owner-pid", str(args.pid or calling_shell() or os.getppid())]
    conn, new = _ensure(place, [*terms, *_socket_argument(args, place)])
    with conn:
        if not new and terms:
            out.warn("an agent runs already; --lifetime and --idle are for a new one")
        _register(conn, args, out)
        state = conn.call("status")["state"]
        out.line(assignments(syntax, place, conn.server_pid))
    if new:
        out.say(f"agent started, pid {conn.server_pid}, {_of_state(state)}")
    return 0


def _of_state(state: str) -> str:
    return {"new": "no secrets yet", "unlocked": "unlocked"}.get(state, "locked")


def _place(args: Namespace) -> str:
    """The socket that the agent is to have.  Raises UsageError where the options disagree."""
    if args.socket is not None:
        if args.private:
            raise UsageError("--private has a socket of its own: --socket does not go with it")
        return check_socket_path(os.path.abspath(args.socket), what="--socket")  # noqa: PTH100  # a text, to the byte
    paths = default_paths(os.environ)
    if not args.private:
        return check_socket_path(paths.socket)
    if args.foreground:
        raise UsageError("--private and --foreground do not go together")
    _remove_dead_folders(paths.runtime)
    folder = f"{paths.runtime}/{PRIVATE}{secrets.token_hex(8)}"
    path = check_socket_path(folder + "/agent.sock")
    make_private_dir(folder)
    return path


def _socket_argument(args: Namespace, place: str) -> list[str]:
    return ["--socket", place] if args.socket is not None or args.private else []


def _terms(args: Namespace) -> list[str]:
    terms: list[str] = []
    for option in ("lifetime", "idle"):
        text = getattr(args, option)
        if text is not None:
            terms += [f"--{option}", str(parse_duration(text, what=f"--{option}"))]
    return terms


def _ensure(place: str, arguments: list[str]) -> tuple[Connection, bool]:
    """A connection to the agent at the place, and whether it was started just now."""
    with suppress(NoAgentError):
        conn = Connection.connect(place)
        conn.call("status")
        return conn, False
    spawn(arguments, os.environ)
    return Connection.connect(place), True


def _register(conn: Connection, args: Namespace, out: Output) -> None:
    """Register the calling shell, where there is one and it is not an agent's own child."""
    pid = args.pid or calling_shell()
    if pid is None:
        return
    try:
        conn.call("register", {"pid": pid}, deadline_s=REGISTER_S)
    except DeniedError as error:
        if args.pid is not None:
            raise
        out.warn(f"this shell is not registered: {error.message}")


def _start_for_command(args: Namespace, out: Output) -> int:
    """A private agent that ends with the command, and the command's exit status."""
    if not args.command or args.foreground or args.socket is not None:
        raise UsageError(
            "start -- CMD needs a command, and neither --foreground nor --socket",
            remedy="secret-agent start -- make test",
        )
    args.private = True
    try:
        place = _place(args)
        owner = ["--private", "--owner-pid", str(os.getpid())]
        spawn([*_terms(args), *owner, "--socket", place], os.environ)
        with Connection.connect(place) as conn:
            environ = {
                **os.environ,
                "SECRET_AGENT_SOCK": place,
                "SECRET_AGENT_PID": str(conn.server_pid),
            }
    except SecretAgentError as error:
        out.error(error)
        return NOT_HAD
    try:
        return _run(args.command, environ, out)
    finally:
        with suppress(NoAgentError):
            _end(Connection.connect(place))
        _remove_folder(place)


def _run(command: list[str], environ: dict[str, str], out: Output) -> int:
    child: subprocess.Popen[bytes] | None = None

    def pass_on(number: int, _frame: object) -> None:
        # What the terminal sends reaches the command by itself: it is in our process group.
        if child is not None and number not in _OF_THE_TERMINAL:
            child.send_signal(number)

    # Handlers and not SIG_IGN: an ignored signal would stay ignored in the command.
    before = {each: signal.signal(each, pass_on) for each in (*_FORWARDED, *_OF_THE_TERMINAL)}
    try:
        child = subprocess.Popen(command, env=environ)
        status = child.wait()
    except FileNotFoundError:
        out.error(UsageError("the command is not on PATH"))
        return NOT_FOUND
    except OSError as error:
        why = os.strerror(error.errno or 0).lower()
        out.error(UsageError(f"the command cannot be run: {why}"))
        return NOT_EXECUTABLE
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return status if status >= 0 else 128 - status


def _remove_folder(place: str) -> None:
    """What is left of a private agent's folder: its lock file, and the folder."""
    folder = place.rpartition("/")[0]
    for name in ("agent.sock.lock", "agent.sock", "prompt"):
        with suppress(OSError):
            os.unlink(f"{folder}/{name}")  # noqa: PTH108  # a text, to the byte
    with suppress(OSError):
        os.rmdir(folder)  # noqa: PTH106  # a text, to the byte


def _remove_dead_folders(runtime: str) -> None:
    """What private agents left that were gone before anybody could clean up after them."""
    with suppress(OSError):
        for entry in os.scandir(runtime):
            digits = entry.name.removeprefix(PRIVATE)
            if len(digits) == 16 and entry.is_dir(follow_symlinks=False):
                _remove_if_dead(entry.path)


def _remove_if_dead(folder: str) -> None:
    """By its lock, which an agent holds as long as it lives."""
    with suppress(OSError):
        lock = os.open(f"{folder}/agent.sock.lock", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if time.time() - os.fstat(lock).st_mtime > SETTLED_S:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove_folder(f"{folder}/agent.sock")
        finally:
            os.close(lock)


def _configure_stop(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--shell", choices=SHELLS, help="in whose words to print; found if not said"
    )


def _stop(args: Namespace, out: Output) -> int:
    try:
        conn = Connection.connect()
    except NoAgentError as error:
        out.say(error.message)
        _mention_other(out)
    else:
        ended = _end(conn)
        out.say(f"agent stopped; {ended} leases ended")
    out.line(unsets(args.shell or shell_syntax(os.environ)))
    return 0


def _mention_other(out: Output) -> None:
    """SECRET_AGENT_SOCK led to a dead agent; a living one elsewhere must not be forgotten."""
    with suppress(SecretAgentError):
        known = default_paths(os.environ).socket
        if known != socket_path(os.environ):
            with Connection.connect(known) as conn:
                pid = conn.server_pid
            out.warn(f"the agent at {known} (pid {pid}) still runs")
            out.hint("unset SECRET_AGENT_SOCK; secret-agent stop")


def _end(conn: Connection) -> int:
    """Ask the agent to end and see that it has; how many leases that ended."""
    pid = conn.server_pid
    with conn:
        if is_stopped(pid):
            raise too_late(pid, "end", END_S)
        pidfd = os.pidfd_open(pid) if pid > 0 else None
        try:
            ended = _ask_to_end(conn, pidfd)
            if pidfd is not None and not select.select([pidfd], [], [], END_S)[0]:
                raise UnavailableError(
                    f"the agent (pid {pid}) was asked to end and still runs after {END_S:.0f} s",
                    remedy=f"kill -9 {pid}",
                )
        finally:
            if pidfd is not None:
                os.close(pidfd)
    return ended


def _ask_to_end(conn: Connection, pidfd: int | None) -> int:
    """By the verb; an agent of another protocol by SIGTERM, which it understands in any version."""
    try:
        return int(conn.call("stop", deadline_s=END_S)["ended"])
    except UnavailableError:
        if pidfd is None or not _is_agent(conn.server_pid):
            raise
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        return 0


def _is_agent(pid: int) -> bool:
    """Whether the process is an agent by its own words; systemd may have bound its socket."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:  # noqa: PTH123  # of /proc
            return b"secret_agent" in file.read().split(b"\0")
    except OSError:
        return False


COMMANDS = {
    "start": Command(
        help="make sure that the agent runs, and tell the shell of it",
        example="eval $(secret-agent start)",
        configure=_configure_start,
        run=_start,
        takes_command=True,
    ),
    "stop": Command(
        help="revoke every lease, wipe, and end the agent",
        example="eval $(secret-agent stop)",
        configure=_configure_stop,
        run=_stop,
    ),
}
