"""`audit show`, `audit verify` and `audit tail`: what was decided, and whether the record holds.

Records hold no values; what they do hold (names, reasons, process titles) may come from anybody and
is escaped like everything that is printed.
"""

import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from typing import Any

from secret_agent_client.cli.command import Command
from secret_agent_client.cli.output import Output
from secret_agent_client.cli.session import open_session
from secret_agent_client.cli.subverbs import add_subverb, add_subverbs
from secret_agent_client.connection import Connection
from secret_agent_client.duration import parse_duration
from secret_agent_client.errors import UsageError
from secret_agent_client.references import check_glob, glob_matches

PAGE = 500  # records a request
VERIFY_S = 600.0  # seconds for the whole chain on a slow disk

_OF_RECORD = ("rule", "lease", "channel", "reason", "because")

Record = dict[str, Any]


def _configure(parser: ArgumentParser) -> None:
    verbs = add_subverbs(parser)
    show = add_subverb(
        verbs,
        "show",
        help_="the records, oldest first",
        example="secret-agent audit show --since 1h --secret 'payments/**'",
    )
    show.add_argument("--since", metavar="D", help="of the last 90s, 15m, 8h, 2d")
    _add_filters(show)
    add_subverb(
        verbs,
        "verify",
        help_="walk the whole chain: its head, or the first bad record",
        example="secret-agent audit verify",
    )
    tail = add_subverb(
        verbs,
        "tail",
        help_="records as they are written, until Ctrl-C",
        example="secret-agent audit tail --secret 'payments/**'",
    )
    _add_filters(tail)


def _add_filters(parser: ArgumentParser) -> None:
    parser.add_argument("--secret", metavar="GLOB", help="about these secrets")
    parser.add_argument("--holder", metavar="PID", type=int, help="about this process")


def _audit(args: Namespace, out: Output) -> int:
    return {"show": _show, "verify": _verify, "tail": _tail}[args.what](args, out)


def _show(args: Namespace, out: Output) -> int:
    body = _filters(args)
    if args.since is not None:
        body["since"] = max(0, int(time.time()) - parse_duration(args.since, what="--since"))
    with open_session(args) as connection:
        records = list(_pages(connection, body)) if args.json else _pages(connection, body)
        if args.json:
            out.json(records)
            return 0
        for record in records:
            out.line(_text(record))
    return 0


def _filters(args: Namespace) -> Record:
    body: Record = {}
    if args.secret is not None:
        body["secret"] = check_glob(args.secret)
    if args.holder is not None:
        if args.holder < 1:
            raise UsageError("--holder is the pid of a process")
        body["holder"] = args.holder
    return body


def _pages(connection: Connection, body: Record) -> Iterator[Record]:
    """All records that the filters let through, a page at a time."""
    after: int | None = None
    while True:
        page = {"after": after} if after is not None else {}
        reply = connection.call("audit-show", {**body, **page, "limit": PAGE}, deadline_s=VERIFY_S)
        yield from reply["records"]
        after = reply["next"]
        if after is None:
            return


def _text(record: Record) -> str:
    """One record in one line: when, what, by whom, how it went and why."""
    holder = record.get("holder") or {}
    secret = record.get("secret") or "-"
    if record.get("stage"):
        secret += f"?stage={record['stage']}"
    what = (str(record[key]) for key in ("outcome", "action") if record.get(key))
    parts = [record.get("time", "-"), f"#{record['seq']}", " ".join(what), secret]
    if holder:
        program = str(holder.get("exe", "?")).rpartition("/")[2]
        parts.append(f"by {program}[{holder.get('pid', '?')}] uid {holder.get('uid', '?')}")
    if holder.get("container"):
        parts.append(f"container {str(holder['container'])[:12]}")
    if holder.get("scope"):
        parts.append(f"scope {holder['scope']}")
    parts += [f"{key} {record[key]}" for key in _OF_RECORD if record.get(key)]
    return "  ".join(parts)


def _verify(args: Namespace, out: Output) -> int:
    with open_session(args) as connection:
        reply = connection.call("audit-verify", deadline_s=VERIFY_S)
    if args.json:
        out.json(reply)
    elif reply["ok"]:
        out.line(reply["head"])
        out.say(f"{reply['records']} records, every one in its place")
    else:
        bad = reply["first_bad"]
        out.say(f"the audit log does not hold: {bad['what']}")
        out.say(f"  first at {bad['file']}, line {bad['line']}, record {bad['seq']}")
    return 0 if reply["ok"] else 1


def _tail(args: Namespace, out: Output) -> int:
    """Records as they are written, until the agent ends or the person has seen enough."""
    filters = _filters(args)
    with open_session(args) as connection:
        connection.call("events", {"audit": True})
        while True:
            event = connection.next_event(None)
            if event is None or event["event"] == "agent-stopping":
                out.say("the agent stops")
                return 0
            if event["event"] == "audit" and _passes(event["body"], filters):
                _tell(args, out, event["body"])


def _tell(args: Namespace, out: Output, record: Record) -> None:
    if args.json:
        out.json_line(record)
    else:
        out.line(_text(record))


def _passes(record: Record, filters: Record) -> bool:
    """Whether the filters let a record through, as the agent's own do in `audit show`."""
    secret, holder = filters.get("secret"), filters.get("holder")
    if secret is not None and not glob_matches(secret, record.get("secret") or ""):
        return False
    return holder is None or (record.get("holder") or {}).get("pid") == holder


COMMANDS = {
    "audit": Command(
        help="what was decided, and whether the record holds",
        example="secret-agent audit show --since 1h",
        configure=_configure,
        run=_audit,
    ),
}
