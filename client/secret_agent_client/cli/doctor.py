"""`doctor`: tries, rather than asserts, what protects here.

Rules that hold here: no agent is started and nothing is asked; an agent that does not answer is a
line and not an end; the exit status is 1 where any line is `fail`.
"""

import os
from argparse import ArgumentParser, Namespace

from secret_agent_client.cli.checks import Check, State, machine_checks
from secret_agent_client.cli.command import Command, add_json
from secret_agent_client.cli.output import Output
from secret_agent_client.connection import Connection
from secret_agent_client.errors import NoAgentError, SecretAgentError
from secret_agent_client.version import __version__

AGENT_S = 20.0  # seconds for the agent's own checks, which start processes
STYLES: dict[State, str] = {"ok": "green", "warn": "yellow", "fail": "red"}


def _configure(parser: ArgumentParser) -> None:
    add_json(parser)


def _doctor(args: Namespace, out: Output) -> int:
    checks = [*_agent_checks(), *machine_checks(os.environ)]
    failed = any(check.state == "fail" for check in checks)
    if args.json:
        out.json({"ok": not failed, "checks": [check.as_json() for check in checks]})
    else:
        for check in checks:
            _show(check, out)
    return 1 if failed else 0


def _show(check: Check, out: Output) -> None:
    out.line(f"{check.state:<5} {check.name}: {check.detail}", STYLES[check.state])
    if check.mend is not None and check.state != "ok":
        out.line(f"      try: {check.mend}")


def _agent_checks() -> list[Check]:
    """That it answers, who it is, and what it finds by itself."""
    try:
        with Connection.connect() as conn:
            version, scope = conn.agent_version, conn.scope
            checks = [_answers(conn.path, version), _peer(conn.server_pid)]
            if scope is not None:
                return [*checks, Check("scope", "ok", f"this is the socket of the scope {scope}")]
            found = conn.call("doctor", deadline_s=AGENT_S)["checks"]
    except NoAgentError as error:
        return [Check("agent", "warn", error.message, error.remedy)]
    except SecretAgentError as error:
        return [Check("agent", "fail", error.message, error.remedy)]
    return [
        *checks,
        *(Check(f"agent's {c['name']}", c["state"], c["detail"], c["try"]) for c in found),
    ]


def _answers(path: str, version: str) -> Check:
    if version != __version__:
        return Check(
            "agent",
            "warn",
            f"it is version {version}, and this client {__version__}",
            "secret-agent stop && eval $(secret-agent start)",
        )
    return Check("agent", "ok", f"version {version} answers at {path}")


def _peer(pid: int) -> Check:
    if pid:
        return Check("agent's identity", "ok", f"the kernel says that pid {pid} of our uid listens")
    return Check(
        "agent's identity",
        "warn",
        "the kernel shows its uid and not its pid: another pid namespace",
    )


COMMANDS = {
    "doctor": Command(
        help="try what protects here, and how to mend what does not",
        example="secret-agent doctor --json",
        configure=_configure,
        run=_doctor,
    ),
}
