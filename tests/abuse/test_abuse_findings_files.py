"""Abuse cases 11 to 13, 15, 16, 20, 32, 35, 40, 46, 47, 49, 50, 56, 57 and 59, and what attacks
on files, text and terminals have found.
"""

import fcntl
import json
import os
import resource
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import termios
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from secret_agent.audit.verify import verify
from secret_agent.config import parse_settings
from secret_agent.store import keys
from secret_agent_client.errors import DeniedError, InvalidError
from secret_agent_client.manifest import ManifestFile, parse_manifest
from support.agent import PASSPHRASE, Agent, Home
from support.audit import write
from support.terminal import Terminal
from unit.store.workshop import Workshop, value_of


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Workshop]:
    with keys._for_tests_cheap():
        yield Workshop(tmp_path)


# The store.  In depth: tests/unit/store/test_store_tampering.py, …_tampered_header.py, …_crash.py.


def test_11_swapped_texts_are_named_and_not_served(shop: Workshop) -> None:
    shop.fill(a="1", b="2")
    (one, *_, first), (other, *_, second) = shop.rows()
    shop.set_cell(one, "body", second)
    shop.set_cell(other, "body", first)
    with shop.unlocked() as store:
        for name in ("app/a", "app/b"):
            with pytest.raises(InvalidError, match="altered"):
                value_of(store, name)


def test_11_the_text_of_an_old_backup_is_named_and_not_served(shop: Workshop) -> None:
    shop.fill(a="1")
    backup = shop.copy("backup")
    with shop.unlocked() as store:
        store.put("app/a", "", {"password": b"2"}, type="login", by="me")
    shop.put_back(backup)
    with pytest.raises(InvalidError):
        shop.unlock()


@pytest.mark.parametrize(
    "changes", [{"memory_kib": 8, "passes": 1}, {"memory_kib": 1 << 40}, {"salt": b"short"}]
)
def test_12_a_weaker_or_exhausting_header_is_refused_unpaid(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    shop = Workshop(tmp_path)
    with keys._for_tests_cheap():
        shop.fill(a="1")
    shop.change_part("passphrase", **({"memory_kib": 65536, "passes": 3, "lanes": 4} | changes))
    before = resource.getrusage(resource.RUSAGE_SELF)
    with pytest.raises(InvalidError):
        shop.unlock()
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert after.ru_maxrss - before.ru_maxrss < 64 * 1024
    assert after.ru_utime - before.ru_utime < 1


@pytest.mark.slow
@pytest.mark.parametrize("nth", [1, 2, 3, 5, 8])
def test_13_killed_in_any_write_of_a_new_passphrase_one_of_the_two_opens(
    shop: Workshop, nth: int
) -> None:
    """SIGKILL before the nth statement; inside of a write: tests/unit/store/test_store_crash.py."""
    shop.fill(a="1")
    code = (
        "import sys, os; sys.path[:0] = sys.argv[3:];"
        "from pathlib import Path; from unit.store.workshop import Workshop, PASSPHRASE;"
        "from secret_agent.store import keys; context = keys._for_tests_cheap();"
        "context.__enter__(); store = Workshop(Path(sys.argv[1])).unlock();"
        "count = [int(sys.argv[2])];"
        "def step(event, args):\n"
        "    count[0] -= 1\n"
        "    if count[0] == 0: os.kill(os.getpid(), 9)\n"
    ).replace("def step", "\ndef step")
    code += "sys.setprofile(lambda frame, event, arg: step(event, arg) if event == 'c_call' "
    code += "and getattr(arg, '__name__', '') == 'execute' else None)\n"
    code += "store.change_passphrase(PASSPHRASE, b'new')\n"
    command = [sys.executable, "-c", code, str(shop.path.parent.parent), str(nth), *sys.path]
    subprocess.run(command, check=False, timeout=60, capture_output=True)
    try:
        store = shop.unlock()
    except DeniedError:
        store = shop.unlock(b"new")
    assert value_of(store, "app/a") == b"1"
    store.close()


def test_15_a_purged_secret_leaves_neither_name_nor_value(unlocked: Agent) -> None:
    """A full disk: tests/unit/store/test_store_disk.py."""
    name = "gone/" + unlocked.plant().decode()[:20]
    unlocked.put(name)
    unlocked.cli("rm", name, "--purge", "--yes", check=True)
    unlocked.call("lock")
    for file in unlocked.path.rglob("store*"):
        if file.is_file():
            assert name.encode() not in file.read_bytes(), file


# Policy.


def policy(agent: Agent, text: str) -> Path:
    path = agent.path / "config" / "policy.toml"
    path.parent.mkdir(exist_ok=True, mode=0o700)
    path.write_text(text)
    path.chmod(0o600)
    return path


_ALLOW = 'version = 1\n[[rule]]\nid = "mine"\neffect = "allow"\nsecrets = ["**"]\n'
_DENY_PROD = _ALLOW + '[[rule]]\nid = "no-prod"\neffect = "deny"\nsecrets = ["prod/**"]\n'


def test_16_what_is_denied_reads_like_what_does_not_exist(unlocked: Agent) -> None:
    unlocked.put("prod/x")
    unlocked.put("dev/x")
    policy(unlocked, _DENY_PROD)
    with unlocked.connect() as peer:
        peer.hello()
        assert [each["name"] for each in peer.call("ls")["secrets"]] == ["dev/x"]
        for verb in ("describe", "history", "get", "rm"):
            denied = peer.refused(verb, {"name": "prod/x"})
            absent = peer.refused(verb, {"name": "prod/none"})
            assert json.dumps(denied).replace("prod/x", "prod/none") == json.dumps(absent), verb
    backup = unlocked.path / "backup.age"
    made = unlocked.cli_with_passphrase("export", "--encrypted-to", "passphrase", "-o", str(backup))
    assert made.returncode == 0, made.stderr
    assert b"1 " in made.stderr + made.stdout


def test_20_a_broken_policy_keeps_the_last_good_one_and_an_empty_one_denies(
    unlocked: Agent,
) -> None:
    unlocked.put("prod/x")
    unlocked.put("dev/x")
    path = policy(unlocked, _DENY_PROD)
    with unlocked.connect() as peer:
        peer.hello()
        assert peer.refused("get", {"name": "prod/x"})["code"] == "denied"
        for broken in ("version = ", "x = " + "[" * 20_000):
            path.write_text(broken)
            assert peer.refused("get", {"name": "prod/x"})["code"] == "denied"
            peer.call("get", {"name": "dev/x"})
            assert peer.call("status")["policy"]["problem"]
        path.write_text("version = 1\n")
        assert peer.refused("get", {"name": "dev/x"})["code"] == "denied"


@pytest.mark.slow
def test_20_a_large_or_deep_text_to_be_checked_keeps_nobody_waiting(shared: Agent) -> None:
    """One text held the agent for minutes, the other was told as a bug of its own."""
    with shared.connect() as peer, shared.connect() as other:
        peer.hello()
        other.hello()
        asked = peer.send("policy-check", {"text": b"[[rule]]\n" * 20_000})
        assert other.call("status")["state"] == "unlocked"
        reply = peer.reply(asked)
        assert "error" in reply or reply["ok"]["ok"] is False
        deep = peer.call("policy-check", {"text": b"a = " + b"[" * 100_000})
        assert deep["ok"] is False


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


# The audit log.  In depth: tests/unit/audit/test_audit_verify.py.


@pytest.mark.parametrize("harm", ["flip", "delete", "reorder", "duplicate", "cut", "forge"])
def test_56_every_harm_to_the_log_is_found(tmp_path: Path, harm: str) -> None:
    log = tmp_path / "log"
    log.mkdir(mode=0o700)
    trio.run(write, log, 8)
    head = verify(log).head
    file = log / "audit.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    changed = {
        "flip": [*lines[:3], lines[3].replace(b"read", b"reae"), *lines[4:]],
        "delete": lines[:3] + lines[4:],
        "reorder": [*lines[:3], lines[4], lines[3], *lines[5:]],
        "duplicate": [*lines[:4], lines[3], *lines[4:]],
        "cut": lines[:-2],
    }
    if harm == "forge":
        file.unlink()
        trio.run(write, log, 9)
    else:
        file.write_bytes(b"".join(changed[harm]))
    needs_anchor = harm in ("cut", "forge")  # N6: the last two only against a head kept elsewhere
    assert verify(log).ok is needs_anchor
    assert not verify(log, anchors=[(8, head)]).ok


