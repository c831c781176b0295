"""`ls`, `describe`, `history`, `rm` and `restore`: what is kept, without its values.

Nothing here ever asks the agent for a value.
"""

from argparse import ArgumentParser, Namespace
from datetime import UTC, datetime
from typing import Any

from secret_agent_client.cli.command import Command
from secret_agent_client.cli.output import Output
from secret_agent_client.cli.prompts import confirm
from secret_agent_client.cli.session import call_unlocked, open_session
from secret_agent_client.cli.write import short
from secret_agent_client.duration import about_duration
from secret_agent_client.errors import UsageError
from secret_agent_client.private_file import quoted
from secret_agent_client.references import Reference, check_glob, check_stage, parse_reference

Body = dict[str, Any]


def _configure_ls(parser: ArgumentParser) -> None:
    parser.add_argument(
        "glob", metavar="GLOB", nargs="?", help="such as 'payments/*'; ** goes over slashes"
    )
    parser.add_argument("--stage", metavar="S", help="of this stage alone")
    parser.add_argument("--json", action="store_true", help="a list, with all that is known")


def _ls(args: Namespace, out: Output) -> int:
    body: Body = {}
    if args.glob is not None:
        body["glob"] = check_glob(args.glob)
    if args.stage is not None:
        body["stage"] = check_stage(args.stage)
    with open_session(args) as connection:
        secrets = call_unlocked(connection, args, "ls", body)["secrets"]
    if args.json:
        out.json(secrets)
    elif secrets:
        headers = ("NAME", "STAGE", "TYPE", "VERSION", "CHANGED", "USED", "ROTATE")
        out.table(headers, [_row(each) for each in secrets])
    else:
        out.hint("no secrets" if args.glob is None else "no secrets of that name")
    return 0


def _row(secret: Body) -> tuple[str, ...]:
    return (
        secret["name"],
        secret["stage"] or "-",
        secret["type"],
        str(secret["version"]),
        ago(secret["updated_at"]),
        ago(secret["last_used"]),
        due(secret["rotate_due"]),
    )


def _configure_one(parser: ArgumentParser) -> None:
    parser.add_argument("ref", metavar="REF", help="the secret's name or reference")
    parser.add_argument("--stage", metavar="S", help="of this stage")
    parser.add_argument("--json", action="store_true", help="as JSON")


def _describe(args: Namespace, out: Output) -> int:
    target = _target(args)
    with open_session(args) as connection:
        known = call_unlocked(connection, args, "describe", body_of(target))
    if args.json:
        out.json(known)
        return 0
    fields = [f"{name} (primary)" if name == known["primary"] else name for name in known["fields"]]
    who = f"you, by rule {known['rule']}" if known["readable"] else "not you"
    facts = (
        ("name", known["name"]),
        ("stages", ", ".join(stage or "-" for stage in known["stages"])),
        ("type", known["type"]),
        ("fields", ", ".join(fields)),
        ("version", f"{known['version']} of {known['versions']}"),
        ("created", when(known["created_at"])),
        ("changed", when(known["updated_at"])),
        ("last used", when(known["last_used"])),
        ("rotation", due(known["rotate_due"])),
        ("expires", due(known["expires_at"])),
        ("note", known["note"] or "-"),
        ("may read", who),
    )
    for label, text in facts:
        out.line(f"{label + ':':<11}{text}")
    return 0


def _history(args: Namespace, out: Output) -> int:
    with open_session(args) as connection:
        versions = call_unlocked(connection, args, "history", body_of(_target(args)))["versions"]
    if args.json:
        out.json(versions)
        return 0
    rows = [
        (
            str(each["version"]),
            when(each["created_at"]),
            each["by"],
            "removed" if each["deleted"] else "kept",
            ", ".join(each["fields"]),
            each["note"] or "-",
        )
        for each in versions
    ]
    out.table(("VERSION", "WRITTEN", "BY", "STATE", "FIELDS", "NOTE"), rows)
    return 0


def _configure_rm(parser: ArgumentParser) -> None:
    _configure_one(parser)
    parser.add_argument("--version", metavar="N", type=int, help="this version alone")
    parser.add_argument(
        "--purge", action="store_true", help="destroy it: without this, restore brings it back"
    )
    parser.add_argument("--yes", action="store_true", help="purge without asking")


