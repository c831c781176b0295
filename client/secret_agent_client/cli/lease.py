"""`leases`, `who`, `renew`, `revoke`, `scopes`: what is out, with whom, until when; and its end."""

from argparse import ArgumentParser, Namespace
from datetime import UTC, datetime
from typing import Any

from secret_agent_client.cli.command import Command
from secret_agent_client.cli.output import Output
from secret_agent_client.cli.session import call_unlocked, open_session
from secret_agent_client.duration import about_duration, parse_duration
from secret_agent_client.errors import UsageError
from secret_agent_client.references import check_glob, parse_reference

Body = dict[str, Any]


def _configure_list(parser: ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="a list, with all that is known")


def _leases(args: Namespace, out: Output) -> int:
    with open_session(args) as connection:
        leases = connection.call("leases")["leases"]
    if args.json:
        out.json(leases)
    elif leases:
        headers = ("ID", "SECRET", "FIELDS", "HOLDER", "CHANNEL", "ENDS WITH", "LEFT", "USES")
        out.table(headers, [_lease_row(each) for each in leases])
    else:
        out.hint("no leases")
    return 0


def _lease_row(lease: Body) -> tuple[str, ...]:
    holder = lease["holder"]
    return (
        lease["id"],
        staged(lease["secret"], lease["stage"]),
        ", ".join(lease["fields"]),
        process(holder["pid"], holder["exe"], lease.get("scope"), holder["container"]),
        lease["channel"],
        lease["binding"],
        left(lease["expires_at"]),
        "-" if lease["uses_left"] is None else str(lease["uses_left"]),
    )


def _configure_who(parser: ArgumentParser) -> None:
    parser.add_argument("ref", metavar="REF", nargs="?", help="only of this secret")
    parser.add_argument("--json", action="store_true", help="a list, with all that is known")


def _who(args: Namespace, out: Output) -> int:
    body = {} if args.ref is None else {"name": parse_reference(args.ref).name}
    with open_session(args) as connection:
        holders = connection.call("who", body)["holders"]
    if args.json:
        out.json(holders)
    elif holders:
        rows = [
            (
                process(each["pid"], each["exe"], each["scope"], each["container"]),
                staged(each["secret"], each["stage"]),
                ", ".join(each["fields"]),
                each["channel"],
                each["since"],
                left(each["until"]),
            )
            for each in holders
        ]
        out.table(("PROCESS", "SECRET", "FIELDS", "CHANNEL", "SINCE", "LEFT"), rows)
    else:
        out.hint("no living process holds anything")
    return 0


def _configure_renew(parser: ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", help="the lease, as `leases` shows it")
    parser.add_argument("--ttl", metavar="D", help="how long from now, up to the rule's maximum")
    parser.add_argument("--json", action="store_true", help="as JSON")


def _renew(args: Namespace, out: Output) -> int:
    body: Body = {"lease": args.id}
    if args.ttl is not None:
        body["ttl_s"] = parse_duration(args.ttl, what="--ttl")
    with open_session(args) as connection:
        reply = call_unlocked(connection, args, "renew", body)
    if args.json:
        out.json(reply)
        return 0
    out.say(f"{reply['id']} ends in {about_duration(reply['ttl_s'])}, at {reply['expires_at']}")
    if reply["ttl_s"] < body.get("ttl_s", 0):
        out.hint("that is the most that its rule allows")
    return 0


def _configure_revoke(parser: ArgumentParser) -> None:
    parser.add_argument("ids", metavar="ID", nargs="*", help="leases and scopes")
    parser.add_argument("--secret", metavar="GLOB", help="every lease of these secrets")
    parser.add_argument("--holder", metavar="PID", type=int, help="every lease of this process")
    parser.add_argument("--all", action="store_true", help="every lease and every scope")
    parser.add_argument("--json", action="store_true", help="what ended, as JSON")


def _revoke(args: Namespace, out: Output) -> int:
    body: Body = {}
    if args.ids:
        body["leases"] = args.ids
    if args.secret is not None:
        body["secret"] = check_glob(args.secret)
    if args.holder is not None:
        if args.holder < 1:
            raise UsageError("--holder is the pid of a process")
        body["holder"] = args.holder
    if args.all:
        body["all"] = True
    if not body:
        raise UsageError(
            "revoke needs ids, --secret, --holder or --all", remedy="secret-agent leases"
        )
    with open_session(args) as connection:
        reply = connection.call("revoke", body)
    if args.json:
        out.json(reply)
        return 0
    ended = [counted(len(reply["ended"]), "lease"), counted(len(reply["scopes"]), "scope")]
    out.say(
        f"ended here: {' and '.join(ended)}; upstream: {len(reply['upstream'])}; "
        f"still to be revoked upstream: {len(reply['queued'])}"
    )
    return 0


def _scopes(args: Namespace, out: Output) -> int:
    with open_session(args) as connection:
        scopes = connection.call("scopes")["scopes"]
    if args.json:
        out.json(scopes)
    elif scopes:
        headers = ("ID", "ALLOWS", "DENIES", "STAGE", "SOCKET", "LEFT", "USES", "ENDS WITH")
        out.table(headers, [_scope_row(each) for each in scopes])
    else:
        out.hint("no scopes")
    return 0


def _scope_row(scope: Body) -> tuple[str, ...]:
    return (
        scope["id"],
        " ".join(scope["allow"]),
        " ".join(scope["deny"]) or "-",
        scope["stage"] or "-",
        scope["socket"],
        left(scope["expires_at"]),
        "-" if scope["uses_left"] is None else str(scope["uses_left"]),
        f"pid {scope['bound']['pid']}" if scope["bound"] else "time",
    )


def staged(secret: str, stage: str | None) -> str:
    """A secret's name with its stage, as a reference has it."""
    return secret if stage is None else f"{secret}?stage={stage}"


def process(pid: int, exe: str, scope: str | None, container: str | None) -> str:
    """A process in a few words: program, pid, and where it is."""
    program = exe.rpartition("/")[2] or "?"
    places = [f"in {container[:12]}"] if container else []
    places += [f"by {scope}"] if scope else []
    return " ".join((f"{program}[{pid}]", *places))


def left(time: str) -> str:
    """What is left until a time."""
    return about_duration((datetime.fromisoformat(time) - datetime.now(UTC)).total_seconds())


def counted(count: int, thing: str) -> str:
    """`1 lease`, `2 leases`."""
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


COMMANDS = {
    "leases": Command(
        help="what is out, with whom, until when",
        example="secret-agent leases",
        configure=_configure_list,
        run=_leases,
    ),
    "who": Command(
        help="which living processes hold what",
        example="secret-agent who payments/db",
        configure=_configure_who,
        run=_who,
    ),
    "renew": Command(
        help="prolong a lease, up to the rule's maximum",
        example="secret-agent renew l-4f1c… --ttl 30m",
        configure=_configure_renew,
        run=_renew,
    ),
    "revoke": Command(
        help="end leases and scopes now",
        example="secret-agent revoke --secret 'payments/*'",
        configure=_configure_revoke,
        run=_revoke,
    ),
    "scopes": Command(
        help="the sockets made by delegate",
        example="secret-agent scopes",
        configure=_configure_list,
        run=_scopes,
    ),
}
