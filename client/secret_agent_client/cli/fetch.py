"""`get` in its full form, and `env`.

stdout carries the value, byte for byte, and nothing else.  The short path of `get` without options
is cli/fast.py; what both say must be the same.
"""

import os
from argparse import ArgumentParser, Namespace
from datetime import datetime
from typing import Any

from secret_agent_client.cli.command import Command
from secret_agent_client.cli.output import Output
from secret_agent_client.cli.resolve import Resolved, Terms, get_body, resolve
from secret_agent_client.cli.session import call_unlocked, open_session
from secret_agent_client.cli.shell_words import SHELLS, assignment
from secret_agent_client.duration import parse_duration
from secret_agent_client.environment import check_name as check_variable
from secret_agent_client.errors import InvalidError, NotFoundError, UsageError
from secret_agent_client.manifest import Entry, load_manifest
from secret_agent_client.references import check_stage, parse_reference
from secret_agent_client.value import SecretValue


def _configure_get(parser: ArgumentParser) -> None:
    parser.add_argument("ref", metavar="REF", help="NAME[#FIELD][?version=N][&stage=S]")
    parser.add_argument("--ttl", metavar="D", help="how long the lease lasts: 90s, 15m, 8h, 2d")
    parser.add_argument("--reason", metavar="TEXT", help="why; policy may want it, audit keeps it")
    parser.add_argument("--json", action="store_true", help="value, version and lease as JSON")
    parser.add_argument(
        "--copy", action="store_true", help="to the clipboard, cleared when the lease ends"
    )


def _get(args: Namespace, out: Output) -> int:
    reference = parse_reference(args.ref)
    ttl_s = None if args.ttl is None else parse_duration(args.ttl, what="--ttl")
    terms = Terms("stdout", ttl_s=ttl_s, reason=args.reason)
    if args.copy:
        from secret_agent_client.cli.clipboard import copy

        if args.json:
            raise UsageError("--copy and --json do not go together")
        return copy(args, out, reference, terms)
    body = get_body(reference, terms)
    if args.json and reference.field is None:
        body["all"] = True
    with open_session(args) as connection:
        reply = call_unlocked(connection, args, "get", body)
    if args.json:
        out.json(_shown(reply))
    else:
        (value,) = reply["fields"].values()
        out.value(value)
    return 0


def _shown(reply: dict[str, Any]) -> dict[str, Any]:
    lease = reply["lease"]
    return {
        "reference": reply["reference"],
        "version": reply["version"],
        "type": reply["type"],
        "fields": reply["fields"],
        "lease": {key: lease[key] for key in ("id", "expires_at", "renewable")},
    }


def _configure_env(parser: ArgumentParser) -> None:
    parser.add_argument("--stage", metavar="S", help="with what [stage.S.env] says")
    parser.add_argument("--shell", choices=SHELLS, help="as assignments for that shell to eval")
    parser.add_argument("--reveal", action="store_true", help="values instead of references")
    parser.add_argument("--json", action="store_true", help="a list of names and references")


def _env(args: Namespace, out: Output) -> int:
    if args.stage is not None:
        check_stage(args.stage)
    if args.json and args.shell:
        raise UsageError("--json and --shell do not go together")
    manifest = load_manifest(os.getcwd())  # noqa: PTH109  # a path as it stands, for resolve() later
    if manifest is None:
        raise NotFoundError(
            "no secrets.toml here or above", remedy="secret-agent import .env --write-manifest"
        )
    entries = manifest.entries(args.stage)
    for name in entries:
        check_variable(name, "secrets.toml")
    if args.shell:
        entries = {name: entry for name, entry in entries.items() if entry.when != "run"}
    resolved = _revealed(args, entries) if args.reveal else None
    if args.json:
        out.json([_entry_shown(name, entry, resolved) for name, entry in entries.items()])
    else:
        _print_assignments(args, out, entries, resolved)
    return 0


def _revealed(args: Namespace, entries: dict[str, Entry]) -> Resolved:
    terms = Terms("env", stage=args.stage)
    optional = [entry.ref for entry in entries.values() if not entry.required]
    needed = {entry.ref for entry in entries.values() if entry.required}
    with open_session(args) as connection:
        return resolve(
            connection,
            args,
            [entry.ref for entry in entries.values()],
            terms,
            optional=[reference for reference in optional if reference not in needed],
        )


def _entry_shown(name: str, entry: Entry, resolved: Resolved | None) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "name": name,
        "ref": str(entry.ref),
        "when": entry.when,
        "required": entry.required,
        "about": entry.about,
    }
    if resolved is not None:
        value = resolved.values.get(entry.ref)
        shown["value"] = None if value is None else value.reveal()
    return shown


def _print_assignments(
    args: Namespace, out: Output, entries: dict[str, Entry], resolved: Resolved | None
) -> None:
    """Names with references or values, `NAME=…` a line or as the shell wants them."""
    pairs = []
    for name, entry in entries.items():
        if resolved is None:
            pairs.append((name, SecretValue(str(entry.ref).encode())))
        elif entry.ref in resolved.values:
            pairs.append((name, resolved.values[entry.ref]))
    if not args.shell:
        lines = [_dotenv(name, value.reveal()) for name, value in pairs]
    else:
        lines = [assignment(args.shell, name, value.reveal()) for name, value in pairs]
        if resolved is not None and pairs:
            lines += _what_was_taken(args.shell, [name for name, _ in pairs], resolved)
    out.raw(b"".join(line + b"\n" for line in lines))


def _what_was_taken(shell: str, names: list[str], resolved: Resolved) -> list[bytes]:
    """For the shell's hook: when the first lease ends, their ids, and the names to be unset."""
    ends = min(_unix(lease["expires_at"]) for lease in resolved.leases)
    ids = dict.fromkeys(lease["id"] for lease in resolved.leases)
    return [
        assignment(shell, "SECRET_AGENT_LEASES", " ".join((str(ends), *ids)).encode()),
        assignment(shell, "SECRET_AGENT_VALUES", " ".join(names).encode()),
    ]


def _unix(time: str) -> int:
    return int(datetime.fromisoformat(time).timestamp())


def _dotenv(name: str, value: bytes) -> bytes:
    """A line that a `.env` reader takes as exactly this: bare where it can be, quoted otherwise."""
    plain = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:?&=@%+,#~"
    if b"\0" in value:
        raise InvalidError(f"the value for {name} has a NUL, which no environment can hold")
    if value and all(byte in plain for byte in value) and not value.startswith(b"#"):
        return name.encode() + b"=" + value
    for mark, escape in ((b"\\", b"\\\\"), (b'"', b'\\"'), (b"$", b"\\$"), (b"\n", b"\\n")):
        value = value.replace(mark, escape)
    return name.encode() + b'="' + value.replace(b"\r", b"\\r") + b'"'


COMMANDS = {
    "get": Command(
        help="print a value, under a lease",
        example="secret-agent get payments/db#password",
        configure=_configure_get,
        run=_get,
    ),
    "env": Command(
        help="the names and references of secrets.toml",
        example="secret-agent env --stage test",
        configure=_configure_env,
        run=_env,
    ),
}
