"""Starting an agent: from which code, with which environment, and what is told when it fails."""

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from secret_agent_client import spawn
from secret_agent_client.errors import InternalError, InvalidError, UnavailableError
from support.agent import SOURCES

# In the place of the agent: tells what it is, in a file, and says `ok` or what the test wants.
STAND_IN = """
import json, os, signal, sys
ready = int(sys.argv[sys.argv.index("--ready-fd") + 1])
says, told = sys.argv[1], sys.argv[2]
# The listing's own descriptor is gone when it has ended; a link that cannot be read is that one.
fds = [fd for fd in map(int, os.listdir("/proc/self/fd")) if os.path.lexists(f"/proc/self/fd/{fd}")]
mask = os.umask(0)
json.dump({
    "environ": dict(os.environ), "cwd": os.getcwd(), "umask": mask, "fds": sorted(fds),
    "ready": ready, "leads_session": os.getsid(0) == os.getpid(),
    "stdio": [os.readlink(f"/proc/self/fd/{fd}") for fd in (0, 1, 2)],
    "ignored": [n for n in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM)
                if signal.getsignal(n) == signal.SIG_IGN],
}, open(told, "w"))
if says == "silent":
    os.kill(os.getpid(), signal.SIGSTOP)
os.write(ready, says.encode())
"""


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Replaces the agent's program; the file in which it tells what it is."""
    program = tmp_path / "agent.py"
    program.write_text(STAND_IN)
    command = [sys.executable, "-I", str(program)]
    monkeypatch.setattr(spawn, "agent_command", lambda _environ: (command, {}))
    return tmp_path / "told"


def start(says: str, told: Path, **environ: str) -> dict[str, object]:
    spawn.spawn([says, str(told)], environ)
    found: dict[str, object] = json.loads(told.read_text())
    return found


def test_it_returns_once_the_agent_says_ok(stand_in: Path) -> None:
    assert start("ok\n", stand_in)["ready"] is not None


def test_the_agent_is_detached_from_everything_of_ours(stand_in: Path, tmp_path: Path) -> None:
    with (tmp_path / "ours").open("w") as ours:
        os.set_inheritable(ours.fileno(), True)  # os's own signature
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            told = start("ok\n", stand_in)
        finally:
            signal.signal(signal.SIGHUP, before)
    fds = told["fds"]
    assert isinstance(fds, list)
    assert set(fds) - {0, 1, 2, told["ready"]} == set()
    assert told["stdio"] == ["/dev/null"] * 3
    assert (told["cwd"], told["umask"], told["ignored"]) == ("/", 0o077, [])
    assert told["leads_session"] is False


def test_the_environment_is_built_from_nothing(stand_in: Path) -> None:
    told = start(
        "ok\n",
        stand_in,
        HOME="/h",
        LC_ALL="C",
        XDG_RUNTIME_DIR="/r",
        SECRET_AGENT_HOME="/s",
        SECRET_AGENT_SOCK="/x",
        STRIPE_KEY="canary-value",
        PYTHONPATH="/evil",
        LD_PRELOAD="/evil.so",
        BASH_ENV="/evil",
    )
    environ = told["environ"]
    assert isinstance(environ, dict)
    environ.pop("LC_CTYPE", None)  # Python's own, where the locale is C
    assert environ == {
        "HOME": "/h",
        "LC_ALL": "C",
        "XDG_RUNTIME_DIR": "/r",
        "SECRET_AGENT_HOME": "/s",
    }


def test_an_agent_that_refuses_is_heard_in_its_own_words(stand_in: Path) -> None:
    with pytest.raises(InvalidError, match="too wide") as raised:
        start("invalid\nthe folder is too wide\nchmod 0700 x\n", stand_in)
    assert raised.value.remedy == "chmod 0700 x"
    with pytest.raises(UnavailableError) as bare:
        start("unavailable\nthe disk is full\n", stand_in)
    assert bare.value.remedy is None


def test_a_code_that_we_do_not_know_is_an_error_all_the_same(stand_in: Path) -> None:
    with pytest.raises(InternalError, match="something new"):
        start("new-code\nsomething new\n", stand_in)


def test_an_agent_that_ends_without_a_word_points_to_the_foreground(stand_in: Path) -> None:
    with pytest.raises(UnavailableError, match="ended before its socket answered") as raised:
        start("", stand_in)
    assert raised.value.remedy == "secret-agent start --foreground"


@pytest.mark.slow
def test_an_agent_that_says_nothing_is_ended_at_the_deadline(
    stand_in: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spawn, "READY_S", 0.5)
    with pytest.raises(UnavailableError, match="did not answer within"):
        start("silent", stand_in)


def test_a_program_that_cannot_be_run_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spawn, "agent_command", lambda _environ: (["/no/such/python"], {}))
    with pytest.raises(UnavailableError, match="cannot be run: no such file"):
        spawn.spawn([], {})


def test_nobody_is_left_waiting_for(stand_in: Path) -> None:
    """The process in between is reaped, and the agent is no child of ours."""
    start("ok\n", stand_in)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


# -- which code the agent is ---------------------------------------------------------------------

WHICH = """
import json, os
from secret_agent_client.spawn import agent_command
print(json.dumps(agent_command(os.environ)))
"""


def which(*flags: str, cwd: Path, **environ: str) -> tuple[list[str], dict[str, str]]:
    done = subprocess.run(
        [sys.executable, *flags, "-c", WHICH],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={"PATH": os.environ["PATH"], "HOME": str(cwd), **environ},
        check=True,
    )
    command, more = json.loads(done.stdout)
    return command[1:], more


def test_a_source_checkout_takes_its_two_folders_and_nothing_else(tmp_path: Path) -> None:
    flags, more = which(cwd=tmp_path, PYTHONPATH=f"{tmp_path}{os.pathsep}{SOURCES}")
    assert flags == ["-s", "-P", "-m", "secret_agent"]
    assert more == {"PYTHONPATH": SOURCES}


def test_a_package_in_the_current_folder_is_not_the_agent(tmp_path: Path) -> None:
    """A hostile repository holds a secret_agent/ (A7)."""
    evil = tmp_path / "secret_agent"
    evil.mkdir()
    (evil / "__init__.py").write_text("raise SystemExit('evil')")
    client = SOURCES.split(os.pathsep)[1]
    code = f"import sys; sys.path.append({client!r})\n{WHICH}"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    command, more = json.loads(done.stdout)
    # Isolated: whatever is installed, and never what lies about here.
    assert command[1:] == ["-I", "-m", "secret_agent"]
    assert more == {}


def test_a_client_alone_says_what_is_missing(tmp_path: Path) -> None:
    """The one-file client has no agent beside it."""
    client = SOURCES.split(os.pathsep)[1]
    code = f"""
import sys
sys.path.insert(0, {client!r})
from secret_agent_client.errors import UnavailableError
from secret_agent_client.spawn import agent_command
try:
    agent_command({{}})
except UnavailableError as error:
    print(error.message, "|", error.remedy)
"""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=True,
    )
    assert "only its client | python3 -m pip install secret-agent-daemon" in done.stdout


def test_the_script_of_an_installation_is_executable_and_its_first_line_is_pips() -> None:
    script = Path(SOURCES.split(os.pathsep)[1]) / "bin" / "secret-agent"
    assert script.stat().st_mode & stat.S_IXUSR
    assert script.read_text().startswith("#!python\n")
