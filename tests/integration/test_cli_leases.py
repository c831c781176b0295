"""`leases`, `who`, `renew`, `revoke`, `delegate`, `scopes`, `policy`, `audit` with a real agent."""

import json
import os
import select
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support.agent import Agent

ME = [sys.executable, "-m", "secret_agent_client"]
LEASE_KEYS = {
    "id", "secret", "fields", "holder", "binding", "issued_at", "expires_at", "uses_left",
    "provider_lease", "state",
}  # fmt: skip  # CLI.md's list
HOLDER_KEYS = {"uid", "pid", "exe", "cwd", "tty", "shell", "container", "ci"}


def _json(agent: Agent, *args: str, **more: Any) -> Any:
    return json.loads(agent.cli(*args, "--json", check=True, **more).stdout)


def _lease(agent: Agent, name: str, *args: str) -> str:
    agent.put(name)
    return str(_json(agent, "get", name, *args)["lease"]["id"])


def _ancestors() -> list[int]:
    """This process and those above it."""
    found = [os.getpid()]
    while found[-1] > 1:
        status = Path(f"/proc/{found[-1]}/stat").read_text()
        found.append(int(status.rpartition(")")[2].split()[1]))
    return found


def test_a_get_leaves_a_lease_that_is_listed_with_the_documented_keys(shared: Agent) -> None:
    lease = _lease(shared, "l/a", "--ttl", "5m")
    (found,) = [each for each in _json(shared, "leases") if each["id"] == lease]
    assert found.keys() >= LEASE_KEYS
    assert found["holder"].keys() >= HOLDER_KEYS
    assert (found["secret"], found["fields"], found["state"]) == ("l/a", ["value"], "active")
    table = shared.cli("leases", check=True).stdout.decode()
    assert lease in table
    assert "4m" in table


def test_who_names_the_living_process_that_holds_it(shared: Agent) -> None:
    _lease(shared, "l/who")
    (holder,) = _json(shared, "who", "secret://l/who")
    # The command's lease is bound to the shell above it, or to what started it.
    assert holder["pid"] in _ancestors()
    assert {"secret", "exe", "since", "until", "channel"} <= holder.keys()
    assert f"[{holder['pid']}]" in shared.cli("who", "l/who", check=True).stdout.decode()
    assert _json(shared, "who", "l/nobody") == []


def test_renewal_never_passes_the_maximum_and_says_so(shared: Agent) -> None:
    lease = _lease(shared, "l/renew", "--ttl", "1m")
    assert 100 < _json(shared, "renew", lease, "--ttl", "2m")["ttl_s"] <= 120
    done = shared.cli("renew", lease, "--ttl", "2d", check=True)
    assert b"the most that its rule allows" in done.stderr
    assert shared.cli("renew", "l-0000000000000000").returncode == 5
    assert shared.cli("renew", lease, "--ttl", "0").returncode == 2


def test_revoke_by_id_glob_holder_and_all(shared: Agent) -> None:
    one, two, other = (_lease(shared, name) for name in ("rv/a", "rv/b", "other/c"))
    assert _json(shared, "revoke", one) == {
        "ended": [one],
        "scopes": [],
        "upstream": [],
        "queued": [],
    }
    assert shared.cli("revoke", one).returncode == 5
    assert _json(shared, "revoke", "--secret", "rv/*")["ended"] == [two]
    assert b"ended here: 0 leases" in shared.cli("revoke", "--secret", "rv/*", check=True).stderr
    (holder,) = {each["pid"] for each in _json(shared, "who", "other/c")}
    assert other in _json(shared, "revoke", "--holder", str(holder))["ended"]
    _lease(shared, "rv/a")
    shared.cli("revoke", "--all", check=True)
    assert _json(shared, "leases") == []


