"""What `secret-agent get` imports: a list, since every import is paid by every call of it."""

import subprocess
import sys
from pathlib import Path

import pytest

from support.agent import SOURCES
from support.fake_agent import FakeAgent, got, short_folder

# Beyond what a bare Python has loaded, until the process ends with the value printed.
ALLOWED = {
    "_socket",
    "secret_agent_client",
    "secret_agent_client.codec",
    "secret_agent_client.errors",
    "secret_agent_client.exchange",
    "secret_agent_client.fast",
    "secret_agent_client.paths",
    "secret_agent_client.references",
    "secret_agent_client.version",
    "secret_agent_client.wire",
}

# `status --json` needs no reference, and the escapes of JSON.
ALLOWED_FOR_STATUS = ALLOWED - {"secret_agent_client.references"} | {
    "_json",
    "secret_agent_client.fast_status",
}

# Before anything was sent: only these are paid one after the other with the agent's own work.
BEFORE_DIALLING = {
    "_socket",
    "secret_agent_client",
    "secret_agent_client.errors",
    "secret_agent_client.fast",
    "secret_agent_client.paths",
}

# The end of the short path is os._exit: what is loaded is told just before it.
SPY = """
import os, sys
before = set(sys.modules)
def told(_status):
    os.write(2, " ".join(sorted(set(sys.modules) - before)).encode())
    end(0)
end, os._exit = os._exit, told
sys.argv = ["secret-agent", "get", "a/b#password?version=3&stage=test"]
from secret_agent_client.fast import run
"""


def loaded(program: str, folder: Path) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        env={"PYTHONPATH": SOURCES, "SECRET_AGENT_HOME": str(folder)},
        timeout=30,
        check=True,
    )
    return set(done.stderr.decode().split())


def test_get_imports_what_is_listed_and_nothing_else() -> None:
    with short_folder() as folder, FakeAgent(folder / "agent.sock", {"get": got(password=b"v")}):
        assert loaded(SPY + "run()", folder) == ALLOWED


def test_status_imports_what_is_listed_and_nothing_else() -> None:
    program = SPY.replace('"get", "a/b#password?version=3&stage=test"', '"status", "--json"')
    with short_folder() as folder, FakeAgent(folder / "agent.sock", {"status": {"x": 1}}):
        assert loaded(program + "run()", folder) == ALLOWED_FOR_STATUS


def test_before_it_has_dialled_it_has_imported_less() -> None:
    with short_folder() as folder:
        assert loaded(SPY + "told(0)", folder) == BEFORE_DIALLING


@pytest.mark.parametrize("module", ["secret_agent_client", "secret_agent_client.connection"])
def test_the_library_costs_nothing_that_a_program_would_notice(module: str) -> None:
    """Nothing of trio, argparse, json, asyncio or ssl for `import secret_agent_client`."""
    heavy = {"trio", "argparse", "json", "asyncio", "ssl", "socket", "re", "typing", "dataclasses"}
    code = (
        f"import sys; before = set(sys.modules); import {module}; print(*set(sys.modules)-before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": SOURCES}, capture_output=True, check=True
    )
    assert set(done.stdout.decode().split()) & heavy == set()
