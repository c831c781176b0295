"""The verbs of the session: `status`, `unlock`, `lock`, `passwd`; and, for shells' hooks, the
hidden `register` and `unregister`.

Rules that hold here: a passphrase comes from the terminal or a descriptor, never from an argument;
it is kept in a bytearray and wiped; the hidden verbs print nothing and never start an agent.
"""

import os
from argparse import ArgumentParser, Namespace
from typing import Any

from secret_agent_client.cli.command import Command, add_json
from secret_agent_client.cli.output import Output
from secret_agent_client.cli.prompts import (
    may_prompt,
    passphrase_from,
    read_passphrase,
    weakness,
    wipe,
)
from secret_agent_client.cli.session import UNLOCK_S, open_session, unlock_by_prompt, unlock_with
from secret_agent_client.connection import Connection
from secret_agent_client.duration import about_duration, parse_duration
from secret_agent_client.errors import LockedError

KEYRING_S = 60.0  # seconds; the agent gives up on a keyring that hangs before that
HOOK_S = 1.0  # seconds that a shell's hook may wait for us
PERSON_S = 600.0  # seconds that we wait for somebody else's prompt to be answered


def _configure_status(parser: ArgumentParser) -> None:
    add_json(parser)


def _status(args: Namespace, out: Output) -> int:
    with open_session(args) as conn:
        status = conn.call("status")
        pid = conn.server_pid
    if args.json:
        out.json(status)
        return 0
    if pid not in (0, status["pid"]):
        out.warn(f"the kernel says that pid {pid} listens, the agent says {status['pid']}")
    for name, text in _status_lines(status):
        out.line(f"{name + ':':<10} {text}")
    return 0


def _status_lines(status: dict[str, Any]) -> list[tuple[str, str]]:
    lines = [
        ("agent", f"{status['version']}, protocol {status['protocol']}, pid {status['pid']}"),
        ("session", _session_text(status)),
    ]
    if status.get("scope") is not None:
        return [*lines, ("scope", status["scope"])]
    store, audit, policy = status["store"], status["audit"], status["policy"]
    secrets = "locked" if store["secrets"] is None else f"{store['secrets']} secrets"
    leases = status["leases"]
    lines += [
        ("socket", status["socket"]),
        ("uptime", about_duration(status["uptime_s"])),
        ("store", f"{store['path']}, {secrets}"),
        ("leases", f"{leases['active']} active, {leases['pending_revocation']} to be revoked"),
        ("shells", str(status["shells"])),
        ("scopes", str(status["scopes"])),
        ("audit", f"{audit['path']}, {audit['records']} records, {audit.get('state', 'ok')}"),
        ("policy", f"{policy['source']}, {policy['rules']} rules"),
    ]
    lines += [
        (f"provider {each['name']}", " ".join(filter(None, (each["state"], each["detail"]))))
        for each in status["providers"]
    ]
    return lines


def _session_text(status: dict[str, Any]) -> str:
    state = str(status["state"])
    text = "no store yet: secret-agent unlock" if state == "new" else state
    for key, words in (("locks_at", "locks at"), ("idle_locks_at", "if idle, at")):
        if status.get(key):
            text += f", {words} {status[key]}"
    return text


def _configure_unlock(parser: ArgumentParser) -> None:
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--keyring", action="store_true", help="by the key in the OS keyring")
    how.add_argument(
        "--passphrase-fd",
        type=int,
        metavar="N",
        help="by the passphrase that waits at descriptor N",
    )
    parser.add_argument("--lifetime", metavar="D", help="lock again after so long")


def _unlock(args: Namespace, out: Output) -> int:
    more: dict[str, Any] = {}
    if args.lifetime is not None:
        more["lifetime_s"] = parse_duration(args.lifetime, what="--lifetime")
    with open_session(args) as conn:
        if args.keyring:
            body = {"keyring": True, "create": True, **more}
            reply = conn.call("unlock", body, deadline_s=KEYRING_S)
        elif args.passphrase_fd is not None:
            reply = _unlock_with_descriptor(conn, args.passphrase_fd, more, out)
        else:
            reply = _unlock_at_terminal(conn, args, more)
    made = "a new store is made; " if reply.get("created") else ""
    until = f" until {reply['locks_at']}" if reply.get("locks_at") else ""
    out.say(f"{made}unlocked{until}")
    if reply.get("warning"):
        out.warn(reply["warning"])
    return 0


