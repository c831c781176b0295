"""Abuse cases 32, 35, 46, 47, 49, 50 and 59, and what attacks on files and text found."""

import fcntl
import os
import signal
import socket
import stat
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from secret_agent.config import parse_settings
from secret_agent_client.errors import InvalidError
from secret_agent_client.manifest import ManifestFile, parse_manifest
from support.agent import PASSPHRASE, Agent, Home
from support.terminal import Terminal

# Text that others chose.

_HOSTILE = "\x1b]0;x\x07\u202eevil\x9b31m\nforged: [approved by policy]"


def shows_itself(output: bytes) -> bool:
    return all(char.isprintable() or char == "\n" for char in output.decode())


@pytest.mark.slow
def test_32_no_text_of_others_moves_the_terminal_or_makes_a_line(unlocked: Agent) -> None:
    value = unlocked.plant()
    unlocked.cli("set", "a/b", "--stdin", "--note", _HOSTILE, input=value, check=True)
    place = unlocked.path / "d\x1b[31m\n\u202e"
    place.mkdir()
    unlocked.cli("get", "a/b", "--reason", _HOSTILE, cwd=place, check=True)
    for command in ("ls", "describe a/b", "history a/b", "leases", "who", "audit show", "status"):
        for more in ((), ("--json",)):
            done = unlocked.cli(*command.split(), *more)
            assert done.returncode == 0, command
            assert shows_itself(done.stdout + done.stderr), command
            assert b"\nforged" not in done.stdout, command
    for failing in (("get", _HOSTILE), ("renew", _HOSTILE), (_HOSTILE,), ("run", "--", _HOSTILE)):
        done = unlocked.cli(*failing)
        assert done.returncode != 0
        assert shows_itself(done.stderr), failing
    assert unlocked.call("audit-verify")["ok"]


# Prompts.

_TIOCGPTPEER = 0x5441  # <asm-generic/ioctls.h>; Python has no name for it


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_35_whatever_ends_a_passphrase_prompt_the_echo_is_back(
    agent: Agent, number: signal.Signals
) -> None:
    """TIOCSTI, signals and modes of `run`: test_abuse_run_terminal.py."""
    agent.unlock()
    agent.call("lock")
    argv = [sys.executable, "-m", "secret_agent_client", "unlock"]
    with Terminal(argv, env=agent.environment()) as terminal:
        terminal.expect("[Pp]assphrase")
        slave = fcntl.ioctl(terminal._master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY)
        assert not termios.tcgetattr(slave)[3] & termios.ECHO
        if number == signal.SIGINT:
            terminal.send("half of it\x03")
        else:
            os.kill(terminal.pid, number)
        assert terminal.process.wait(20) != 0
        assert termios.tcgetattr(slave)[3] & termios.ECHO
        os.close(slave)
        assert b"half" not in terminal.seen


def test_35_without_a_terminal_nothing_is_asked_and_nothing_hangs(agent: Agent) -> None:
    agent.unlock()
    agent.call("lock")
    done = agent.cli("get", "a/b")
    assert (done.returncode, done.stdout) == (3, b"")


# Files and paths.


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["open", "link", "file", "long"])
def test_46_a_folder_that_is_not_ours_alone_is_refused_with_a_mend(home: Home, kind: str) -> None:
    place = home.path / ("x" * 100 if kind == "long" else "h")
    if kind == "open":
        place.mkdir()
        place.chmod(0o770)
    elif kind == "link":
        (home.path / "target").mkdir(mode=0o700)
        place.symlink_to(home.path / "target")
    elif kind == "file":
        place.write_text("")
    for command in ("start", "status"):
        done = home.cli(command, env={"SECRET_AGENT_HOME": str(place)})
        assert done.returncode in (2, 6, 7), (kind, command, done)
        assert str(home.path).encode() in done.stderr or kind == "long", done.stderr
        assert b"/tmp/secret-agent" not in done.stderr
    assert list(home.path.rglob("*.sock")) == []


@pytest.mark.parametrize("kind", ["link", "fifo", "folder"])
def test_47_what_stands_in_the_sockets_place_is_left_alone(home: Home, kind: str) -> None:
    """An impostor's socket: tests/unit/client/test_client_dial.py."""
    if kind == "link":
        home.socket.symlink_to(home.path / "nowhere")
    elif kind == "fifo":
        os.mkfifo(home.socket)
    else:
        home.socket.mkdir()
    before = home.socket.lstat()
    done = home.cli("start")
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"is not a socket of ours" in done.stderr
    after = home.socket.lstat()
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)
    home.socket.rmdir() if kind == "folder" else home.socket.unlink()


