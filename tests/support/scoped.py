"""A desk for tests of containers: an unlocked agent, podman, the one-file client, and a scope's
socket between them.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.agent import ROOT, Agent
from support.containers import IMAGE, Engine

INSIDE = "/run/secret-agent.sock"
CLIENT_INSIDE = "/usr/local/bin/secret-agent"

Done = subprocess.CompletedProcess[bytes]


def build_client(folder: Path) -> Path:
    """The one-file client, built in a folder."""
    built = folder / "secret-agent"
    command = [sys.executable, str(ROOT / "packaging/build_client.py"), "-o", str(built)]
    subprocess.run(command, check=True, timeout=60)
    return built


class Desk:
    """What one test needs: the secrets app/db and other/key, a folder for sockets, the client."""

    def __init__(self, agent: Agent, engine: Engine, client: Path, folder: Path) -> None:
        self.agent = agent
        self.engine = engine
        self.client = client
        self.folder = folder
        self.socket = folder / "app.sock"
        self.value = b""
        self.other = b""
        self._seen: int = agent.call("status", {})["audit"]["records"]

    def fill(self) -> None:
        """Write the two secrets."""
        self.value = self.agent.put("app/db")
        self.other = self.agent.put("other/key")

    def beside(self, folder: Path) -> "Desk":
        """The same agent and secrets with another folder, for another test."""
        desk = Desk(self.agent, self.engine, self.client, folder)
        desk.value, desk.other = self.value, self.other
        return desk

    def podman(
        self,
        *command: str,
        options: Sequence[str] = (),
        mount: Path | None = None,
        inside: str = INSIDE,
    ) -> list[str]:
        """`podman run` with the socket, or another path, and the client mounted."""
        place = str(Path(inside).parent) if mount is not None and mount.is_dir() else inside
        return [
            self.engine.podman,
            "run",
            "--rm",
            *("-v", f"{mount or self.socket}:{place}", "-e", f"SECRET_AGENT_SOCK={inside}"),
            *("-v", f"{self.client}:{CLIENT_INSIDE}:ro"),
            *options,
            IMAGE,
            *command,
        ]

    def delegate(
        self, *command: str, scope: Sequence[str] = ("--allow", "app/*"), reveals: bool = False
    ) -> Done:
        """`secret-agent delegate`, with the command or without one."""
        after = ("--", *command) if command else ()
        return self.agent.cli(
            *("delegate", *scope, "--socket", str(self.socket), *after),
            env=self.engine.environment,
            reveals=reveals,
        )

    def scoped(self, *command: str, options: Sequence[str] = (), **more: Any) -> Done:
        """A client's command in a container that ends with the scope made for it."""
        inside = self.podman("secret-agent", *command, options=options)
        return self.delegate(*inside, reveals=True, **more)

    @contextmanager
    def running(
        self, *options: str, mount: Path | None = None, inside: str = INSIDE
    ) -> Iterator[str]:
        """A container that stays; its id."""
        argv = self.podman("sleep", "600", options=("-d", *options), mount=mount, inside=inside)
        started = self.engine.run(*argv[1:])
        name = started.stdout.decode().strip()
        try:
            yield name
        finally:
            self.engine.run("rm", "--force", "--time", "0", name, check=False)

    def inside(self, container: str, *command: str, check: bool = False) -> Done:
        """A client's command in a container that runs."""
        return self.engine.run("exec", container, "secret-agent", *command, check=check)

    def audited(self, **wanted: Any) -> list[dict[str, Any]]:
        """The audit records since this desk was made that have all these fields."""
        shown = json.loads(self.agent.cli("audit", "show", "--json", check=True).stdout)
        return [
            record
            for record in shown
            if record["seq"] > self._seen and wanted.items() <= record.items()
        ]


def short_folder() -> Path:
    """A new 0700 folder whose path leaves room for a socket's name."""
    return Path(tempfile.mkdtemp(prefix="sa-"))


def host_uid(container_uid: int) -> int:
    """The uid outside of a user inside: the same for root's podman, else as /etc/subuid has it."""
    if os.geteuid() == 0:
        return container_uid
    import pwd

    name = pwd.getpwuid(os.geteuid()).pw_name
    for line in Path("/etc/subuid").read_text().splitlines():
        owner, first, _count = line.split(":")
        if owner in (name, str(os.geteuid())):
            return int(first) + container_uid - 1
    raise AssertionError("this user has no range in /etc/subuid")
