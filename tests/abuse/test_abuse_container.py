"""Abuse cases 36 to 40: what a container may try with a socket that it was given."""

import json
import os
import shutil
from collections.abc import Iterator

import pytest

from secret_agent_client.messages import VERBS
from support.agent import Agent
from support.container_fixtures import desk, engine, first_desk, lone_desk
from support.peer import Peer
from support.scoped import Desk, short_folder

__all__ = ["desk", "engine", "first_desk", "lone_desk"]


@pytest.fixture
def scoped(shared: Agent) -> Iterator[Peer]:
    """A peer on the socket of a scope that allows app/* alone."""
    shared.put("app/db")
    shared.put("other/key")
    folder = short_folder()
    path = folder / "app.sock"
    shared.cli("delegate", "--allow", "app/*", "--socket", str(path), check=True)
    with Peer(path) as peer:
        peer.hello()
        yield peer
    shared.call("revoke", {"all": True})
    shutil.rmtree(folder)


CONTROL = sorted(name for name, verb in VERBS.items() if not verb.scoped)


def test_36_every_control_verb_is_unknown_on_a_scoped_socket(scoped: Peer) -> None:
    """Whatever its fields hold: the table of a scope has no such verb to check them for."""
    assert len(CONTROL) > 15
    for verb in CONTROL:
        body = {"name": "app/db"} if "name" in VERBS[verb].fields else {}
        assert scoped.refused(verb, body)["code"] == "invalid", verb
    assert scoped.call("status", {})["state"] == "unlocked"


def test_36_verbs_that_do_not_exist_are_refused_and_the_socket_goes_on(scoped: Peer) -> None:
    for verb in ("", "GET", "get ", "admin", "__class__", "lock\n", "shell", "x" * 200):
        assert scoped.refused(verb)["code"] == "invalid"
    assert scoped.call("ls", {})["secrets"][0]["name"] == "app/db"


def test_36_what_a_scope_does_not_allow_reads_like_what_does_not_exist(scoped: Peer) -> None:
    """Same code, same words but for the name, same rule: nothing tells the two apart."""
    for verb in ("get", "describe"):
        denied = scoped.refused(verb, {"name": "other/key"})
        absent = scoped.refused(verb, {"name": "other/kez"})
        assert denied["code"] == absent["code"] == "not-found"
        assert json.dumps(denied).replace("other/key", "other/kez") == json.dumps(absent)


def test_36_ids_of_others_mean_nothing_on_a_scoped_socket(shared: Agent, scoped: Peer) -> None:
    """A lease id is a name and no capability."""
    with shared.connect() as peer:
        peer.hello()
        foreign = peer.call("get", {"name": "other/key"})["lease"]["id"]
        assert scoped.refused("renew", {"lease": foreign})["code"] == "not-found"
        assert scoped.ask("release", {"leases": [foreign]}).get("ok", {}).get("ended", []) == []
        assert foreign in [each["id"] for each in peer.call("leases", {})["leases"]]
    assert scoped.call("leases", {})["leases"] == []


@pytest.mark.real
@pytest.mark.slow
def test_37_root_inside_gets_nothing_from_the_agents_own_socket(desk: Desk) -> None:
    with desk.running("--privileged", mount=desk.agent.socket) as container:
        done = desk.inside(container, "get", "app/db")
    assert (done.returncode, done.stdout) == (6, b"")
    assert desk.audited(event="connection", outcome="deny")


@pytest.mark.real
@pytest.mark.slow
def test_39_a_container_of_the_same_name_gets_nothing_from_an_ended_scope(desk: Desk) -> None:
    name = f"sa-{os.getpid()}"
    first = desk.scoped("get", "app/db", options=["--name", name])
    assert first.stdout == desk.value
    desk.socket.touch()  # what a later container would have mounted
    inside = desk.podman("secret-agent", "get", "app/db", options=["--name", name])
    second = desk.engine.run(*inside[1:], check=False)
    assert (second.returncode, second.stdout) == (6, b"")


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("sharing", ["--pid=host", "--net=host", "--userns=host"])
def test_40_a_container_that_shares_a_namespace_is_still_refused(desk: Desk, sharing: str) -> None:
    """The whole runtime folder is mounted, as `docker run -v $XDG_RUNTIME_DIR:/x` does."""
    inside = "/run/secret-agent/agent.sock"
    with desk.running(sharing, mount=desk.agent.path, inside=inside) as container:
        done = desk.inside(container, "get", "app/db")
    assert (done.returncode, done.stdout) == (6, b"")


def test_t14_the_command_of_a_scope_inherits_no_descriptor(shared: Agent) -> None:
    """CVE-2024-21626: what the wrapper has open (the connection, the socket) stays with it."""
    folder = short_folder()
    listed = ["sh", "-c", "ls /proc/$$/fd; true"]
    socket = ("--socket", str(folder / "app.sock"))
    done = shared.cli("delegate", "--allow", "app/*", *socket, "--", *listed)
    shutil.rmtree(folder)
    assert done.stdout.split() == [b"0", b"1", b"2"], done.stderr.decode()


def test_40_the_agent_has_no_abstract_socket(shared: Agent) -> None:
    with open("/proc/net/unix", encoding="utf-8", errors="replace") as table:  # noqa: PTH123  # a file of the kernel
        abstract = [line for line in table if "@" in line.partition("/")[0]]
    assert [line for line in abstract if "secret" in line or str(shared.path) in line] == []
