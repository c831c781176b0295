"""Backup and restore by descriptor: all that may be read, all or nothing, and nobody held up."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from secret_agent.backup import age, bech32
from secret_agent.backup.content import write_lines
from secret_agent.store.records import Record
from secret_agent_client.messages import MAX_VALUE
from secret_agent_client.value import SecretValue
from support.agent import Agent
from support.core_agent import IDENTITY, RECIPIENT
from support.peer import Peer
from support.real import need

OTHER = bech32.encode("age-secret-key-", bytes([7]) * 32).upper().encode()
LIMITS = {"expires_at": 4_000_000_000, "rotate_due": 3_900_000_000, "note": "handle with care"}


@pytest.fixture
def peer(shared: Agent) -> Iterator[Peer]:
    """A connection to an agent whose store is empty, and whose policy is the built-in one."""
    (shared.path / "config" / "policy.toml").unlink(missing_ok=True)
    with shared.connect() as connected:
        connected.hello()
        for each in connected.call("ls")["secrets"]:
            stage = {} if each["stage"] is None else {"stage": each["stage"]}
            connected.call("rm", {"name": each["name"], "purge": True} | stage)
        yield connected


def export(peer: Peer, path: Path, **body: Any) -> dict[str, Any]:
    """The whole reply."""
    with path.open("wb") as out:
        return peer.ask("export", body or {"recipients": [RECIPIENT]}, descriptors=(out.fileno(),))


def restore(peer: Peer, path: Path, **body: Any) -> dict[str, Any]:
    """The whole reply."""
    with path.open("rb") as source:
        body = body if {"identity", "passphrase"} & set(body) else {"identity": IDENTITY} | body
        return peer.ask("import", body, descriptors=(source.fileno(),))


def write(peer: Peer, name: str, value: bytes, **more: Any) -> None:
    peer.call("set", {"name": name, "fields": {"value": value}, **more})


def value(peer: Peer, name: str, **more: Any) -> bytes:
    found: bytes = peer.call("get", {"name": name, **more})["fields"]["value"]
    return found


def names(peer: Peer) -> list[str]:
    return [each["name"] for each in peer.call("ls")["secrets"]]


def made_by_hand(path: Path, *records: Record) -> None:
    """A backup as whoever knows the recipient can write one."""
    with path.open("wb") as out:
        writer = age.encrypt(out, recipients=[RECIPIENT])
        for line in write_lines("00" * 16, records):
            writer.write(line)
        writer.finish()


def record(name: str, **more: Any) -> Record:
    values: dict[str, Any] = {
        "name": name,
        "stage": "",
        "version": 1,
        "type": "generic",
        "fields": {"value": SecretValue(name.encode())},
        "created_at": 1,
        "by": "somebody else",
        **LIMITS,
    }
    return Record(**(values | more))


def test_what_was_written_comes_back_with_its_versions_and_its_limits(
    peer: Peer, tmp_path: Path
) -> None:
    backup = tmp_path / "backup"
    write(peer, "one/a", b"first")
    write(peer, "one/a", b"second", note="rotated", expires_at=4_000_000_000)
    write(peer, "one/a", b"\x00\xff", stage="prod")
    write(peer, "one/large", b"x" * MAX_VALUE)
    assert export(peer, backup)["ok"] == {"secrets": 3, "left_out": 0}
    before = [peer.call("describe", {"name": name}) for name in ("one/a", "one/large")]
    for name, stage in (("one/a", ""), ("one/a", "prod"), ("one/large", "")):
        peer.call("rm", {"name": name, "purge": True} | ({"stage": stage} if stage else {}))
    told = restore(peer, backup)["ok"]
    assert told == {"added": 3, "updated": 0, "same": 0, "names": ["one/a", "one/large"]}
    assert (value(peer, "one/a", version=1), value(peer, "one/a")) == (b"first", b"second")
    assert value(peer, "one/a", stage="prod") == b"\x00\xff"
    assert value(peer, "one/large") == b"x" * MAX_VALUE
    for was in before:
        now = peer.call("describe", {"name": was["name"]})
        for key in ("note", "expires_at", "type", "fields", "versions", "stages"):
            assert now[key] == was[key]


def test_restored_again_nothing_changes_and_what_changed_is_updated(
    peer: Peer, tmp_path: Path
) -> None:
    backup = tmp_path / "backup"
    for text in (b"1", b"2"):
        write(peer, "one/a", text)
    write(peer, "one/b", b"b")
    export(peer, backup)
    for _ in range(2):
        told = restore(peer, backup)["ok"]
        assert told == {"added": 0, "updated": 0, "same": 2, "names": []}
    assert len(peer.call("history", {"name": "one/a"})["versions"]) == 2
    write(peer, "one/a", b"3")
    assert restore(peer, backup)["ok"]["names"] == ["one/a"]
    assert value(peer, "one/a") == b"2"
    assert len(peer.call("history", {"name": "one/a"})["versions"]) == 4


def test_every_secret_of_many_comes_back_under_its_limits(peer: Peer, tmp_path: Path) -> None:
    """CVE-2023-28531 and 2023-51384: a constraint that held for the first key of a set alone."""
    backup = tmp_path / "backup"
    many = [f"one/n{number}" for number in range(5)]
    made_by_hand(backup, *(record(name, stage=stage) for name in many for stage in ("", "prod")))
    write(peer, many[1], many[1].encode())  # the same value, without the limits
    told = restore(peer, backup)["ok"]
    assert (told["added"], told["updated"], told["same"]) == (9, 1, 0)
    listed = peer.call("ls")["secrets"]
    assert len(listed) == 10
    limits = {(each["expires_at"], each["rotate_due"], each["note"]) for each in listed}
    assert limits == {("2096-10-02T07:06:40Z", "2093-08-01T21:20:00Z", "handle with care")}


def test_limits_that_no_calendar_can_show_do_not_fail_the_list(peer: Peer, tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    made_by_hand(backup, record("one/a", expires_at=2**53 - 1, rotate_due=2**53 - 1))
    if "ok" in restore(peer, backup):
        (shown,) = peer.call("ls")["secrets"]
        assert shown["expires_at"] == "9999-12-31T23:59:59Z"
    assert peer.call("ls") is not None


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"identity": OTHER}, "denied"),
        ({"identity": b"no identity"}, "invalid"),
        ({"passphrase": b"wrong"}, "denied"),
        ({"identity": IDENTITY, "passphrase": b"both"}, "usage"),
        ({"identity": IDENTITY, "prefix": "Not A Name"}, "invalid"),
        ({"identity": IDENTITY, "prefix": "a/" * 127}, "invalid"),
    ],
)
def test_with_another_key_or_a_wrong_prefix_nothing_is_restored(
    peer: Peer, tmp_path: Path, body: dict[str, Any], code: str
) -> None:
    backup = tmp_path / "backup"
    write(peer, "one/a", b"kept")
    export(peer, backup)
    write(peer, "one/a", b"changed")
    reply = restore(peer, backup, **body)
    assert reply["error"]["code"] == code
    assert value(peer, "one/a") == b"changed"
    assert names(peer) == ["one/a"]


def test_a_cut_or_altered_backup_restores_nothing_wherever_it_is_cut(
    peer: Peer, tmp_path: Path
) -> None:
    whole, cut = tmp_path / "backup", tmp_path / "cut"
    for number in range(5):
        write(peer, f"one/n{number}", os.urandom(30_000))
    export(peer, whole)
    data = whole.read_bytes()
    for number in range(5):
        peer.call("rm", {"name": f"one/n{number}", "purge": True})
    sizes = [0, 1, 100, 200, 64 * 1024, 64 * 1024 + 300, len(data) // 2, len(data) - 1]
    for harmed in [data[:size] for size in sizes] + [data + b"x", data[:-1] + b"\x00"]:
        cut.write_bytes(harmed)
        assert restore(peer, cut)["error"]["code"] == "invalid"
        assert names(peer) == []
    assert restore(peer, whole)["ok"]["added"] == 5


def test_a_prefix_goes_before_every_name(peer: Peer, tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    write(peer, "one/a", b"a")
    write(peer, "b", b"b")
    export(peer, backup)
    for prefix in ("old", "older/"):
        assert restore(peer, backup, prefix=prefix)["ok"]["added"] == 2
    assert names(peer) == ["b", "old/b", "old/one/a", "older/b", "older/one/a", "one/a"]
    assert value(peer, "old/one/a") == b"a"


def test_what_may_not_be_read_is_left_out_and_counted(
    shared: Agent, peer: Peer, tmp_path: Path
) -> None:
    backup = tmp_path / "backup"
    for name in ("one/a", "one/b", "hidden/c", "hidden/d"):
        write(peer, name, name.encode())
    _policy(shared, 'secrets = ["hidden/**"]\nactions = ["read"]')
    before = peer.call("status")["audit"]["records"]
    assert export(peer, backup)["ok"] == {"secrets": 2, "left_out": 2}
    written = peer.call("audit-show", {"after": before})["records"]
    left = {(each.get("secret"), each["channel"]) for each in written if "channel" in each}
    assert left == {("one/a", "export"), ("one/b", "export"), (None, "export")}
    assert written[-1]["because"] == "backup of 2 of 4 secrets"
    for name in ("one/a", "one/b", "hidden/c", "hidden/d"):
        peer.call("rm", {"name": name, "purge": True})
    assert restore(peer, backup)["ok"]["names"] == ["one/a", "one/b"]


def test_where_one_may_not_be_written_none_is(shared: Agent, peer: Peer, tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    made_by_hand(backup, *(record(name) for name in ("one/a", "hidden/b", "one/c")))
    _policy(shared, 'secrets = ["hidden/**"]\nactions = ["write"]')
    before = peer.call("status")["audit"]["records"]
    error = restore(peer, backup)["error"]
    assert (error["code"], error["rule"]) == ("denied", "no")
    assert names(peer) == []
    refusals = [
        each["secret"]
        for each in peer.call("audit-show", {"after": before})["records"]
        if (each["action"], each["outcome"]) == ("write", "deny")
    ]
    assert refusals == ["hidden/b"]


def _policy(agent: Agent, denied: str) -> None:
    path = agent.path / "config" / "policy.toml"
    path.write_text(
        'version = 1\n[[rule]]\nid = "all"\neffect = "allow"\nsecrets = ["**"]\n'
        'actions = ["read", "write", "list", "admin"]\n'
        f'[[rule]]\nid = "no"\neffect = "deny"\n{denied}\n'
    )
    path.chmod(0o600)


def test_a_type_that_is_not_known_here_is_named_and_nothing_is_restored(
    peer: Peer, tmp_path: Path
) -> None:
    backup = tmp_path / "backup"
    made_by_hand(backup, record("one/a"), record("one/b", type="no-such"))
    error = restore(peer, backup)["error"]
    assert error["message"].startswith("one/b in the backup: there is no such type")
    assert names(peer) == []


@pytest.mark.parametrize(
    "body", [{}, {"recipients": []}, {"recipients": [RECIPIENT], "passphrase": b"both"}]
)
def test_a_backup_is_for_recipients_or_a_passphrase(
    peer: Peer, tmp_path: Path, body: dict[str, Any]
) -> None:
    with (tmp_path / "backup").open("wb") as out:
        reply = peer.ask("export", body, descriptors=(out.fileno(),))
    assert reply["error"]["code"] == "usage"
    assert (tmp_path / "backup").read_bytes() == b""


@pytest.mark.slow
def test_a_passphrase_s_backup_is_opened_by_that_passphrase(peer: Peer, tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    write(peer, "one/a", b"kept")
    assert export(peer, backup, passphrase=b"of the backup")["ok"]["secrets"] == 1
    write(peer, "one/a", b"changed")
    assert restore(peer, backup, passphrase=b"of the backup")["ok"]["updated"] == 1
    assert value(peer, "one/a") == b"kept"


@pytest.mark.real
def test_age_reads_our_backup_and_we_read_age_s(shared: Agent, peer: Peer, tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    identity = tmp_path / "identity.txt"
    identity.write_bytes(IDENTITY + b"\n")
    shared.plant(b"canary-of-the-backup")
    write(peer, "one/a", b"canary-of-the-backup")
    export(peer, ours)
    opened = subprocess.run(
        [need("age"), "--decrypt", "-i", identity, ours], check=True, capture_output=True
    )
    assert b'"name":"one/a"' in opened.stdout
    subprocess.run([need("age"), "-r", RECIPIENT, "-o", theirs], input=opened.stdout, check=True)
    peer.call("rm", {"name": "one/a", "purge": True})
    assert restore(peer, theirs)["ok"]["added"] == 1
    assert value(peer, "one/a") == b"canary-of-the-backup"


def test_an_empty_store_s_backup_is_one_too(peer: Peer, tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    assert export(peer, backup)["ok"] == {"secrets": 0, "left_out": 0}
    assert restore(peer, backup)["ok"] == {"added": 0, "updated": 0, "same": 0, "names": []}
