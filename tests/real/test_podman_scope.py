"""A container that is given a scope's socket gets what the scope allows, by the same client, and
nothing else.

As root this drives rootful podman, as an ordinary user rootless podman.
"""

import json
import os
from pathlib import Path

import pytest

from support.container_fixtures import desk, engine, first_desk, lone_desk
from support.scoped import Desk, host_uid
from support.trail import following

__all__ = ["desk", "engine", "first_desk", "lone_desk"]
pytestmark = [pytest.mark.real, pytest.mark.slow]


def test_what_the_scope_allows_arrives_byte_for_byte(desk: Desk) -> None:
    done = desk.scoped("get", "app/db")
    assert (done.returncode, done.stdout) == (0, desk.value), done.stderr.decode()


def test_what_it_does_not_allow_does_not_exist_and_is_audited_with_the_container(
    desk: Desk,
) -> None:
    desk.delegate(scope=["--allow", "app/*"])
    with desk.running() as container:
        refused = desk.inside(container, "get", "other/key")
        missing = desk.inside(container, "get", "no/such")
        assert (refused.returncode, missing.returncode) == (5, 5)
        assert refused.stderr.replace(b"other/key", b"no/such") == missing.stderr
        names = json.loads(desk.inside(container, "ls", "--json", check=True).stdout)
        assert [each["name"] for each in names] == ["app/db"]
    (record,) = desk.audited(secret="other/key", outcome="deny", action="read")
    seen = record["holder"]["container"]
    assert container.startswith(seen) or seen.startswith((container, "namespace:"))
    if os.geteuid() == 0:
        assert seen == container
    assert record["holder"]["scope"].startswith("s-")


CONTROL = (
    "set app/db --generate",
    "rm app/db",
    "history app/db",
    "lock",
    "stop",
    "who",
    "audit show",
    "policy show",
    "revoke --all",
    "export",
)


def test_no_control_command_exists_inside(desk: Desk) -> None:
    desk.delegate(scope=["--allow", "**"])
    script = "; ".join(f"secret-agent {command} </dev/null; echo left $?" for command in CONTROL)
    with desk.running() as container:
        done = desk.engine.run("exec", container, "sh", "-c", script)
        assert desk.inside(container, "get", "app/db").stdout == desk.value
    told = [line for line in done.stdout.splitlines() if line.startswith(b"left ")]
    assert len(told) == len(CONTROL)
    assert b"left 0" not in told
    assert b"Traceback" not in done.stderr
    assert json.loads(desk.agent.cli("status", "--json").stdout)["state"] == "unlocked"


def test_a_scope_made_inside_is_never_wider(desk: Desk) -> None:
    def nested(*command: str) -> list[str]:
        made = ["delegate", "--allow", "**", "--socket", "/tmp/n.sock", "--"]
        return [*made, "secret-agent", *command]

    desk.delegate(scope=["--allow", "app/*"])
    with desk.running() as container:
        assert desk.inside(container, *nested("get", "app/db")).stdout == desk.value
        assert desk.inside(container, *nested("get", "other/key")).returncode == 5
        third = desk.inside(container, *nested(*nested("get", "app/db")))
        assert third.returncode == 125
        assert third.stdout == b""


def test_uses_are_counted(desk: Desk) -> None:
    desk.delegate(scope=["--allow", "app/*", "--max-uses", "1"])
    with desk.running() as container:
        assert desk.inside(container, "get", "app/db").stdout == desk.value
        spent = desk.inside(container, "get", "app/db")
        assert (spent.returncode, spent.stdout) == (8, b"")


def test_a_scope_ends_with_its_time(desk: Desk) -> None:
    with following(desk.agent) as trail:
        desk.delegate(scope=["--allow", "app/*", "--ttl", "1s"])
        trail.wait_for(event="scope", action="end", because="expired")
    assert not desk.socket.exists()


def test_a_scope_ends_with_the_session(lone_desk: Desk) -> None:
    with following(lone_desk.agent) as trail:
        lone_desk.delegate(scope=["--allow", "app/*"])
        lone_desk.agent.cli("lock", check=True)
        trail.wait_for(event="scope", action="end", because="locked")
    assert not lone_desk.socket.exists()


def test_a_container_left_running_gets_nothing_once_its_scope_has_ended(desk: Desk) -> None:
    desk.delegate(scope=["--allow", "app/*"])
    with desk.running() as container:
        assert desk.inside(container, "get", "app/db").stdout == desk.value
        (scope,) = json.loads(desk.agent.cli("scopes", "--json").stdout)
        desk.agent.cli("revoke", scope["id"], check=True)
        ended = desk.inside(container, "get", "app/db")
        assert (ended.returncode, ended.stdout) == (6, b"")
        assert b"nobody listens at /run/secret-agent.sock any more" in ended.stderr
    assert not desk.socket.exists()


def test_the_scope_ends_with_the_command(desk: Desk) -> None:
    assert desk.scoped("get", "app/db").returncode == 0
    assert not desk.socket.exists()
    assert json.loads(desk.agent.cli("scopes", "--json").stdout) == []
    assert json.loads(desk.agent.cli("leases", "--json").stdout) == []


def test_the_exit_code_of_the_command_passes_through(desk: Desk) -> None:
    assert desk.delegate(*desk.podman("sh", "-c", "exit 42")).returncode == 42


def test_a_user_inside_that_is_not_root_is_served_when_the_scope_names_it(desk: Desk) -> None:
    uid = host_uid(1000)
    scope = ["--allow", "app/*", "--uid", str(uid), "--mode", "0666"]
    done = desk.scoped("get", "app/db", options=["--user", "1000"], scope=scope)
    assert (done.returncode, done.stdout) == (0, desk.value), done.stderr.decode()


def test_a_user_inside_that_the_scope_does_not_name_is_refused(desk: Desk) -> None:
    scope = ["--allow", "app/*", "--uid", str(host_uid(1001)), "--mode", "0666"]
    done = desk.scoped("get", "app/db", options=["--user", "1000"], scope=scope)
    assert (done.returncode, done.stdout) == (6, b"")
    denied = desk.audited(event="connection", outcome="deny")
    assert denied
    assert all(each["because"].startswith("peer_uid") for each in denied)


def test_the_user_that_made_the_scope_needs_nothing_said(desk: Desk) -> None:
    """By a kept user id where podman is rootless; as root it is root inside too."""
    options = ["--user", "0"] if os.geteuid() == 0 else ["--userns", "keep-id"]
    done = desk.scoped("get", "app/db", options=options)
    assert (done.returncode, done.stdout) == (0, desk.value), done.stderr.decode()


def test_a_hardened_container_is_served_as_any_other(desk: Desk) -> None:
    hard = ["--read-only", "--cap-drop", "all", "--security-opt", "no-new-privileges"]
    done = desk.scoped("get", "app/db", options=hard)
    assert (done.returncode, done.stdout) == (0, desk.value), done.stderr.decode()


def test_run_resolves_references_inside_and_masks_them(desk: Desk) -> None:
    script = 'test "${#DB}" -gt 8 && echo connected; echo "$DB"'
    run = ("run", "--", "sh", "-c", script)
    done = desk.scoped(*run, options=["-e", "DB=secret://app/db"])
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.startswith(b"connected\n")
    assert desk.value not in done.stdout


def test_the_socket_is_what_the_scope_says_it_is(desk: Desk) -> None:
    desk.delegate(scope=["--allow", "app/*", "--mode", "0660"])
    known = desk.socket.stat()
    assert oct(known.st_mode & 0o7777) == "0o660"
    assert Path(desk.socket).is_socket()
