"""The client as one file: the same bytes from the same sources, and it runs on a bare python3."""

import os
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from support.agent import ROOT, Agent
from support.container_fixtures import engine
from support.containers import IMAGE, Engine
from support.scoped import CLIENT_INSIDE, build_client

__all__ = ["engine"]
BUILDER = ROOT / "packaging/build_client.py"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_client(tmp_path_factory.mktemp("client"))


def build(
    path: Path, *options: str, env: Mapping[str, str] | None = None, umask: int = 0o022
) -> bytes:
    command = [sys.executable, str(BUILDER), "-o", str(path), *options]
    subprocess.run(command, check=True, env=env, umask=umask, timeout=60)
    return path.read_bytes()


def test_the_same_sources_make_the_same_bytes(tmp_path: Path, client: Path) -> None:
    odd = {"PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "LC_ALL": "C", "PATH": os.defpath}
    assert build(tmp_path / "other-name", env=odd, umask=0o077) == client.read_bytes()


def test_bytecode_is_for_the_python_that_built_it_and_none_depends_on_it(
    tmp_path: Path, client: Path, shared: Agent
) -> None:
    value = shared.put("zip/bytecode")
    built = build(tmp_path / "client", "--bytecode", umask=0o077)
    assert built == build(tmp_path / "again", "--bytecode")
    for python in (sys.executable, "/usr/bin/python3"):
        if Path(python).exists():
            done = subprocess.run(
                [python, "-IS", str(tmp_path / "client"), "get", "zip/bytecode"],
                env={"SECRET_AGENT_SOCK": str(shared.socket), "PATH": os.defpath},
                capture_output=True, timeout=60, check=False,
            )  # fmt: skip  # a command line
            assert (done.returncode, done.stdout) == (0, value), done.stderr.decode()
    with zipfile.ZipFile(tmp_path / "client") as compiled, zipfile.ZipFile(client) as plain:
        sources = set(plain.namelist())
        added = {name for name in compiled.namelist() if name.endswith(".pyc")}
        assert set(compiled.namelist()) - added == sources
        assert len(added) == len([name for name in sources if name.endswith(".py")]) - 1


def test_it_is_executable_and_nothing_else_is_left_in_the_folder(tmp_path: Path) -> None:
    build(tmp_path / "client", umask=0o077)
    assert [path.name for path in tmp_path.iterdir()] == ["client"]
    assert (tmp_path / "client").stat().st_mode & 0o777 == 0o755


def test_a_build_that_cannot_be_written_leaves_the_old_file(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(BUILDER), "-o", str(tmp_path / "no" / "client")],
        check=False, capture_output=True, timeout=60,
    )  # fmt: skip  # a command line
    assert done.returncode != 0
    assert list(tmp_path.iterdir()) == []


def test_it_holds_the_client_and_its_scripts_and_nothing_of_the_agent(client: Path) -> None:
    with zipfile.ZipFile(client) as made:
        names = made.namelist()
        assert {entry.date_time for entry in made.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    assert names[1:] == sorted(names[1:])
    assert {name.split("/")[0] for name in names} == {"__main__.py", "secret_agent_client"}
    scripts = {name.rpartition("/")[2] for name in names if "/shell/" in name}
    assert scripts == {path.name for path in (ROOT / "shell").iterdir() if path.suffix != ".md"}


@pytest.mark.parametrize("options", [["-I", "-S"], ["-I", "-S", "-OO"], ["-X", "utf8=0"]])
def test_a_bare_python_runs_it(client: Path, shared: Agent, options: list[str]) -> None:
    value = shared.put("zip/app")
    done = subprocess.run(
        [sys.executable, *options, str(client), "get", "zip/app"],
        env={"SECRET_AGENT_SOCK": str(shared.socket), "PATH": os.defpath},
        capture_output=True, timeout=60, check=False,
    )  # fmt: skip  # a command line
    assert (done.returncode, done.stdout) == (0, value), done.stderr.decode()


def test_it_needs_no_home_and_no_writable_folder(client: Path, shared: Agent) -> None:
    value = shared.put("zip/bare")
    done = subprocess.run(
        [sys.executable, "-IS", str(client), "get", "zip/bare"],
        env={"SECRET_AGENT_SOCK": str(shared.socket)},
        cwd="/proc",
        capture_output=True, timeout=60, check=False,
    )  # fmt: skip  # a command line
    assert (done.returncode, done.stdout) == (0, value), done.stderr.decode()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "sh", "posix", "direnv"])
def test_the_shell_scripts_come_out_as_they_are(client: Path, shell: str) -> None:
    done = subprocess.run(
        [sys.executable, "-IS", str(client), "shell-init", shell],
        capture_output=True, check=True, timeout=60, env={"PATH": os.defpath},
    )  # fmt: skip  # a command line
    name = {"direnv": "direnv.sh", "posix": "hook.sh"}.get(shell, f"hook.{shell}")
    assert done.stdout == (ROOT / "shell" / name).read_bytes()


def test_help_and_errors_work_without_an_agent(client: Path, tmp_path: Path) -> None:
    environment = {"SECRET_AGENT_SOCK": str(tmp_path / "no.sock"), "PATH": os.defpath}
    for command, status in (["get", "a/b"], 6), (["get", "-h"], 0), (["get", "A"], 2):
        done = subprocess.run(
            [sys.executable, "-IS", str(client), *command],
            env=environment, capture_output=True, check=False, timeout=60,
        )  # fmt: skip  # a command line
        assert done.returncode == status, (command, done.stderr)
        assert b"Traceback" not in done.stderr


@pytest.mark.real
@pytest.mark.slow
def test_an_image_with_python_and_nothing_else_runs_it(client: Path, engine: Engine) -> None:
    done = engine.run(
        "run", "--rm", "-v", f"{client}:{CLIENT_INSIDE}:ro", IMAGE, "secret-agent", "--help"
    )
    assert b"secret-agent" in done.stdout