def _unlock_with_descriptor(
    conn: Connection, descriptor: int, more: dict[str, Any], out: Output
) -> dict[str, Any]:
    passphrase = passphrase_from(descriptor)
    hint = weakness(passphrase)
    reply = unlock_with(conn, passphrase, {**more, "create": True})
    if reply["created"] and hint is not None:
        out.warn(f"the passphrase is {hint}")
    return reply


def _unlock_at_terminal(conn: Connection, args: Namespace, more: dict[str, Any]) -> dict[str, Any]:
    state = conn.call("status")["state"]
    if state == "unlocked" and not more:
        return {}
    if not may_prompt(args):
        raise LockedError(
            "the passphrase cannot be asked for: no terminal, CI, or --no-input",
            remedy="secret-agent unlock --passphrase-fd 3 3< FILE",
        )
    if state != "unlocked" and not conn.call("prompt-claim", deadline_s=PERSON_S)["prompt"]:
        return {}
    return unlock_by_prompt(conn, new=state == "new", extra=more)


def _configure_none(_parser: ArgumentParser) -> None:
    """Nothing beyond what every verb has."""


def _lock(args: Namespace, out: Output) -> int:
    with open_session(args) as conn:
        ended = conn.call("lock")["ended"]
    out.say(f"locked; {ended} leases ended")
    return 0


def _configure_passwd(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--passphrase-fd", type=int, metavar="N", help="the present one waits at descriptor N"
    )
    parser.add_argument(
        "--new-passphrase-fd", type=int, metavar="M", help="the new one waits at descriptor M"
    )


def _passwd(args: Namespace, out: Output) -> int:
    with open_session(args) as conn:
        if conn.call("status")["state"] != "unlocked":
            raise LockedError("the session is locked", remedy="secret-agent unlock")
        old = _passphrase(args, args.passphrase_fd, "Present passphrase: ", confirm=False)
        try:
            new = _passphrase(args, args.new_passphrase_fd, "New passphrase: ", confirm=True)
            try:
                body = {"old": bytes(old), "new": bytes(new)}
                conn.call("passwd", body, deadline_s=UNLOCK_S)
            finally:
                wipe(new)
        finally:
            wipe(old)
    out.say(
        "the passphrase is changed; copies of the store made before still open with the old one"
    )
    return 0


def _passphrase(args: Namespace, descriptor: int | None, text: str, *, confirm: bool) -> bytearray:
    if descriptor is not None:
        return passphrase_from(descriptor)
    if not may_prompt(args):
        raise LockedError(
            "the passphrase cannot be asked for: no terminal, CI, or --no-input",
            remedy="secret-agent passwd --passphrase-fd 3 --new-passphrase-fd 4 3< OLD 4< NEW",
        )
    return read_passphrase(text, confirm=confirm)


def _configure_registration(parser: ArgumentParser) -> None:
    parser.add_argument("--pid", type=int, metavar="N", help="the shell; our parent if not said")


def _register(args: Namespace, _out: Output) -> int:
    return _tell_of_shell(args, "register")


def _unregister(args: Namespace, _out: Output) -> int:
    return _tell_of_shell(args, "unregister")


def _tell_of_shell(args: Namespace, verb: str) -> int:
    pid = os.getppid() if args.pid is None else args.pid
    with Connection.connect(deadline_s=HOOK_S) as conn:
        conn.call(verb, {"pid": pid}, deadline_s=HOOK_S)
    return 0


COMMANDS = {
    "status": Command(
        help="what the agent does and holds",
        example="secret-agent status --json",
        configure=_configure_status,
        run=_status,
    ),
    "unlock": Command(
        help="open the session; the first time, make the store",
        example="secret-agent unlock --lifetime 8h",
        configure=_configure_unlock,
        run=_unlock,
    ),
    "lock": Command(
        help="end the session and every lease",
        example="secret-agent lock",
        configure=_configure_none,
        run=_lock,
    ),
    "passwd": Command(
        help="change the passphrase",
        example="secret-agent passwd",
        configure=_configure_passwd,
        run=_passwd,
    ),
    "register": Command(
        help="register a shell, for its start-up hook",
        example="secret-agent register --pid $$",
        configure=_configure_registration,
        run=_register,
    ),
    "unregister": Command(
        help="end the leases of a shell, for its exit hook",
        example="secret-agent unregister --pid $$",
        configure=_configure_registration,
        run=_unregister,
    ),
}
