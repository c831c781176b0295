"""`get --copy`: a value to the clipboard, and away again when its lease ends.

A detached process asks for the value itself, so that the lease is bound to it: it is told of the
lease's end, and `who` shows it.  Once it has put the value there it replaces itself by exec with
`wait`, whose memory has never held the value: it knows a salted digest, by which it sees whether
the clipboard still is what it put there and not something that the person copied since.
"""

import json
import os
import secrets
import signal
import sys
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from secret_agent_client.cli.clipboard_tools import (
    BY_NAME,
    TERMINAL,
    Clipboard,
    clear,
    find_clipboard,
    look,
    put,
)
from secret_agent_client.cli.output import Output
from secret_agent_client.cli.resolve import Terms, get_body
from secret_agent_client.cli.session import call_unlocked, open_session
from secret_agent_client.connection import Connection
from secret_agent_client.duration import format_duration
from secret_agent_client.errors import SecretAgentError
from secret_agent_client.references import Reference

DEFAULT_TTL_S = 60  # seconds; long enough to paste, short enough to be forgotten
MAX_PLAN = 4096  # bytes of what the waiting process is told; a pipe holds 64 KiB
_OVER = frozenset({"session-locked", "agent-stopping"})
_ENTRY = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from secret_agent_client.cli.clipboard import wait; wait()"
)


def copy(args: Namespace, out: Output, reference: Reference, terms: Terms) -> int:
    """Put the value on the clipboard; its exit status, once it is there."""
    heard, said = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(heard)
        status = 1
        try:
            status = _put_and_become_waiter(args, out, reference, terms, said)
        finally:
            os._exit(status)  # never back into the caller, whose process this is not
    os.close(said)
    with os.fdopen(heard, "rb") as news:
        left = news.read()
    if left:
        out.say(f"copied; the clipboard is cleared in {format_duration(int(left))}")
        return 0
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status) or 1


def _put_and_become_waiter(
    args: Namespace, out: Output, reference: Reference, terms: Terms, said: int
) -> int:
    """In the child: never returns if all is well; the exit status of what went wrong otherwise."""
    try:
        with _terminal() as terminal:
            clipboard = find_clipboard(os.environ, has_terminal=terminal is not None)
            plan = _put(args, reference, terms, clipboard, terminal)
            os.write(said, str(plan.pop("ttl_s")).encode())
            _become_waiter(plan, terminal if clipboard is TERMINAL else None)
    except SecretAgentError as error:
        out.error(error)
        return error.exit_status
    return 1


@contextmanager
def _terminal() -> Iterator[int | None]:
    try:
        descriptor = os.open("/dev/tty", os.O_WRONLY | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _put(
    args: Namespace,
    reference: Reference,
    terms: Terms,
    clipboard: Clipboard,
    terminal: int | None,
) -> dict[str, Any]:
    """Fetch the value and put it there; what the waiting process must know."""
    terms = Terms(
        "clipboard", ttl_s=terms.ttl_s or DEFAULT_TTL_S, reason=terms.reason, binding="process"
    )
    with open_session(args) as connection:
        reply = call_unlocked(connection, args, "get", get_body(reference, terms))
    (value,) = reply["fields"].values()
    put(clipboard, value, terminal)
    salt = secrets.token_bytes(16)
    return {
        "ttl_s": reply["lease"]["ttl_s"],
        "lease": reply["lease"]["id"],
        "until": datetime.fromisoformat(reply["lease"]["expires_at"]).timestamp(),
        "clipboard": clipboard.name,
        "salt": salt.hex(),
        "digest": sha256(salt + value).hexdigest(),
    }


def _become_waiter(plan: dict[str, Any], terminal: int | None) -> None:
    """Replace this process, pid and lease kept.  The plan goes by a pipe: a digest in an argument
    would let other users try short values against it.
    """
    os.setsid()
    told, tell = os.pipe()
    os.write(tell, json.dumps(plan).encode())
    os.dup2(told, 0)
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere if terminal is None else terminal, 1)
    os.dup2(nowhere, 2)
    root = str(Path(__file__).parents[2])  # a folder, or the one-file client itself
    argv = [sys.executable, "-I", "-c", _ENTRY, root]
    os.execv(sys.executable, argv)  # noqa: S606  # the pid is what the lease is bound to


def wait() -> None:
    """The waiting process: until the lease is over, then clear what is still ours."""
    plan = json.loads(os.read(0, MAX_PLAN))
    clipboard = BY_NAME[plan["clipboard"]]
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit())
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the terminal's end is not the lease's
    try:
        # Whatever is wrong with the agent, the value does not stay.
        with suppress(SecretAgentError, OSError):
            _wait_for_end(plan["lease"], plan["until"])
    finally:
        _clear_ours(clipboard, bytes.fromhex(plan["salt"]), plan["digest"])


def _wait_for_end(lease: str, until: float) -> None:
    with Connection.connect() as connection:
        connection.call("events")
        # It may have ended between the exec and the subscription.
        if all(each["id"] != lease for each in connection.call("leases")["leases"]):
            return
        while (left := until - time.time()) > 0:
            event = connection.next_event(left)
            if event is None:
                continue
            if event["event"] in _OVER or event["body"].get("lease") == lease:
                return


def _clear_ours(clipboard: Clipboard, salt: bytes, digest: str) -> None:
    if clipboard.look is not None:
        found = look(clipboard)
        if found is not None and sha256(salt + found).hexdigest() != digest:
            return  # the person has copied something else since
    with suppress(SecretAgentError):
        clear(clipboard, 1)