def test_a_scope_serves_what_it_allows_until_it_is_revoked(shared: Agent, tmp_path: Path) -> None:
    value, denied = shared.put("sc/a"), shared.put("sc/denied")
    path = tmp_path / "s.sock"
    scope = _json(
        shared, "delegate", "--allow", "sc/*", "--deny", "sc/denied", "--ttl", "10m",
        "--max-uses", "3", "--socket", str(path),
    )  # fmt: skip  # a command line
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    (listed,) = _json(shared, "scopes")
    assert (listed["id"], listed["socket"], listed["uses_left"]) == (scope["id"], str(path), 3)
    assert scope["id"] in shared.cli("scopes", check=True).stdout.decode()
    inside = {"SECRET_AGENT_SOCK": str(path)}
    assert shared.cli("get", "sc/a", env=inside, check=True).stdout == value
    assert shared.cli("get", "sc/denied", env=inside).returncode == 5
    assert [each["name"] for each in _json(shared, "ls", env=inside)] == ["sc/a"]
    assert shared.cli("set", "sc/a", "--generate", env=inside).returncode != 0
    assert shared.cli("revoke", "--all", env=inside).returncode != 0
    assert denied
    shared.cli("revoke", scope["id"], check=True)
    assert shared.cli("get", "sc/a", env=inside).returncode == 6
    assert not path.exists()


def test_without_a_command_the_path_or_assignments_are_printed(
    shared: Agent, tmp_path: Path
) -> None:
    path = tmp_path / "p.sock"
    done = shared.cli("delegate", "--allow", "sc/*", "--socket", "p.sock", cwd=tmp_path, check=True)
    assert done.stdout.decode() == f"{path}\n"
    assert done.stderr.decode().startswith("scope s-")
    again = shared.cli("delegate", "--allow", "sc/*", "--socket", str(path))
    assert (again.returncode, b"served at that socket already" in again.stderr) == (7, True)
    shared.cli("revoke", "--all", check=True)
    done = shared.cli(
        "delegate", "--allow", "sc/*", "--socket", str(path), "--shell", "posix", check=True
    )
    assert done.stdout.decode() == f"SECRET_AGENT_SOCK='{path}'; export SECRET_AGENT_SOCK;\n"
    shared.cli("revoke", "--all", check=True)


def test_a_scope_can_be_opened_to_a_group_on_purpose(shared: Agent, tmp_path: Path) -> None:
    path = tmp_path / "g.sock"
    before = os.umask(0o077)
    try:
        shared.cli("delegate", "--allow", "a", "--socket", str(path), "--mode", "0660", check=True)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    shared.cli("revoke", "--all", check=True)


@pytest.mark.parametrize(
    ("script", "status"), [("exit 7", 7), ("kill -TERM $$", 143), ("exit 0", 0)]
)
def test_a_scope_with_a_command_ends_with_it_and_its_status_is_ours(
    shared: Agent, script: str, status: int
) -> None:
    value = shared.put("cmd/a")
    shared.put("uncmd/b")
    inner = f'for ref in cmd/a uncmd/b; do "$0" -m secret_agent_client get $ref; done; {script}'
    done = shared.cli(
        "delegate", "--allow", "cmd/*", "--", "sh", "-c", inner, sys.executable, reveals=True
    )
    assert (done.returncode, done.stdout) == (status, value)
    assert b"no such secret" in done.stderr
    assert _json(shared, "scopes") == []


@pytest.mark.parametrize(
    ("command", "status"), [("no-such-program", 127), ("/etc/passwd", 126), ("/", 126)]
)
def test_a_command_that_cannot_run_is_126_or_127(shared: Agent, command: str, status: int) -> None:
    assert shared.cli("delegate", "--allow", "a", "--", command).returncode == status
    assert _json(shared, "scopes") == []


