"""The verbs on policy: show, check, explain.  They change nothing and serve nothing."""

from dataclasses import replace
from functools import partial
from typing import Any

from secret_agent.broker import Caller
from secret_agent.core import Agent
from secret_agent.model import DEFAULT_STAGE, Holder, Request
from secret_agent.policy.explain import explain
from secret_agent.policy.parse import PolicyError, parse_policy
from secret_agent.server.connection import Connection
from secret_agent.threads import new_limiter, run_blocking
from secret_agent_client.errors import InvalidError
from secret_agent_client.references import check_name, check_stage

Body = dict[str, Any]
CHECK_S = 10.0  # for reading a policy
PROBLEMS_TOLD = 100  # of one text
AS_KEYS = ("uid", "exe", "cwd", "tty", "container")
ACTIONS = ("read", "write", "list", "rotate", "revoke", "delegate", "admin")

_one_at_a_time = new_limiter(1)


async def show(agent: Agent, _connection: Connection, _caller: Caller, _body: Body) -> Body:
    """The rules in force."""
    policy = agent.policy.current()
    return {
        "source": policy.source,
        "digest": policy.digest,
        "problem": agent.policy.problem,
        "rules": [rule.as_json() for rule in policy.rules],
    }


async def check(_agent: Agent, _connection: Connection, _caller: Caller, body: Body) -> Body:
    """Whether a text is a policy, and where it is not."""
    try:
        # A large text takes a while, and every other connection would wait for it.
        policy = await run_blocking(
            partial(parse_policy, body["text"], source="the file"),
            deadline_s=CHECK_S,
            what="the check of the policy",
            limiter=_one_at_a_time,
        )
    except PolicyError as error:
        return {
            "ok": False,
            "rules": 0,
            "problems": [
                {
                    "line": problem.line,
                    "column": problem.column,
                    "message": problem.message,
                    "try": problem.remedy,
                }
                for problem in error.problems[:PROBLEMS_TOLD]
            ],
        }
    return {"ok": True, "rules": len(policy.rules), "problems": []}


async def explain_(agent: Agent, _connection: Connection, caller: Caller, body: Body) -> Body:
    """Which rule decides, and why each other does not."""
    action = body.get("action", "read")
    if action not in ACTIONS:
        raise InvalidError(f"policy-explain: action is one of {', '.join(ACTIONS)}")
    stage = check_stage(body["stage"]) if "stage" in body else DEFAULT_STAGE
    holder = _as_if(caller.holder, body.get("as", []))
    request = Request(holder, action, check_name(body["name"]), stage)
    return explain(agent.policy.current(), request).as_json()


def _as_if(holder: Holder, changes: list[str]) -> Holder:
    """The holder as it would be with other attributes: `uid=0`, `tty=none`, `container=c0ffee`."""
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals or key not in AS_KEYS:
            raise InvalidError(f"policy-explain: as is KEY=VALUE, KEY one of {', '.join(AS_KEYS)}")
        if key == "uid":
            if not (value.isascii() and value.isdigit() and len(value) < 11):
                raise InvalidError("policy-explain: a uid is a number")
            holder = replace(holder, uid=int(value))
        else:
            changed: dict[str, Any] = {key: value}
            if value == "none":
                changed = {key: "" if key in ("exe", "cwd") else None}
            holder = replace(holder, **changed)
    return holder


HANDLERS = {"policy-show": show, "policy-check": check, "policy-explain": explain_}
