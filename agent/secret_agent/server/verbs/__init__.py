"""The handlers, one function a verb; two tables are built from them, one for each kind of socket.

A scoped socket's table simply has no control verb in it: it is no flag that a handler could forget
to look at.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from secret_agent.broker import Caller
from secret_agent.core import Agent
from secret_agent.server.connection import Connection, Handler
from secret_agent.server.verbs import audits, leases, policies, scopes, sessions, stored
from secret_agent_client.messages import VERBS

Verb = Callable[[Agent, Connection, Caller, dict[str, Any]], Awaitable[dict[str, Any]]]


def handlers(agent: Agent) -> tuple[dict[str, Handler], dict[str, Handler]]:
    """(control, scoped): verb -> handler.  A verb of two modules, or one without a handler, is a
    bug found at start.
    """
    found: dict[str, Verb] = {}
    for module in (sessions, stored, leases, scopes, policies, audits):
        for verb, handler in module.HANDLERS.items():
            assert verb not in found, f"two handlers of {verb}"  # noqa: S101  # at start, for us
            found[verb] = handler
    assert found.keys() == VERBS.keys() - {"hello"}, "handlers and verbs differ"  # noqa: S101  # ditto
    control: dict[str, Handler] = {verb: partial(run, agent) for verb, run in found.items()}
    scoped = {verb: run for verb, run in control.items() if VERBS[verb].scoped}
    return control, scoped