def test_a_scope_that_is_refused_is_125_and_leaves_no_socket(agent: Agent, tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    words = ("delegate", "--allow", "a", "--socket", str(path), "--no-input")
    assert agent.cli(*words, "--", "true").returncode == 125
    assert agent.cli(*words).returncode == 3
    assert not path.exists()


def test_signals_reach_the_command(shared: Agent, tmp_path: Path) -> None:
    # POSIX: a trapped signal ends `wait` at once.
    script = "trap 'kill $!; exit 9' USR1; sleep 60 & echo ready; wait"
    with subprocess.Popen(
        [*ME, "delegate", "--allow", "a", "--", "sh", "-c", script],
        stdout=subprocess.PIPE,
        env=shared.environment(),
        cwd=tmp_path,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        child.send_signal(signal.SIGUSR1)
        assert child.wait(20) == 9


def test_policy_shows_explains_and_checks(shared: Agent, tmp_path: Path) -> None:
    shown = _json(shared, "policy", "show")
    assert shown.keys() >= {"source", "digest", "rules"}
    text = shared.cli("policy", "show", check=True).stdout.decode()
    assert all(f"rule {rule['id']}" in text for rule in shown["rules"])
    told = _json(shared, "policy", "explain", "pol/a")
    assert told["decision"]["effect"] == "allow"
    text = shared.cli("policy", "explain", "pol/a", check=True).stdout.decode()
    assert text.startswith(f"read pol/a: allow (rule {told['decision']['rule']})\n")
    bad = tmp_path / "bad.toml"
    bad.write_text('version = 1\n[[rule]]\nid = "a"\neffect = "allow"\nsecretz = ["*"]\n')
    done = shared.cli("policy", "check", str(bad))
    assert (done.returncode, f"{bad}:5:" in done.stderr.decode()) == (2, True)
    told = json.loads(shared.cli("policy", "check", str(bad), "--json").stdout)
    assert (told["ok"], told["problems"][0]["line"]) == (False, 5)
    good = tmp_path / "good.toml"
    good.write_text(
        'version = 1\n[[rule]]\nid = "a"\neffect = "deny"\nsecrets = ["x/*"]\nactions = ["read"]\n'
    )
    assert shared.cli("policy", "check", str(good), check=True).stdout == b""
    assert shared.cli("--json", "policy", "check", str(good), check=True).stdout.startswith(b"{")


def test_audit_shows_decisions_by_secret_holder_and_time(shared: Agent) -> None:
    _lease(shared, "au/a", "--reason", "because\x1b[2J I can")
    records = _json(shared, "audit", "show", "--secret", "au/*", "--since", "1h")
    assert [record["action"] for record in records] == ["write", "read"]
    assert {record["secret"] for record in records} == {"au/a"}
    text = shared.cli("audit", "show", "--secret", "au/a", check=True).stdout.decode()
    assert "because\\x1b[2J I can" in text
    assert len(text.split("\n")) == 3
    assert _json(shared, "audit", "show", "--holder", "1") == []


def test_audit_verify_prints_the_head_or_names_the_first_bad_record(agent: Agent) -> None:
    agent.unlock()
    agent.put("au/v")
    done = agent.cli("audit", "verify", check=True)
    head = done.stdout.decode().strip()
    assert len(head) == 64
    assert _json(agent, "audit", "verify") | {"records": 0} == {
        "ok": True,
        "records": 0,
        "head": head,
        "first_bad": None,
    }
    log = agent.path / "audit.jsonl"
    log.write_bytes(log.read_bytes().replace(b'"allow"', b'"denyy"', 1))
    done = agent.cli("audit", "verify")
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"first at audit.jsonl, line " in done.stderr


def test_audit_tail_tells_of_each_decision_as_it_is_made(agent: Agent) -> None:
    agent.unlock()
    agent.put("ta/a")
    with subprocess.Popen(
        [*ME, "audit", "tail", "--secret", "ta/*", "--json"],
        stdout=subprocess.PIPE,
        env=agent.environment(),
        cwd=agent.path,
    ) as tail:
        assert tail.stdout is not None
        while not select.select([tail.stdout], [], [], 0)[0]:  # until it has subscribed
            assert tail.poll() is None
            agent.cli("get", "ta/a", check=True)
        record = json.loads(tail.stdout.readline())
        assert (record["secret"], record["action"], record["outcome"]) == ("ta/a", "read", "allow")
        assert record["holder"]["uid"] == os.geteuid()
        agent.stop()
        assert tail.wait(20) == 0