def _rm(args: Namespace, out: Output) -> int:
    target = _target(args)
    what = f"version {target.version} of {target.name}" if target.version else target.name
    if args.purge and not args.yes:
        confirm(
            args,
            f"destroy {what} for good?",
            remedy=f"secret-agent rm {quoted(short(target))} --purge --yes",
        )
    body = body_of(target) | ({"purge": True} if args.purge else {})
    with open_session(args) as connection:
        reply = call_unlocked(connection, args, "rm", body)
    if args.json:
        out.json(reply)
        return 0
    versions = ", ".join(map(str, reply["removed"]))
    done = "destroyed" if reply["purged"] else "removed"
    out.say(f"{target.name}: version {versions} {done}")
    if reply["removed"] and not reply["purged"]:
        newest = max(reply["removed"])
        out.hint(f"to bring it back: secret-agent restore {target.name} --version {newest}")
    return 0


def _configure_restore(parser: ArgumentParser) -> None:
    _configure_one(parser)
    parser.add_argument("--version", metavar="N", type=int, help="the version to bring back")


def _restore(args: Namespace, out: Output) -> int:
    target = _target(args)
    if target.version is None:
        raise UsageError(
            "restore needs the version to bring back",
            remedy=f"secret-agent history {target.name}",
        )
    with open_session(args) as connection:
        reply = call_unlocked(connection, args, "restore", body_of(target))
    if args.json:
        out.json(reply)
    else:
        out.say(f"{target.name}: version {target.version} is back as version {reply['version']}")
    return 0


def _target(args: Namespace) -> Reference:
    """The secret, its stage and, where the command has one, its version."""
    reference = parse_reference(args.ref)
    if reference.field is not None:
        raise UsageError("this command is about a whole secret, not about one of its fields")
    stage = args.stage if args.stage is None else check_stage(args.stage)
    if not hasattr(args, "version") and reference.version is not None:
        raise UsageError("this command is about all versions: the reference cannot name one")
    version: int | None = getattr(args, "version", None)
    if version is not None and version < 1:
        raise UsageError("versions count from 1")
    for given, own, option in (
        (stage, reference.stage, "--stage"),
        (version, reference.version, "--version"),
    ):
        if None not in (given, own) and given != own:
            raise UsageError(f"{option} and the reference do not agree")
    return Reference(
        reference.name, stage=stage or reference.stage, version=version or reference.version
    )


def body_of(target: Reference) -> Body:
    """The body of a request about that secret."""
    body = {"name": target.name, "stage": target.stage, "version": target.version}
    return {key: value for key, value in body.items() if value is not None}


def ago(time: str | None) -> str:
    """A time in the past, in words: `3h ago`."""
    return "-" if time is None else f"{about_duration(-_from_now(time))} ago"


def due(time: str | None) -> str:
    """A time that is to come, or is over."""
    if time is None:
        return "-"
    left = _from_now(time)
    return f"in {about_duration(left)}" if left > 0 else "overdue"


def when(time: str | None) -> str:
    """A time in full and in words."""
    return "-" if time is None else f"{time} ({ago(time)})"


def _from_now(time: str) -> float:
    return (datetime.fromisoformat(time) - datetime.now(UTC)).total_seconds()


COMMANDS = {
    "ls": Command(
        help="the secrets that you may know of, without values",
        example="secret-agent ls 'payments/*'",
        configure=_configure_ls,
        run=_ls,
    ),
    "describe": Command(
        help="what is known of one secret, without values",
        example="secret-agent describe payments/db",
        configure=_configure_one,
        run=_describe,
    ),
    "history": Command(
        help="the versions of a secret",
        example="secret-agent history payments/db",
        configure=_configure_one,
        run=_history,
    ),
    "rm": Command(
        help="remove a secret, or one version of it",
        example="secret-agent rm payments/db --version 3",
        configure=_configure_rm,
        run=_rm,
    ),
    "restore": Command(
        help="bring back an older or removed version as the newest",
        example="secret-agent restore payments/db --version 2",
        configure=_configure_restore,
        run=_restore,
    ),
}
