"""Promise 1: no value leaves without an allowing decision and an audit record already written."""

import json
from pathlib import Path
from typing import Any

import pytest

from support.agent import Agent


def records(agent: Agent) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (agent.path / "audit.jsonl").read_text().splitlines()]


def test_the_record_is_on_disk_when_the_reply_comes(shared: Agent) -> None:
    shared.put("one/a")
    with shared.connect() as peer:
        peer.hello()
        for _ in range(20):
            lease = peer.call("get", {"name": "one/a", "reason": "looking"})["lease"]["id"]
            last = records(shared)[-1]
            assert (last["action"], last["outcome"], last["lease"]) == ("read", "allow", lease)
            assert (last["secret"], last["reason"], last["channel"]) == (
                "one/a",
                "looking",
                "library",
            )
            assert last["rule"] == "builtin-own-processes"
            assert last["holder"]["pid"] > 1


@pytest.mark.parametrize("harm", ["link", "folder", "gone"])
def test_where_it_cannot_be_written_nothing_is_served_and_it_recovers(
    unlocked: Agent, harm: str
) -> None:
    """Abuse case 57."""
    value = unlocked.put("one/a")
    log = unlocked.path / "audit.jsonl"
    aside = unlocked.path / "aside.jsonl"
    with unlocked.connect() as peer:
        peer.hello()
        peer.call("get", {"name": "one/a"})
        log.rename(aside)
        if harm == "link":
            log.symlink_to(aside)
        elif harm == "folder":
            log.mkdir()
        error = peer.refused("get", {"name": "one/a"})
        assert error["code"] == "unavailable"
        assert "audit log cannot be written" in error["message"]
        assert peer.call("status")["audit"]["state"] != "ok"
        _put_back(log, aside)
        assert peer.call("get", {"name": "one/a"})["fields"]["value"] == value
        assert peer.call("status")["audit"]["state"] == "ok"
        assert peer.call("audit-verify")["ok"]


def _put_back(log: Path, aside: Path) -> None:
    if log.is_dir() and not log.is_symlink():
        log.rmdir()
    else:
        log.unlink(missing_ok=True)
    aside.rename(log)


def test_a_refused_grant_leaves_no_lease(unlocked: Agent) -> None:
    """OpenBao CVE-2026-46405: an error that left its grant behind."""
    unlocked.put("one/a")
    log = unlocked.path / "audit.jsonl"
    with unlocked.connect() as peer:
        peer.hello()
        log.rename(unlocked.path / "aside")
        log.mkdir()
        peer.refused("get", {"name": "one/a"})
        assert peer.call("leases")["leases"] == []


@pytest.mark.parametrize(
    ("verb", "body"),
    [
        ("get", {"name": "none/such"}),
        ("get", {"name": "one/a", "field": "nothing"}),
        ("get", {"name": "one/a", "version": 99}),
        ("set", {"name": "one/b", "type": "postgres-login", "fields": {"password": b"x"}}),
        ("rm", {"name": "none/such"}),
    ],
)
def test_every_refusal_and_every_change_is_recorded(
    shared: Agent, verb: str, body: dict[str, Any]
) -> None:
    """OpenBao CVE-2026-46358: a path on which the record was forgotten."""
    shared.put("one/a")
    before = len(records(shared))
    with shared.connect() as peer:
        peer.hello()
        peer.refused(verb, body)
    new = [each for each in records(shared)[before:] if each.get("secret") == body["name"]]
    assert new
    assert all("holder" in each and "outcome" in each for each in new)


def test_the_chain_holds_after_all_of_it(shared: Agent) -> None:
    assert shared.call("audit-verify")["ok"]


def test_a_renewal_is_recorded_before_it_counts_and_so_is_its_refusal(unlocked: Agent) -> None:
    unlocked.put("one/a")
    log = unlocked.path / "audit.jsonl"
    aside = unlocked.path / "aside.jsonl"
    with unlocked.connect() as peer:
        peer.hello()
        lease = peer.call("get", {"name": "one/a", "ttl_s": 60})["lease"]
        assert peer.refused("renew", {"lease": lease["id"], "ttl_s": 0})["code"] == "invalid"
        last = records(unlocked)[-1]
        assert (last["outcome"], last["lease"]) == ("deny", lease["id"])
        log.rename(aside)
        log.mkdir()
        error = peer.refused("renew", {"lease": lease["id"], "ttl_s": 600})
        assert error["code"] == "unavailable"
        (shown,) = peer.call("leases")["leases"]
        assert shown["expires_at"] == lease["expires_at"]
        _put_back(log, aside)
