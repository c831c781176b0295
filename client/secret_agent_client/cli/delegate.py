"""`delegate`: a socket that can do less, for a container, a job or one command.

The socket is made here and handed over; the agent learns no path from us.  With CMD this process
stays as its parent: the scope is bound to it, so that it ends with CMD whatever becomes of either.
"""

import os
import signal
import subprocess
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from secret_agent_client.child import CommandError, exec_error, find_program
from secret_agent_client.cli.command import Command
from secret_agent_client.cli.given import parse_octal
from secret_agent_client.cli.output import Output
from secret_agent_client.cli.session import call_unlocked, open_session
from secret_agent_client.cli.shell_words import SHELLS, assignment
from secret_agent_client.connection import Connection
from secret_agent_client.duration import parse_duration
from secret_agent_client.errors import InvalidError, SecretAgentError, UsageError
from secret_agent_client.references import check_glob, check_stage
from secret_agent_client.scope_socket import bind_scope, remove_socket

NOT_HAD = 125  # as env(1) and CLI.md have it
_FORWARDED = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_OF_THE_TERMINAL = (signal.SIGINT, signal.SIGQUIT)  # reach CMD by themselves


def _configure(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--allow", metavar="GLOB", nargs="+", action="extend", help="the secrets that it may read"
    )
    parser.add_argument(
        "--deny", metavar="GLOB", nargs="+", action="extend", default=[], help="but not these"
    )
    parser.add_argument(
        "--ttl", metavar="D", help="how long it lasts, at most; an hour if not said"
    )
    parser.add_argument("--max-uses", metavar="N", type=int, help="how many values it may hand out")
    parser.add_argument("--uid", metavar="U", type=int, help="the only uid that may connect")
    parser.add_argument("--mode", metavar="M", help="the socket's mode; 0600 if not said")
    parser.add_argument("--stage", metavar="S", help="of this stage alone")
    parser.add_argument("--socket", metavar="PATH", help="where; needed unless CMD is given")
    parser.add_argument("--shell", choices=SHELLS, help="print assignments instead of the path")
    parser.add_argument("--json", action="store_true", help="the scope, as JSON")


def _delegate(args: Namespace, out: Output) -> int:
    command: list[str] = args.command or []
    body = _body(args)
    if command and (args.json or args.shell):
        raise UsageError("with CMD there is nothing to print: --json and --shell are for without")
    if not command and args.socket is None:
        raise UsageError(
            "delegate needs --socket PATH, or a command to run",
            remedy="secret-agent delegate --allow 'payments/*' -- make test",
        )
    if command:
        return _run_with_scope(args, out, body, command)
    path = os.path.abspath(args.socket)  # noqa: PTH100  # a text, to the byte
    with open_session(args) as connection:
        scope = _make(connection, args, path, body)
    if args.json:
        out.json({**scope, "socket": path})
    elif args.shell:
        out.raw(assignment(args.shell, "SECRET_AGENT_SOCK", os.fsencode(path)) + b"\n")
    else:
        out.raw(os.fsencode(path) + b"\n")
        out.say(f"scope {scope['id']} until {scope['expires_at']}")
    return 0


def _body(args: Namespace) -> dict[str, Any]:
    if not args.allow:
        raise UsageError(
            "delegate needs --allow GLOB",
            remedy="secret-agent delegate --allow 'payments/*' -- make test",
        )
    for option, number in (("--max-uses", args.max_uses), ("--uid", args.uid)):
        if number is not None and number < (option == "--max-uses"):
            raise UsageError(f"{option} is too small")
    body = {
        "allow": [check_glob(glob) for glob in args.allow],
        "deny": [check_glob(glob) for glob in args.deny] or None,
        "ttl_s": None if args.ttl is None else parse_duration(args.ttl, what="--ttl"),
        "max_uses": args.max_uses,
        "uids": None if args.uid is None else [args.uid],
        "stage": None if args.stage is None else check_stage(args.stage),
    }
    return {key: value for key, value in body.items() if value is not None}


def _make(
    connection: Connection, args: Namespace, path: str, body: dict[str, Any]
) -> dict[str, Any]:
    """Bind the socket and hand it over; what the agent says of the scope."""
    mode = 0o600 if args.mode is None else _mode(args.mode)
    with bind_scope(path, mode=mode, uid=args.uid) as listener:
        try:
            return call_unlocked(
                connection, args, "delegate", body, descriptors=(listener.fileno(),)
            )
        except BaseException:
            remove_socket(path)
            raise


def _mode(text: str) -> int:
    mode = parse_octal(text, example="0660")
    if mode & ~0o666 or mode & 0o600 != 0o600:
        raise InvalidError("--mode must let the owner read and write, and nobody execute")
    return mode


def _run_with_scope(args: Namespace, out: Output, body: dict[str, Any], command: list[str]) -> int:
    try:
        with open_session(args) as connection:
            path = _place(connection, args)
            scope = _make(connection, args, path, {**body, "bound": True})
            try:
                return _run(command, path)
            finally:
                _end(connection, scope["id"], path)
    except SecretAgentError as error:
        out.error(error)
        return error.exit_status if isinstance(error, CommandError) else NOT_HAD


def _place(connection: Connection, args: Namespace) -> str:
    if args.socket is not None:
        return str(os.path.abspath(args.socket))  # noqa: PTH100  # a text, to the byte
    folder: str = call_unlocked(connection, args, "workdir", {})["path"]
    return str(Path(folder) / "agent.sock")


def _end(connection: Connection, scope: str, path: str) -> None:
    """End the scope now; the agent ends it anyway when this process is gone."""
    try:
        connection.call("revoke", {"leases": [scope]})
    except SecretAgentError:
        remove_socket(path)  # a scope's own socket has no revoke


def _run(command: list[str], path: str) -> int:
    """Run the command with the scope's socket in its environment; the exit code of CLI.md.

    Raises CommandError where it cannot be run.
    """
    environment = {**os.environ, "SECRET_AGENT_SOCK": path}
    environment.pop("SECRET_AGENT_PID", None)
    program = find_program(command[0], os.environ.get("PATH"))
    with _passing_signals_on() as relay:
        try:
            child = subprocess.Popen(command, executable=program, env=environment)
        except OSError as error:
            raise exec_error(error.errno or 0) from None
        relay.pass_to(child)
        status = child.wait()
    return status if status >= 0 else 128 - status


class _Relay:
    """Signals to us, on to the command; those of before it was there are kept for it."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._early: list[int] = []

    def hear(self, number: int, _frame: object) -> None:
        if number in _OF_THE_TERMINAL:
            return  # they reach the command by themselves
        if self._child is None:
            self._early.append(number)
        else:
            self._child.send_signal(number)

    def pass_to(self, child: "subprocess.Popen[bytes]") -> None:
        self._child = child
        for number in self._early:
            child.send_signal(number)


@contextmanager
def _passing_signals_on() -> Iterator[_Relay]:
    """Handlers for as long as the command runs, and not SIG_IGN: that would stay in the command."""
    relay = _Relay()
    before = {each: signal.signal(each, relay.hear) for each in (*_FORWARDED, *_OF_THE_TERMINAL)}
    try:
        yield relay
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


COMMANDS = {
    "delegate": Command(
        help="a socket that can do less, for a container or a command",
        example="secret-agent delegate --allow 'payments/*' --ttl 10m -- make test",
        configure=_configure,
        run=_delegate,
        takes_command=True,
    ),
}