@pytest.mark.root
def test_57_on_a_full_disk_nothing_is_served_and_the_chain_goes_on() -> None:
    """The log's folder on a small tmpfs that is filled.  Other failures: test_promise_1."""
    small = Path(tempfile.mkdtemp(prefix="sa-"))
    mount = shutil.which("mount") or pytest.skip("needs mount")
    options = ["-t", "tmpfs", "-o", "size=256k,mode=0700", "tmpfs", str(small)]
    if subprocess.run([mount, *options], check=False, capture_output=True).returncode:
        pytest.skip("this machine lets root mount nothing")
    try:
        with Agent(base=small) as full:
            _fill_and_ask(full)
    finally:
        subprocess.run(["umount", str(small)], check=True)
        small.rmdir()


def _fill_and_ask(agent: Agent) -> None:
    agent.unlock()
    value = agent.put("a/b")
    filler = agent.path / "filler"
    with agent.connect() as peer:
        peer.hello()
        peer.call("get", {"name": "a/b"})
        with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
            deque((file.write(b"\0" * 512) for _ in range(10_000)), maxlen=0)
        replies = [peer.ask("get", {"name": "a/b"}) for _ in range(40)]
        assert "error" in replies[-1]
        assert replies[-1]["error"]["code"] == "unavailable"
        assert peer.call("status")["audit"]["state"] != "ok"
        filler.unlink()
        assert peer.call("get", {"name": "a/b"})["fields"]["value"] == value
        assert peer.call("audit-verify")["ok"]
        served = sum("ok" in reply for reply in replies) + 2
    records = (agent.path / "audit.jsonl").read_bytes().splitlines()
    granted = [each for each in map(json.loads, records) if each.get("lease") and each["fields"]]
    assert len(granted) == served


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
