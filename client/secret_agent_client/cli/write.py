"""`set`: a new version of a secret, from stdin, a hidden prompt or a generator.

No value of a secret is ever taken from an argument: every process of the machine can read those.
FIELD=VALUE is for fields that their type marks as not sensitive, and for no others; the error of
one that was tried anyway says how it is done, and never what was typed.
"""

import json
import sys
from argparse import ArgumentParser, Namespace
from typing import Any

from secret_agent_client.cli.command import Command
from secret_agent_client.cli.output import Output
from secret_agent_client.cli.prompts import may_prompt, read_passphrase
from secret_agent_client.cli.session import call_unlocked, ensure_unlocked, open_session
from secret_agent_client.connection import Connection
from secret_agent_client.errors import InvalidError, LockedError, NotFoundError, UsageError
from secret_agent_client.importers_json import load_json, scalar
from secret_agent_client.messages import MAX_VALUE
from secret_agent_client.references import (
    SCHEME,
    Reference,
    check_field,
    check_stage,
    parse_reference,
)
from secret_agent_client.type_fields import (
    DEFAULT_TYPE,
    is_plain_field,
    primary_field,
    type_with_plain,
)

MAX_JSON = 4 * 1024 * 1024  # bytes; two thirds of it hold the largest secret in base64


def _configure_set(parser: ArgumentParser) -> None:
    parser.add_argument("words", metavar="REF [FIELD=VALUE]", nargs="*", help="what to write")
    parser.add_argument("--type", metavar="T", help="the secret's type, such as login")
    parser.add_argument("--stdin", action="store_true", help="the value is all of stdin, as it is")
    parser.add_argument(
        "--field", metavar="F", action="append", default=[], help="ask for this field, hidden"
    )
    parser.add_argument(
        "--json-stdin", action="store_true", help='all fields, as {"FIELD": "value"} on stdin'
    )
    parser.add_argument(
        "--generate", metavar="SPEC", nargs="?", const="", help="make a value, as alnum:32 does"
    )
    parser.add_argument("--stage", metavar="S", help="the stage that this version is for")
    parser.add_argument("--note", metavar="TEXT", help="a note, kept with the version, not secret")
    parser.add_argument("--json", action="store_true", help="what was written, as JSON")
    # A FIELD=VALUE may stand among the options, and a value that somebody typed there must get the
    # explanation of why that is not taken.
    parser.parse_args = parser.parse_intermixed_args  # type: ignore[method-assign]  # see above


def _set(args: Namespace, out: Output) -> int:
    words = _words(args)
    reference = _target(words[0], args)
    plain = [_plain_pair(word, reference) for word in words[1:]]
    with open_session(args) as connection:
        # Opened before anything is asked, so that nobody types a value into a locked session.
        kind, primary = _known(connection, args, reference)
        for field, _ in plain:
            _refuse_sensitive(kind, field, reference)
        body = _body(args, reference, kind)
        fields = _fields(args, out, reference, primary)
        fields |= {field: value.encode() for field, value in plain}
        if args.generate is not None:
            body |= {"generate": args.generate, "generate_field": reference.field or primary}
        elif not (plain or args.stdin or args.json_stdin or args.field):
            fields[reference.field or primary] = _asked(args, reference, reference.field or primary)
        if fields:
            body["fields"] = fields
        reply = call_unlocked(connection, args, "set", body)
    if args.json:
        out.json(reply)
    else:
        made = f", {', '.join(reply['generated'])} generated" if reply["generated"] else ""
        out.say(f"{reply['name']}: version {reply['version']} written{made}")
    return 0


def call_creating(
    connection: Connection, args: Namespace, verb: str, body: dict[str, Any]
) -> dict[str, Any]:
    """Call what comes before a write: where there is no store yet, it is made, as `set` does."""
    try:
        return connection.call(verb, body)
    except LockedError as locked:
        ensure_unlocked(connection, args, locked, create=True)
    return connection.call(verb, body)


def _words(args: Namespace) -> list[str]:
    """REF and what follows; `--generate REF` takes the reference for its SPEC, which is mended."""
    words: list[str] = args.words
    if args.generate and (not words or "=" in words[0].partition("?")[0]):
        words, args.generate = [args.generate, *words], ""
    if not words:
        raise UsageError("set needs a name", remedy="secret-agent set payments/db --stdin")
    if args.stdin and (args.json_stdin or args.generate is not None):
        raise UsageError("of --stdin, --json-stdin and --generate one can give the value")
    return words


