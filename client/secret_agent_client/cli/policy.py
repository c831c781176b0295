"""`policy check`, `policy explain` and `policy show`: what the rules are and what they say."""

import os
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from secret_agent_client.cli.command import Command
from secret_agent_client.cli.given import read_input
from secret_agent_client.cli.output import Output
from secret_agent_client.cli.session import open_session
from secret_agent_client.cli.subverbs import add_subverb, add_subverbs
from secret_agent_client.duration import format_duration
from secret_agent_client.errors import InvalidError, UsageError
from secret_agent_client.paths import default_paths
from secret_agent_client.references import check_stage, parse_reference

MAX_POLICY = 256 * 1024  # bytes; the wire's limit
ACTIONS = ("read", "write", "list", "rotate", "revoke", "delegate", "admin")


def _configure(parser: ArgumentParser) -> None:
    verbs = add_subverbs(parser)
    check = add_subverb(
        verbs,
        "check",
        help_="is this file a policy, and if not, where not",
        example="secret-agent policy check policy.toml",
    )
    check.add_argument("file", metavar="FILE", nargs="?", help="else your policy.toml; - is stdin")
    explain = add_subverb(
        verbs,
        "explain",
        help_="which rule decides, and why each other does not",
        example="secret-agent policy explain payments/db --action write",
    )
    explain.add_argument("ref", metavar="REF", help="the secret")
    explain.add_argument("--action", choices=ACTIONS, default="read", help="to do what with it")
    explain.add_argument("--stage", metavar="S", help="of this stage")
    explain.add_argument(
        "--as",
        dest="as_",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="as if the one who asks were different, such as container=true",
    )
    add_subverb(
        verbs,
        "show",
        help_="the rules in force and where they come from",
        example="secret-agent policy show",
    )


def _policy(args: Namespace, out: Output) -> int:
    return {"check": _check, "explain": _explain, "show": _show}[args.what](args, out)


def _check(args: Namespace, out: Output) -> int:
    path = args.file or str(Path(default_paths(os.environ).config) / "policy.toml")
    text = read_input(path, most=MAX_POLICY, what="the policy")
    with open_session(args) as connection:
        reply = connection.call("policy-check", {"text": text})
    if args.json:
        out.json(reply)
    elif reply["ok"]:
        out.say(f"{path}: {reply['rules']} rules, all well")
    for problem in [] if args.json else reply["problems"]:
        out.say(f"{path}:{problem['line']}:{problem['column']}: {problem['message']}")
        if problem["try"]:
            out.say(f"  try: {problem['try']}")
    return 0 if reply["ok"] else InvalidError.exit_status


def _explain(args: Namespace, out: Output) -> int:
    reference = parse_reference(args.ref)
    body: dict[str, Any] = {"name": reference.name, "action": args.action}
    stage = args.stage if args.stage is not None else reference.stage
    if stage is not None:
        body["stage"] = check_stage(stage)
    if args.as_:
        if not all("=" in each for each in args.as_):
            raise UsageError("--as is KEY=VALUE", remedy="secret-agent policy explain -h")
        body["as"] = args.as_
    with open_session(args) as connection:
        reply = connection.call("policy-explain", body)
    if args.json:
        out.json(reply)
        return 0
    decision = reply["decision"]
    rule = f"rule {decision['rule']}" if decision["rule"] else "no rule"
    out.line(f"{args.action} {reference.name}: {decision['effect']} ({rule})")
    if decision["because"]:
        out.line(f"  because: {decision['because']}")
    out.line(f"  limits:  {_limits(decision['limits'])}")
    for each in reply["rules"]:
        out.line(f"rule {each['id']} ({each['effect']}): {_why(each)}")
    if reply["nearest"]:
        out.line(f"nearest: {reply['nearest']}")
    if decision["try"]:
        out.line(f"  try: {decision['try']}")
    return 0


def _why(rule: dict[str, Any]) -> str:
    if rule["matched"]:
        return "matches"
    failed = [
        f"{each['condition']} wants {each['wanted']}, found {each['found']}"
        for each in rule["failed"]
    ]
    return "does not match: " + "; ".join(failed)


def _limits(limits: dict[str, Any]) -> str:
    parts = [f"{format_duration(limits['ttl_s'])} at most"] if limits["ttl_s"] else []
    if limits["uses"] is not None:
        parts.append(f"{limits['uses']} uses")
    if limits["reason"]:
        parts.append("with a reason")
    return ", ".join(parts) or "-"


def _show(args: Namespace, out: Output) -> int:
    with open_session(args) as connection:
        reply = connection.call("policy-show")
    if args.json:
        out.json(reply)
        return 0
    out.line(f"source: {reply['source']}")
    out.line(f"digest: {reply['digest']}")
    if reply.get("problem"):
        out.warn(f"the file does not hold, the rules before it do: {reply['problem']}")
    for rule in reply["rules"]:
        out.line("")
        out.line(f"rule {rule['id']}")
        for key, value in rule.items():
            if key != "id" and value not in (None, [], {}):
                out.line(f"  {key}: {_plain(value)}")
    return 0


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    if isinstance(value, dict):
        return ", ".join(f"{key} = {_plain(item)}" for key, item in value.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


COMMANDS = {
    "policy": Command(
        help="check, explain and show the rules",
        example="secret-agent policy explain payments/db",
        configure=_configure,
        run=_policy,
    ),
}
