"""The short path of `get REF` and `status --json`, where most processes of ours begin and end.

Rules that hold here:

* it imports what tests/rules/test_rules_client_imports.py lists and nothing else: `socket`, `re`,
  `argparse`, `json`, `enum` and `dataclasses` each cost more than all of the work;
* it does the plain case alone: one reference, an agent of our own uid, an open session.  Everything
  else is left to the whole command line, before anything was printed;
* what connection.py promises holds here too: the listener's uid is asked of the kernel before a
  byte is sent, and everything has a deadline;
* an answer that is an error is handed on and not asked for again, so that it stands once in the
  audit log.

The agent looks at us as soon as we have dialled, which takes it about a millisecond; hello goes out
at once, and what the rest needs is imported meanwhile.
"""

import os
import sys
import time
from _socket import AF_UNIX, SOCK_STREAM, SOL_SOCKET, socket

from secret_agent_client.errors import InternalError, LockedError, SecretAgentError
from secret_agent_client.paths import find_socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

DIAL_S = 5.0  # seconds to be let in; connection.py's
ANSWER_S = 30.0  # seconds for the answer; connection.py's
CHUNK = 64 * 1024  # bytes read at a time
PIPE_CLOSED = 141  # 128 + SIGPIPE, as for any program in a pipe
SO_PEERCRED = 17  # socket(7), Linux: struct ucred {pid, uid, gid}, 32 bits each
CLIENT = "secret-agent"

# What Exchange(client=CLIENT).hello() makes (a test compares), before it is imported.
HELLO = bytes.fromhex(
    "0000005683a2696400a476657262a568656c6c6fa4626f647983a776657273696f6e01a86665617475726573"
    "93a57061727473a66576656e7473ab64657363726970746f7273a6636c69656e74ac7365637265742d616765"
    "6e74"
)


def run() -> "NoReturn":
    """Run the command line of this process and end it."""
    argv, ended = sys.argv[1:], None
    if len(argv) == 2 and sys.platform == "linux":
        if argv[0] == "get" and argv[1][:1] not in ("", "-"):
            ended = _short(_value, argv[1])
        elif argv == ["status", "--json"]:
            ended = _short(_status, "")
    from secret_agent_client.cli.main import run_main

    run_main(argv, ended)


def _short(work: "Callable[[socket, str], bytes]", text: str) -> SecretAgentError | None:
    """Print what the work returns and end the process; or return, having printed nothing.

    What is returned is the error that it ended with, or None where the long way is to be gone.
    """
    try:
        sock = _dial()
    except (SecretAgentError, OSError, Unusual):
        return None  # the long way finds it too, after it has looked at the reference
    try:
        output = work(sock, text)
    except (LockedError, OSError, Unusual):
        return None
    except SecretAgentError as error:
        return error
    return _print_and_end(output)


class Unusual(Exception):  # noqa: N818  # no error: it is left to the long way
    """Something that this path does not know how to do."""


def _dial() -> socket:
    path, _ = find_socket(os.environ)
    sock = socket(AF_UNIX, SOCK_STREAM)
    sock.settimeout(DIAL_S)
    sock.connect(path)
    raw = sock.getsockopt(SOL_SOCKET, SO_PEERCRED, 12)
    if int.from_bytes(raw[4:8], sys.byteorder) != os.geteuid() or sock.fileno() <= 2:
        raise Unusual  # a descriptor of 2 or less: stdout is closed, and the value must not go here
    return sock


def _value(sock: socket, text: str) -> bytes:
    """The value of a reference; with a newline for a terminal."""
    sock.sendall(HELLO)
    from secret_agent_client.references import parse_reference

    reference = parse_reference(text)
    body = {"name": reference.name, "binding": "shell", "channel": "stdout"}
    for key in ("field", "version", "stage"):
        if (known := getattr(reference, key)) is not None:
            body[key] = known
    fields: dict[str, bytes] = _ask(sock, "get", body)["fields"]
    (value,) = fields.values()
    return value + b"\n" if os.isatty(1) else value


def _status(sock: socket, _text: str) -> bytes:
    """The status as a JSON document."""
    sock.sendall(HELLO)
    from secret_agent_client.fast_status import document

    return (document(_ask(sock, "status", {})) + "\n").encode()


def _ask(sock: socket, verb: str, body: "dict[str, Any]") -> "dict[str, Any]":
    """The `ok` map.  Raises the error that the agent answers with."""
    from secret_agent_client.exchange import Exchange

    exchange = Exchange(client=CLIENT)
    exchange.hello()
    request_id, data = exchange.request(verb, body)
    sock.sendall(data)
    until = time.monotonic() + ANSWER_S
    while (answer := exchange.take(request_id)) is None:
        sock.settimeout(max(0.001, until - time.monotonic()))
        exchange.feed(_received(sock))
    if isinstance(answer, SecretAgentError):
        raise answer
    return answer


def _received(sock: socket) -> bytes:
    try:
        data = sock.recv(CHUNK)
    except TimeoutError:
        from secret_agent_client.dial import server_credentials, too_late

        raise too_late(server_credentials(sock)[0], "answer", ANSWER_S) from None
    if not data:
        raise Unusual
    return data


def _print_and_end(output: bytes) -> SecretAgentError:
    """Write the value and end without Python's own end, which takes as long as all of this."""
    view = memoryview(output)
    try:
        while view:
            view = view[os.write(1, view) :]
    except BrokenPipeError:
        os._exit(PIPE_CLOSED)
    except OSError as error:
        why = os.strerror(error.errno or 0).lower()
        return InternalError(f"stdout cannot be written: {why}")
    os._exit(0)
