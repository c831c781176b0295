"""Promise 6: an acknowledged write survives kill -9, and tampering is detected and named."""

import shutil
from typing import Any

import pytest

from support.agent import PASSPHRASE, Agent


def test_what_was_acknowledged_is_there_after_kill_9(unlocked: Agent) -> None:
    values = {f"six/n{number}": unlocked.plant() for number in range(20)}
    with unlocked.connect() as peer:
        peer.hello()
        for name, value in values.items():
            peer.call("set", {"name": name, "fields": {"value": value}})
    unlocked.kill()
    unlocked.start()
    unlocked.unlock()
    with unlocked.connect() as peer:
        peer.hello()
        for name, value in values.items():
            assert peer.call("get", {"name": name})["fields"]["value"] == value
        assert peer.call("audit-verify")["ok"]


def test_a_dead_agents_socket_is_replaced_and_its_leases_are_gone(unlocked: Agent) -> None:
    unlocked.put("six/a")
    unlocked.call("get", {"name": "six/a", "binding": "session"})
    unlocked.kill()
    assert unlocked.socket.exists()
    unlocked.start()
    status = unlocked.call("status")
    assert (status["state"], status["leases"]["active"]) == ("locked", 0)


def test_a_second_agent_on_the_same_socket_defers_to_the_first(unlocked: Agent) -> None:
    pid = unlocked.pid_at_socket()
    import subprocess
    import sys

    done = subprocess.run(
        [sys.executable, "-m", "secret_agent", "--home", str(unlocked.path), "--ready-fd", "1"],
        capture_output=True,
        env=unlocked.environment(),
        cwd=unlocked.path,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, b"ok\n")
    assert unlocked.pid_at_socket() == pid


def _refusal(agent: Agent) -> dict[str, Any]:
    with agent.connect() as peer:
        peer.hello()
        return peer.refused("unlock", {"passphrase": PASSPHRASE})


@pytest.mark.slow
def test_an_older_copy_of_the_store_is_named_before_anything_is_served(unlocked: Agent) -> None:
    unlocked.put("six/a")
    unlocked.call("lock")
    unlocked.stop()
    copy = unlocked.path.with_name(unlocked.path.name + "-copy")
    shutil.copytree(unlocked.path, copy)
    unlocked.start()
    unlocked.unlock()
    unlocked.put("six/b")
    unlocked.stop()
    for path in unlocked.path.glob("store.db*"):
        path.unlink()
    for path in copy.glob("store.db*"):
        shutil.copy2(path, unlocked.path / path.name)
    shutil.rmtree(copy)
    unlocked.start()
    error = _refusal(unlocked)
    assert error["code"] == "invalid"
    assert "older" in error["message"]
    assert unlocked.call("status")["state"] == "locked"


def test_a_flipped_byte_in_the_store_is_named(unlocked: Agent) -> None:
    unlocked.put("six/a")
    unlocked.stop()
    store = unlocked.path / "store.db"
    data = bytearray(store.read_bytes())
    page = len(data) // 2
    for at in range(page, len(data), 97):
        data[at] ^= 0x40
    store.write_bytes(data)
    unlocked.start()
    assert _refusal(unlocked)["code"] in ("invalid", "unavailable")


def test_a_cut_audit_log_is_found_by_the_store_s_anchor(unlocked: Agent) -> None:
    unlocked.put("six/a")
    unlocked.call("get", {"name": "six/a"})
    unlocked.stop()
    log = unlocked.path / "audit.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:3]))
    unlocked.start()
    unlocked.unlock()
    found = unlocked.call("audit-verify")
    assert not found["ok"]
    assert found["first_bad"]["what"].startswith(("truncated", "rewritten"))


def test_a_wrong_passphrase_is_denied_and_the_delay_grows(unlocked: Agent) -> None:
    import time

    unlocked.call("lock")
    with unlocked.connect() as peer:
        peer.hello()
        took = []
        for _ in range(3):
            begin = time.monotonic()
            assert peer.refused("unlock", {"passphrase": b"wrong"})["code"] == "denied"
            took.append(time.monotonic() - begin)
        assert took[2] > took[0] + 0.5
        assert peer.call("unlock", {"passphrase": PASSPHRASE})["state"] == "unlocked"