def _target(text: str, args: Namespace) -> Reference:
    reference = parse_reference(text)
    if reference.version is not None:
        raise UsageError("set makes a new version: the reference cannot name one")
    if args.stage is not None:
        check_stage(args.stage)
    if None not in (args.stage, reference.stage) and args.stage != reference.stage:
        raise UsageError("--stage and the reference name two stages")
    field = reference.field
    if args.stdin and args.field:
        field = _field_of_stdin(args.field, field)
        args.field = []
    return Reference(reference.name, field=field, stage=args.stage or reference.stage)


def _field_of_stdin(named: list[str], field: str | None) -> str:
    """`--field F --stdin` means F: nobody who pipes a value wants to be asked for it."""
    if len(named) > 1 or field not in (None, named[0]):
        raise UsageError(
            "stdin gives one field, and several are named",
            remedy="secret-agent set NAME --json-stdin <FILE",
        )
    return check_field(named[0])


def _plain_pair(word: str, reference: Reference) -> tuple[str, str]:
    field, equals, value = word.partition("=")
    if not equals:
        raise UsageError(
            "a value is never an argument: every process on this machine could read it",
            remedy=f"secret-agent set {short(reference)} --stdin",
        )
    return check_field(field), value


def _refuse_sensitive(kind: str, field: str, reference: Reference) -> None:
    if not is_plain_field(kind, field):
        better = type_with_plain(field) if kind == DEFAULT_TYPE else None
        option = f"--type {better} {field}=…" if better else f"--field {field}"
        raise UsageError(
            f"{field} is a sensitive field of the type {kind}, so its value cannot be an "
            "argument: every process on this machine could read it",
            remedy=f"secret-agent set {reference.name} {option}",
        )


def _known(connection: Connection, args: Namespace, reference: Reference) -> tuple[str, str]:
    """The secret's type and primary field, as they are or as they will be."""
    body = {"name": reference.name}
    if reference.stage is not None:
        body["stage"] = reference.stage
    try:
        known = call_creating(connection, args, "describe", body)
    except NotFoundError:
        known = {}
    kind = args.type or known.get("type") or DEFAULT_TYPE
    if known.get("type") == kind:
        return kind, known["primary"]
    return kind, primary_field(kind)


def short(reference: Reference) -> str:
    """The reference as people type it."""
    return str(reference).removeprefix(SCHEME)


def _body(args: Namespace, reference: Reference, kind: str) -> dict[str, Any]:
    body = {
        "name": reference.name,
        "stage": reference.stage,
        "type": kind if args.type else None,
        "note": args.note,
    }
    return {key: value for key, value in body.items() if value is not None}


def _fields(args: Namespace, out: Output, reference: Reference, primary: str) -> dict[str, bytes]:
    """The fields that stdin and the prompts give."""
    fields: dict[str, bytes] = {}
    if args.stdin:
        fields[reference.field or primary] = _stdin_value(out)
    if args.json_stdin:
        fields |= _json_fields(_stdin(MAX_JSON, out), reference)
    for field in args.field:
        fields[check_field(field)] = _asked(args, reference, field)
    return fields


def _stdin_value(out: Output) -> bytes:
    value = _stdin(MAX_VALUE, out)
    if not value:
        # Most likely the command before the pipe failed; an empty value can be set as JSON.
        raise InvalidError("stdin is empty")
    if value.find(b"\n") == len(value) - 1:
        out.hint("the value ends with a newline, which is now part of it; printf %s prints none")
    return value


def _stdin(most: int, out: Output) -> bytes:
    if sys.stdin.isatty():
        out.say("the value is read from this terminal, which shows it; end it with Ctrl-D")
    value = sys.stdin.buffer.read(most + 1)
    if len(value) > most:
        raise InvalidError(f"stdin has more than {most} bytes")
    return value


def _json_fields(data: bytes, reference: Reference) -> dict[str, bytes]:
    document = load_json(data)
    if not isinstance(document, dict) or reference.field is not None:
        raise InvalidError(
            'with --json-stdin, stdin must be an object of all fields: {"password": "…"}',
            remedy=f"secret-agent set {reference.name} --json-stdin",
        )
    fields = {}
    for field, member in document.items():
        value = scalar(member)
        if value is None:
            raise InvalidError(f"the field {json.dumps(field)} on stdin is not a text or a number")
        fields[check_field(field)] = value.reveal()
    return fields


def _asked(args: Namespace, reference: Reference, field: str) -> bytes:
    if not may_prompt(args):
        raise UsageError(
            f"there is no terminal to ask for {field} at",
            remedy=f"secret-agent set {short(Reference(reference.name, field=field))} --stdin",
        )
    value = read_passphrase(f"{reference.name}#{field}: ", confirm=False)
    return bytes(value)


COMMANDS = {
    "set": Command(
        help="write a new version of a secret",
        example='printf %s "$TOKEN" | secret-agent set payments/stripe#key --stdin',
        configure=_configure_set,
        run=_set,
    ),
}
