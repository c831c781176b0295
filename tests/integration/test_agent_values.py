"""What a live agent answers about a secret, as it is written, hidden, destroyed and restored."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from secret_agent_client.messages import MAX_SECRET, MAX_VALUE
from support.agent import Agent
from support.peer import Peer

NAME = "payments/db"


@pytest.fixture
def peer(shared: Agent) -> Iterator[Peer]:
    with shared.connect() as connected:
        connected.hello()
        for stage in ({}, {"stage": "prod"}):
            if "ok" in connected.ask("history", {"name": NAME} | stage):
                connected.call("rm", {"name": NAME, "purge": True} | stage)
        yield connected


def write(peer: Peer, value: bytes, **more: Any) -> int:
    version: int = peer.call("set", {"name": NAME, "fields": {"value": value}, **more})["version"]
    return version


def value(peer: Peer, **more: Any) -> bytes:
    found: bytes = peer.call("get", {"name": NAME, **more})["fields"]["value"]
    return found


def code(peer: Peer, verb: str, **more: Any) -> str:
    error: str = peer.refused(verb, {"name": NAME, **more})["code"]
    return error


def test_a_new_value_is_served_at_once_and_the_old_one_by_its_number_alone(peer: Peer) -> None:
    first = write(peer, b"first")
    assert [value(peer) for _ in range(3)] == [b"first"] * 3
    second = write(peer, b"second")
    assert value(peer) == b"second"
    assert (value(peer, version=first), value(peer, version=second)) == (b"first", b"second")
    assert code(peer, "get", version=second + 1) == "not-found"


def test_a_hidden_version_is_not_served_though_it_was_just_now(peer: Peer) -> None:
    first, second = write(peer, b"first"), write(peer, b"second")
    assert (value(peer), value(peer, version=second)) == (b"second", b"second")
    assert peer.call("rm", {"name": NAME, "version": second})["removed"] == [second]
    assert value(peer) == b"first"
    assert code(peer, "get", version=second) == "not-found"
    third = peer.call("restore", {"name": NAME, "version": second})["version"]
    assert third > second
    assert (value(peer), value(peer, version=third)) == (b"second", b"second")
    history = peer.call("history", {"name": NAME})["versions"]
    assert [each["version"] for each in history] == [third, second, first]
    assert [each["deleted"] for each in history] == [False, True, False]


def test_a_destroyed_secret_is_gone_with_its_leases_and_its_numbers(peer: Peer) -> None:
    peer.call("events")
    last = [write(peer, text) for text in (b"first", b"second")][-1]
    lease = peer.call("get", {"name": NAME})["lease"]["id"]
    peer.call("get", {"name": NAME, "version": 1})
    assert peer.call("rm", {"name": NAME, "purge": True})["removed"] == [1, 2]
    ended = {peer.next_event()["body"]["lease"] for _ in range(2)}
    assert lease in ended
    for verb in ("get", "describe", "history"):
        assert code(peer, verb) == "not-found"
    assert code(peer, "get", version=last) == "not-found"
    assert peer.refused("restore", {"name": NAME, "version": 1})["code"] == "not-found"
    assert peer.call("ls", {"glob": NAME})["secrets"] == []
    assert code(peer, "rm") == "not-found"


def test_removing_one_version_ends_the_leases_of_that_version(peer: Peer) -> None:
    first, second = write(peer, b"first"), write(peer, b"second")
    old = peer.call("get", {"name": NAME, "version": first})["lease"]["id"]
    new = peer.call("get", {"name": NAME, "version": second})["lease"]["id"]
    peer.call("rm", {"name": NAME, "version": first})
    alive = {lease["id"] for lease in peer.call("leases")["leases"]}
    assert (old in alive, new in alive) == (False, True)


def test_describe_tells_of_stages_versions_and_use_and_of_no_value(peer: Peer) -> None:
    write(peer, b"canary-plain")
    write(peer, b"canary-prod", stage="prod", note="of prod")
    before = int(time.time())
    value(peer, stage="prod")
    shown = peer.call("describe", {"name": NAME})
    assert (shown["stage"], shown["stages"], shown["primary"]) == (None, [None, "prod"], "value")
    assert (shown["readable"], shown["rule"]) == (True, "builtin-own-processes")
    assert (shown["type"], shown["versions"]) == ("generic", 1)
    prod = peer.call("describe", {"name": NAME, "stage": "prod"})
    assert (prod["stage"], prod["note"], prod["type"]) == ("prod", "of prod", "generic")
    assert prod["last_used"] >= time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(before))
    assert code(peer, "describe", stage="dev") == "not-found"
    assert "canary" not in repr((shown, prod))
    listed = peer.call("ls", {"glob": "payments/*", "stage": "prod"})["secrets"]
    assert [(each["name"], each["stage"]) for each in listed] == [(NAME, "prod")]


def test_a_secret_that_is_only_in_another_stage_is_described_there(peer: Peer) -> None:
    peer.call("set", {"name": "only/prod", "stage": "prod", "fields": {"value": b"x"}})
    assert peer.call("describe", {"name": "only/prod"})["stage"] == "prod"
    assert code(peer, "get", name="only/prod") == "not-found"


def test_an_expiry_holds_and_is_shown(peer: Peer) -> None:
    write(peer, b"x", expires_at=int(time.time()) + 600)
    assert value(peer) == b"x"
    write(peer, b"y", expires_at=int(time.time()) - 1)
    assert code(peer, "get") == "expired"
    assert value(peer, version=1) == b"x"
    (shown,) = peer.call("ls", {"glob": NAME})["secrets"]
    assert shown["expires_at"] < time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    assert code(peer, "set", fields={"value": b"z"}, expires_at=2**53 - 1) == "invalid"
    assert peer.call("ls", {"glob": NAME})["secrets"] == [shown]


@pytest.mark.parametrize("size", [0, 1, MAX_VALUE])
def test_values_of_every_size_come_back_byte_for_byte(peer: Peer, size: int) -> None:
    data = bytes(range(256)) * (size // 256) + b"\0" * (size % 256)
    write(peer, data)
    assert (value(peer), value(peer)) == (data, data)


def test_fields_over_their_limit_are_refused_and_nothing_is_written(peer: Peer) -> None:
    half = b"x" * (MAX_SECRET // 2)
    fields = {"a": half, "b": half}
    peer.call("set", {"name": NAME, "fields": fields})
    assert peer.call("get", {"name": NAME, "all": True})["fields"] == fields
    error = peer.refused("set", {"name": NAME, "fields": {"c": b"x"}})
    assert error["code"] == "invalid"
    assert "bytes together" in error["message"]
    assert len(peer.call("history", {"name": NAME})["versions"]) == 1


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"binding": "terminal"}, "binding is one of process, shell, session"),
        ({"channel": "telegraph"}, "channel is one of stdout"),
        ({"ttl_s": 0}, "at least 1"),
        ({"version": 0}, "at least 1"),
        ({"uses": 0}, "at least one use"),
        ({"name": "Payments"}, "name"),
        ({"field": "-x"}, "field"),
        ({"stage": "Prod!"}, "stage"),
        ({"prefer_stage": "Prod!"}, "stage"),
    ],
)
def test_a_request_that_is_wrong_names_what(peer: Peer, body: dict[str, Any], told: str) -> None:
    write(peer, b"x")
    error = peer.refused("get", {"name": NAME} | body)
    assert error["code"] == "invalid"
    assert told in error["message"]


def test_however_often_a_holder_asks_it_has_one_lease(peer: Peer) -> None:
    write(peer, b"x")
    leases = {peer.call("get", {"name": NAME})["lease"]["id"] for _ in range(100)}
    assert len(leases) == 1


def test_uses_run_out_and_say_so(peer: Peer) -> None:
    write(peer, b"x")
    left = [peer.call("get", {"name": NAME, "uses": 3})["lease"]["uses_left"] for _ in range(3)]
    assert left == [2, 1, 0]
    error = peer.refused("get", {"name": NAME, "uses": 3})
    assert (error["code"], error["try"]) == ("expired", "secret-agent leases")
