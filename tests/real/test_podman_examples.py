"""Every example of packaging/README.md is run as it stands there.

Where docker is typed podman answers, as its users have it: the command line is the same.
"""

import os
import re
import shutil
import subprocess

import pytest

from support.agent import ROOT
from support.container_fixtures import desk, engine, first_desk, lone_desk
from support.containers import IMAGE
from support.real import need
from support.scoped import Desk, host_uid

__all__ = ["desk", "engine", "first_desk", "lone_desk"]
pytestmark = [pytest.mark.real, pytest.mark.slow]

_EXAMPLE = re.compile(r"<!-- example: (\w+) -->\n```sh\n(.*?)```", re.DOTALL)
README = (ROOT / "packaging/README.md").read_text()
EXAMPLES = dict(_EXAMPLE.findall(README))
VALUES = sorted(EXAMPLES.keys() - {"build", "run"})


def test_every_example_is_known_here() -> None:
    assert README.count("```sh") == len(EXAMPLES)
    assert set(EXAMPLES) == {"build", "podman", "docker", "user", "folder", "bwrap", "run"}


def type_in(desk: Desk, example: str) -> "subprocess.CompletedProcess[bytes]":
    """The example in a shell, in a folder that holds the one-file client, which is the command."""
    programs = desk.folder / "bin"
    programs.mkdir()
    shutil.copy(desk.client, desk.folder / "secret-agent")
    (programs / "secret-agent").symlink_to(desk.client)
    (programs / "docker").symlink_to(desk.engine.podman)
    need("bwrap")
    given = desk.engine.environment
    return subprocess.run(
        ["sh", "-euc", EXAMPLES[example]],
        env={
            **desk.agent.environment(**given),
            "PATH": f"{programs}:{given['PATH']}",
            "IMAGE": IMAGE,
            "HOST_UID": str(host_uid(1000)),
        },
        cwd=desk.folder,
        capture_output=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("example", VALUES)
def test_the_example_prints_the_value(desk: Desk, example: str) -> None:
    done = type_in(desk, example)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.endswith(desk.value)  # `folder` says the socket's path first


def test_the_example_of_run_connects(desk: Desk) -> None:
    done = type_in(desk, "run")
    assert (done.returncode, done.stdout) == (0, b"connected\n"), done.stderr.decode()


def test_the_example_of_the_build_makes_the_client(desk: Desk) -> None:
    command = EXAMPLES["build"].replace("-o secret-agent", f"-o {desk.folder}/built")
    subprocess.run(["sh", "-euc", command], cwd=ROOT, check=True, timeout=60)
    assert (desk.folder / "built").read_bytes() == desk.client.read_bytes()
    assert os.access(desk.folder / "built", os.X_OK)
