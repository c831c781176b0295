"""`run` without an agent: what it would fetch stands in a file, events come through a socket.

    python driver.py SPEC CMD…

SPEC is JSON: {"values": {NAME: VALUE}, "files": {NAME: VALUE}, "on_revoke", "restart", "mask",
"folder": PATH or null, "ttl_s", "renewable", "grace_s", "socket": PATH or null}.

The test listens at the socket.  Each line that it sends is an event, or {"values": {NAME: VALUE}}
for the next fetch; each request of ours other than `get` is told to it in a line.
"""

import json
import os
import select
import socket
import sys
from pathlib import Path
from typing import Any

from secret_agent_client.child import CommandError, find_program
from secret_agent_client.child_monitor import GRACE_S
from secret_agent_client.environment import Asked, plan_environment
from secret_agent_client.errors import NoAgentError, NotFoundError, SecretAgentError
from secret_agent_client.run import Job, SecretRun


class FakeAgent:
    """Answers from the file; keeps what the test says."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.spec = spec
        self.values = {**spec.get("values", {}), **spec.get("files", {})}
        self.events: list[dict[str, Any]] = []
        self.count = 0
        self.test: socket.socket | None = None
        self.buffer = b""
        self.dead_end, self._keep = os.pipe()
        if spec.get("socket"):
            self.test = socket.socket(socket.AF_UNIX)
            self.test.connect(spec["socket"])

    def fileno(self) -> int:
        return self.test.fileno() if self.test else self.dead_end

    def call(
        self, verb: str, body: dict[str, Any] | None = None, *, deadline_s: float = 30.0
    ) -> dict[str, Any]:
        if self.test is not None:
            try:
                self.test.sendall(json.dumps([verb, body]).encode() + b"\n")
            except BrokenPipeError:
                raise NoAgentError("the agent closed the connection") from None
        if verb == "workdir":
            if self.spec.get("folder") is None:
                raise NotFoundError("no such verb")
            return {"path": self.spec["folder"], "tmpfs": True}
        if verb == "renew":
            return {"id": (body or {})["lease"], "ttl_s": self.spec.get("renews_to", 3600)}
        return {}

    def call_many(self, requests: list[Any]) -> list[Any]:
        return [self._answer(verb, body) for verb, body in requests]

    def _answer(self, verb: str, body: dict[str, Any]) -> Any:
        if verb != "get":
            return self.call(verb, body)
        name = body["name"].removeprefix("test/").upper()
        if self.values.get(name) is None:
            return NotFoundError("no such secret", remedy="secret-agent ls")
        self.count += 1
        lease = {
            "id": f"l-{self.count}",
            "ttl_s": self.spec.get("ttl_s", 3600),
            "renewable": self.spec.get("renewable", False),
            "uses_left": None,
        }
        value = self.values[name].encode("utf-8", "surrogateescape")
        return {"version": 1, "fields": {"value": value}, "lease": lease}

    def next_event(self, timeout_s: float) -> dict[str, Any] | None:
        while self.test is not None and select.select([self.test], [], [], timeout_s)[0]:
            try:
                data = self.test.recv(65536)
            except ConnectionResetError:
                data = b""
            if not data:
                raise NoAgentError("the agent closed the connection")
            *lines, self.buffer = (self.buffer + data).split(b"\n")
            for line in map(json.loads, lines):
                if "values" in line:
                    self.values |= line["values"]
                else:
                    self.events.append(line)
        return self.events.pop(0) if self.events else None


def main() -> int:
    spec = json.loads(Path(sys.argv[1]).read_text())
    argv = tuple(sys.argv[2:])
    asked = Asked(
        env=tuple(f"{name}=test/{name.lower()}" for name in spec.get("values", {})),
        files=tuple(f"{name}=test/{name.lower()}" for name in spec.get("files", {})),
    )
    try:
        job = Job(
            program=find_program(argv[0], os.environ.get("PATH")),
            argv=argv,
            plan=plan_environment(os.environ, asked),
            on_revoke=spec.get("on_revoke", "terminate"),
            restart=spec.get("restart", False),
            mask=spec.get("mask", True),
            grace_s=spec.get("grace_s", GRACE_S),
        )
        run = SecretRun(FakeAgent(spec), job, lambda text: print(text, file=sys.stderr, flush=True))
        return run.run()
    except CommandError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    except SecretAgentError as error:
        print(error, file=sys.stderr)
        return 125


if __name__ == "__main__":
    sys.exit(main())
