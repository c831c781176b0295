"""A sandbox of bubblewrap, made without root, uses a scope as a container does."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.agent import Agent
from support.real import need
from support.scoped import INSIDE, build_client, short_folder
from support.trail import following

pytestmark = [pytest.mark.real, pytest.mark.slow]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_client(tmp_path_factory.mktemp("client"))


@pytest.fixture
def socket() -> Iterator[Path]:
    folder = short_folder()
    yield folder / "app.sock"
    folder.joinpath("app.sock").unlink(missing_ok=True)
    folder.rmdir()


def sandbox(bound: Path, client: Path, *command: str) -> list[str]:
    """A client's command in a sandbox that has the socket and little else of ours."""
    return [
        need("bwrap"), "--unshare-all", "--die-with-parent", "--ro-bind", "/", "/",
        "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/run", "--bind", str(bound), INSIDE,
        "--setenv", "SECRET_AGENT_SOCK", INSIDE, str(client), *command,
    ]  # fmt: skip  # a command line


def delegated(
    agent: Agent, socket: Path, command: list[str], *scope: str
) -> "subprocess.CompletedProcess[bytes]":
    made = ("delegate", "--allow", "app/*", *scope, "--socket", str(socket), "--")
    return agent.cli(*made, *command, reveals=True)


def test_a_sandbox_gets_what_its_scope_allows_and_no_more(
    shared: Agent, client: Path, socket: Path
) -> None:
    value = shared.put("app/db")
    shared.put("other/key")
    done = delegated(shared, socket, sandbox(socket, client, "get", "app/db"))
    assert (done.returncode, done.stdout) == (0, value), done.stderr.decode()
    refused = delegated(shared, socket, sandbox(socket, client, "get", "other/key"))
    assert (refused.returncode, refused.stdout) == (5, b"")


def test_the_agents_own_socket_serves_no_sandbox(shared: Agent, client: Path) -> None:
    shared.put("app/db")
    inside = sandbox(shared.socket, client, "get", "app/db")
    done = subprocess.run(
        inside, env=shared.environment(), capture_output=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (6, b"")


def test_a_delegate_that_is_killed_takes_its_scope_and_its_sandbox_with_it(
    shared: Agent, client: Path, socket: Path
) -> None:
    shell = sandbox(socket, client)[:-1]
    made = ["delegate", "--allow", "app/*", "--socket", str(socket), "--"]
    with following(shared) as trail:
        process = subprocess.Popen(
            [sys.executable, "-m", "secret_agent_client", *made, *shell, "sh", "-c", _STAY],
            env=shared.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        process.kill()
        trail.wait_for(event="scope", action="end", because="process-gone")
        assert process.stdout.read() == b"", "the sandbox has ended when its output has"
        process.stdout.close()
        process.wait()
    assert not socket.exists()


_STAY = "echo up; exec sleep 600"
