"""Abuse cases 11 to 13, 15, 16, 20, 56 and 57: what is stored, decided by and recorded."""

import json
import resource
import shutil
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from secret_agent.audit.verify import verify
from secret_agent.store import keys
from secret_agent_client.errors import DeniedError, InvalidError
from support.agent import Agent
from support.audit import write
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
