"""`inject`: fill the references of a template, into a file that only we can read, or into a pipe.

Order: the template is read and every place in it checked; all values are fetched; all is filled in
memory; then one file is written.  Whatever fails before that, nothing is written (T31, abuse 49).
"""

import sys
from argparse import ArgumentParser, Namespace

from secret_agent_client.cli.command import Command
from secret_agent_client.cli.given import parse_octal, read_input
from secret_agent_client.cli.output import Output
from secret_agent_client.cli.resolve import Terms, resolve
from secret_agent_client.cli.session import open_session
from secret_agent_client.duration import parse_duration
from secret_agent_client.errors import InvalidError, UsageError
from secret_agent_client.private_file import write_private
from secret_agent_client.references import check_stage
from secret_agent_client.template import MAX_TEMPLATE, Template, fill, parse_template


def _configure_inject(parser: ArgumentParser) -> None:
    parser.add_argument("-i", "--in", dest="source", metavar="IN", help="the template; else stdin")
    parser.add_argument("-o", "--out", metavar="OUT", help="the file to be written; else stdout")
    parser.add_argument("--mode", metavar="0600", default="0600", help="permissions of OUT")
    parser.add_argument("--stage", metavar="S", help="for references that name no stage")
    parser.add_argument("--ttl", metavar="D", help="how long the leases last")
    parser.add_argument("--reason", metavar="TEXT", help="why; audit keeps it")
    parser.add_argument(
        "--reveal", action="store_true", help="write to a terminal, which shows the values"
    )


def _inject(args: Namespace, out: Output) -> int:
    mode = parse_mode(args.mode)
    to_stdout = args.out in (None, "-")
    if to_stdout and sys.stdout.isatty() and not args.reveal:
        raise UsageError(
            "stdout is a terminal, which would show the values",
            remedy="secret-agent inject -i IN -o OUT",
        )
    terms = Terms(
        "inject",
        stage=None if args.stage is None else check_stage(args.stage),
        ttl_s=None if args.ttl is None else parse_duration(args.ttl, what="--ttl"),
        reason=args.reason,
    )
    template = parse_template(read_input(args.source, most=MAX_TEMPLATE, what="the template"))
    filled = _filled(args, template, terms)
    try:
        if to_stdout:
            out.raw(bytes(filled))
        else:
            write_private(args.out, filled, mode=mode)
    finally:
        filled[:] = bytes(len(filled))
    if not to_stdout:
        out.say(f"{args.out}: {len(template.slots)} references filled, mode {mode:04o}")
    if template.loose:
        lines = ", ".join(map(str, template.loose[:10]))
        out.warn(f"references that stand bare were left alone, at line {lines}")
    return 0


def parse_mode(text: str) -> int:
    """Permission bits from octal digits; never writable by others, never special bits."""
    mode = parse_octal(text, example="0600")
    if mode & ~0o755 or not mode & 0o400:
        raise InvalidError(
            "--mode must let the owner read, and nobody else write", remedy="secret-agent inject -h"
        )
    return mode


def _filled(args: Namespace, template: Template, terms: Terms) -> bytearray:
    if not template.slots:
        return fill(template, {})
    with open_session(args) as connection:
        resolved = resolve(connection, args, template.references, terms)
    filled = fill(template, resolved.values)
    for value in resolved.values.values():
        value.wipe()
    return filled


COMMANDS = {
    "inject": Command(
        help="fill the references of a template",
        example="secret-agent inject -i config.yaml.tpl -o config.yaml",
        configure=_configure_inject,
        run=_inject,
    ),
}