@pytest.mark.slow
def test_47_ten_starts_at_once_make_one_agent_and_replace_a_dead_socket(home: Home) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(home.socket))
    command = [sys.executable, "-m", "secret_agent_client", "start"]
    starts = [
        subprocess.Popen(command, env=home.environment(), stdout=-1, stderr=-1) for _ in range(10)
    ]
    said = {start.communicate(timeout=60)[1].split(b",")[1] for start in starts}
    assert [start.returncode for start in starts] == [0] * 10
    assert len(said) == 1
    assert stat.S_IMODE(home.socket.lstat().st_mode) == 0o600


@pytest.mark.parametrize("kind", ["link", "hard link", "open", "fifo", "/proc/self/environ"])
def test_49_inject_and_export_follow_no_link_and_widen_nothing(unlocked: Agent, kind: str) -> None:
    unlocked.put("a/b")
    victim = unlocked.path / "victim"
    victim.write_text("as it was")
    victim.chmod(0o600)
    target = Path(kind) if kind.startswith("/") else unlocked.path / "target"
    if kind == "link":
        target.symlink_to(victim)
    elif kind == "hard link":
        target.hardlink_to(victim)
    elif kind == "fifo":
        os.mkfifo(target)
    elif kind == "open":
        target.write_text("")
        target.chmod(0o644)
    done = unlocked.cli("inject", "-o", str(target), input="{{ secret://a/b }}")
    assert done.returncode in (2, 7), done.stderr
    done = unlocked.cli_with_passphrase("export", "--encrypted-to", "passphrase", "-o", str(target))
    assert done.returncode != 0
    assert victim.read_text() == "as it was"
    assert not list(unlocked.path.glob(".*.tmp"))


@pytest.mark.parametrize(
    "name", ["LD_PRELOAD", "PATH", "PYTHONSTARTUP", "BASH_ENV", "GIT_SSH_COMMAND", "x y", "1A"]
)
def test_50_a_manifest_puts_no_secret_where_programs_find_code(
    unlocked: Agent, tmp_path: Path, name: str
) -> None:
    unlocked.put("a/b")
    manifest = tmp_path / "secrets.toml"
    manifest.write_text(f'version = 1\n[env]\n"{name}" = "secret://a/b"\n')
    unlocked.cli("trust", "--yes", str(manifest), cwd=tmp_path)
    marker = tmp_path / "ran"
    done = unlocked.cli("run", "--", "touch", str(marker), cwd=tmp_path)
    assert done.returncode not in (0, 1)
    assert not marker.exists()


def test_50_text_that_is_nested_too_deep_is_bad_input() -> None:
    """It was told as a bug."""
    deep = b"version = 1\na = " + b"[" * 20_000
    with pytest.raises(InvalidError, match="nested too deep"):
        parse_settings(deep, source="config.toml")
    with pytest.raises(InvalidError, match="nested too deep"):
        parse_manifest(ManifestFile("/x/secrets.toml", deep))


# Everywhere.


@pytest.mark.slow
def test_59_no_step_that_fails_shows_a_value_anywhere(unlocked: Agent) -> None:
    """Every verb: tests/promises/test_promise_2_value_stays.py; cores: there too."""
    value = unlocked.put("a/b")
    template = b"{{ secret://a/b }} {{ secret://a/b#none }}"
    for command in (
        ("run", "--env", "X=a/b", "--debug", "--", "/none"),
        ("run", "--env", "X=a/b", "--", "/"),
        ("run", "--env", "X=a/b", "--env", "Y=a/none", "--debug", "--", "env"),
        ("inject", "--debug", "-o", "/none/x"),
        ("get", "a/b#none", "--debug"),
        ("set", "a/b", "--type", "none", "--stdin", "--debug"),
    ):
        done = unlocked.cli(*command, input=value if command[0] == "set" else template)
        assert done.returncode != 0, command
        assert value not in done.stdout + done.stderr, command
    full = subprocess.run(
        ["/bin/sh", "-c", 'exec "$0" -m secret_agent_client get a/b --debug >/dev/full'],
        executable="/bin/sh",
        env=unlocked.environment(),
        capture_output=True,
        check=False,
    )
    assert value not in full.stderr
    assert PASSPHRASE not in full.stderr
    assert value not in Path(f"/proc/{unlocked.pid}/cmdline").read_bytes()
