"""What becomes of a mounted socket: the agent's own serves no container; a file goes stale with the
agent, a folder recovers.
"""

import json
import os
import subprocess
import sys

import pytest

from support.container_fixtures import desk, engine, first_desk, lone_desk
from support.scoped import Desk
from support.trail import following

__all__ = ["desk", "engine", "first_desk", "lone_desk"]
pytestmark = [pytest.mark.real, pytest.mark.slow]


def test_the_agents_own_socket_serves_no_container(desk: Desk) -> None:
    with desk.running(mount=desk.agent.socket) as container:
        for command in (("get", "app/db"), ("status",), ("unlock", "--no-input")):
            done = desk.inside(container, *command)
            assert (done.returncode, done.stdout) == (6, b""), (command, done)
    denied = desk.audited(event="connection", outcome="deny")
    assert len(denied) >= 1
    assert all(each["because"].startswith("peer_namespace") for each in denied)
    assert all("container" in each["holder"] for each in denied)


def test_a_mounted_folder_recovers_from_a_restart_and_a_mounted_file_says_it_is_stale(
    lone_desk: Desk,
) -> None:
    inside = "/run/secret-agent/app.sock"
    lone_desk.delegate(scope=["--allow", "app/*"])
    with (
        lone_desk.running(mount=lone_desk.folder, inside=inside) as folder,
        lone_desk.running() as file,
    ):
        assert lone_desk.inside(folder, "get", "app/db").stdout == lone_desk.value
        assert lone_desk.inside(file, "get", "app/db").stdout == lone_desk.value
        lone_desk.agent.kill()
        lone_desk.agent.start()
        stale = lone_desk.inside(file, "get", "app/db")
        lone_desk.agent.unlock()
        lone_desk.delegate(scope=["--allow", "app/*"])
        assert lone_desk.inside(folder, "get", "app/db").stdout == lone_desk.value
        still = lone_desk.inside(file, "get", "app/db")
    for done in (stale, still):
        assert (done.returncode, done.stdout) == (6, b"")
        assert b"secret-agent.sock" in done.stderr


def test_an_orderly_stop_removes_the_scopes_socket(lone_desk: Desk) -> None:
    lone_desk.delegate(scope=["--allow", "app/*"])
    assert lone_desk.socket.exists()
    assert lone_desk.agent.stop() == 0
    assert not lone_desk.socket.exists()


def test_two_containers_with_scopes_of_their_own_do_not_see_each_other(desk: Desk) -> None:
    desk.delegate(scope=["--allow", "app/*"])
    second = desk.folder / "other.sock"
    made = ["delegate", "--allow", "other/*", "--socket", str(second)]
    desk.agent.cli(*made, check=True)
    with desk.running() as one, desk.running(mount=second) as two:
        assert desk.inside(one, "get", "app/db").stdout == desk.value
        assert desk.inside(two, "get", "other/key").stdout == desk.other
        assert desk.inside(one, "get", "other/key").returncode == 5
        assert desk.inside(two, "get", "app/db").returncode == 5
        mine = json.loads(desk.inside(one, "leases", "--json", check=True).stdout)
        assert [each["secret"] for each in mine if each["secret"] != "app/db"] == []


def test_a_container_that_outlives_a_killed_delegate_gets_nothing_more(desk: Desk) -> None:
    """SIGKILL: no clean-up of the wrapper's runs, and podman and its container live on."""
    name = f"sa-left-{os.getpid()}"
    inside = desk.podman("sh", "-c", "echo up; exec sleep 600", options=["--name", name])
    made = ["delegate", "--allow", "app/*", "--socket", str(desk.socket), "--", *inside]
    try:
        with following(desk.agent) as trail:
            process = subprocess.Popen(
                [sys.executable, "-m", "secret_agent_client", *made],
                env=desk.agent.environment(**desk.engine.environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
            )
            assert process.stdout is not None
            assert process.stdout.readline() == b"up\n"
            assert desk.inside(name, "get", "app/db").stdout == desk.value
            process.kill()
            process.wait()
            process.stdout.close()
            trail.wait_for(event="scope", action="end", because="process-gone")
        assert desk.inside(name, "get", "app/db").returncode == 6
    finally:
        desk.engine.run("rm", "--force", "--time", "0", name)
