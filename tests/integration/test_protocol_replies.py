"""A live agent answers with the keys that PROTOCOL.md tells, no fewer and no others."""

import re
import socket
from pathlib import Path
from typing import Any

import pytest

from secret_agent_client.messages import VERBS
from support.agent import PASSPHRASE, Agent
from support.tree import ROOT

PROTOCOL = (ROOT / "client" / "PROTOCOL.md").read_text()
NAME = "payments/db"

# Verbs with a body that succeeds, in an order that works on one agent.  Those with a descriptor
# and those that end the session or the agent have tests of their own below.
CALLS: list[tuple[str, dict[str, Any]]] = [
    ("hello", {"version": 1}),
    ("status", {}),
    ("set", {"name": NAME, "fields": {"username": b"app"}, "generate_field": "password"}),
    ("get", {"name": NAME, "all": True}),
    ("ls", {}),
    ("describe", {"name": NAME}),
    ("history", {"name": NAME}),
    ("leases", {}),
    ("who", {}),
    ("rm", {"name": NAME}),
    ("restore", {"name": NAME, "version": 1}),
    ("release", {"leases": ["no-such-lease"]}),
    ("revoke", {"all": True}),
    ("workdir", {}),
    ("scopes", {}),
    ("events", {}),
    ("policy-show", {}),
    ("policy-check", {"text": b"version = 1\n"}),
    ("policy-explain", {"name": NAME}),
    ("audit-show", {}),
    ("audit-verify", {}),
    ("doctor", {}),
    ("prompt-claim", {}),
    ("prompt-dismiss", {}),
    ("register", {}),
    ("unregister", {}),  # last: with the last shell the session locks
]


def _section(verb: str) -> str:
    text = PROTOCOL.partition(f"\n### {verb}\n")[2]
    return re.split(r"^##", text, flags=re.MULTILINE)[0]


def _told(verb: str) -> set[str]:
    """The keys of the reply, as the first cells of its table tell them."""
    _, found, table = _section(verb).partition("| reply | |")
    assert found or "The reply is empty." in _section(verb)
    cells = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", table, re.MULTILINE)
    return set(re.findall(r"`(\w+)`", " ".join(cells)))


def _told_of_items(verb: str) -> set[str]:
    """The keys of each map in the reply's array."""
    return set(
        re.findall(r"`(\w+)`", _section(verb).partition("array of maps: ")[2].split("\n")[0])
    )


@pytest.fixture(scope="module")
def replies() -> dict[str, dict[str, Any]]:
    """What a live agent answered to each of the calls."""
    with Agent() as agent:
        agent.unlock()
        with agent.connect() as peer:
            return {verb: peer.call(verb, body) for verb, body in CALLS}


@pytest.mark.parametrize("verb", [verb for verb, _ in CALLS])
def test_a_reply_has_the_keys_that_are_told(verb: str, replies: dict[str, dict[str, Any]]) -> None:
    told = _told(verb) | (_told_of_items("ls") if verb == "describe" else set())
    assert set(replies[verb]) == told


@pytest.mark.parametrize(
    ("verb", "key"),
    [("ls", "secrets"), ("leases", "leases"), ("who", "holders"), ("doctor", "checks")],
)
def test_what_is_listed_has_the_keys_that_are_told(
    verb: str, key: str, replies: dict[str, dict[str, Any]]
) -> None:
    items = replies[verb][key]
    assert items
    told = _told_of_items(verb)
    for item in items:
        assert set(item) <= told
        assert set(item) | {"uid", "cwd", "tty", "ci", "ok", "warn", "fail"} >= told - _inside(
            items
        )


def _inside(items: list[dict[str, Any]]) -> set[str]:
    """Keys of maps inside the items; the document tells them in the same row."""
    return {
        key for item in items for part in item.values() if isinstance(part, dict) for key in part
    }


def test_the_session_s_verbs_answer_as_told(agent: Agent) -> None:
    assert set(agent.unlock()) == _told("unlock")
    with agent.connect() as peer:
        peer.hello()
        assert peer.call("passwd", {"old": PASSPHRASE, "new": PASSPHRASE}) == {}
        assert set(peer.call("lock")) == _told("lock")
        assert set(peer.call("stop")) == _told("stop")


def test_verbs_with_a_descriptor_answer_as_told(unlocked: Agent, tmp_path: Path) -> None:
    with unlocked.connect() as peer:
        peer.hello()
        peer.call("set", {"name": NAME, "fields": {"value": unlocked.plant()}})
        lease = peer.call("get", {"name": NAME})["lease"]["id"]
        assert set(peer.call("renew", {"lease": lease})) == _told("renew")
        backup = tmp_path / "backup"
        with backup.open("w+b") as file:
            told = peer.call("export", {"passphrase": PASSPHRASE}, descriptors=(file.fileno(),))
            assert set(told) == _told("export")
            file.seek(0)
            told = peer.call("import", {"passphrase": PASSPHRASE}, descriptors=(file.fileno(),))
            assert set(told) == _told("import")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(unlocked.path / "scope.sock"))
            (unlocked.path / "scope.sock").chmod(0o600)
            listener.listen()
            told = peer.call("delegate", {"allow": [NAME]}, descriptors=(listener.fileno(),))
        assert set(told) == _told("delegate")
        scopes = peer.call("scopes")["scopes"]
        assert [set(scope) for scope in scopes] == [_told_of_items("scopes") - {"pid"}]


def test_every_verb_is_tried_here() -> None:
    own = {"unlock", "passwd", "lock", "stop", "renew", "export", "import", "delegate"}
    assert {verb for verb, _ in CALLS} | own == set(VERBS)
