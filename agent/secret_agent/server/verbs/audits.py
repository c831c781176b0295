"""The verbs on the audit log: show, verify.  They read; only decisions write."""

from functools import partial
from typing import Any

from secret_agent.broker import Caller
from secret_agent.core import Agent
from secret_agent.server.connection import Connection
from secret_agent.threads import run_blocking
from secret_agent_client.references import check_glob

Body = dict[str, Any]
READ_S = 60.0  # for the records of a year on a slow disk
VERIFY_S = 600.0


async def show(agent: Agent, _connection: Connection, _caller: Caller, body: Body) -> Body:
    """Records, oldest first, a page at a time."""
    secret = check_glob(body["secret"]) if "secret" in body else None
    read = partial(
        agent.audit.read,
        after=body.get("after"),
        since=body.get("since"),
        limit=body.get("limit", 200),
        secret=secret,
        holder=body.get("holder"),
    )
    records = await run_blocking(read, deadline_s=READ_S, what="the audit log")
    full = len(records) == body.get("limit", 200)
    return {"records": records, "next": records[-1]["seq"] if records and full else None}


async def verify_(agent: Agent, _connection: Connection, _caller: Caller, _body: Body) -> Body:
    """Walk the whole chain."""
    anchors = [agent.audit.head]
    if agent.store.anchored is not None:
        anchors.append(agent.store.anchored)
    walk = partial(agent.audit.verify, anchors=anchors)
    result = await run_blocking(walk, deadline_s=VERIFY_S, what="the audit log")
    return {
        "ok": result.ok,
        "records": result.records,
        "head": result.head,
        "first_bad": None if result.first_bad is None else result.first_bad.as_json(),
    }


HANDLERS = {"audit-show": show, "audit-verify": verify_}
