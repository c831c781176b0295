"""Promise 2: a value is served over the socket and stands nowhere else.

Canaries are put wherever a value, a passphrase or a slip of the hand can enter; every error is
provoked; then every output, log and file is searched, in every form that programs print.
The sweep itself is `Home.sweep`, which runs after every test of the suite.
"""

import os
import re
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from secret_agent_client.messages import VERBS
from secret_agent_client.wire import encode
from support import canary
from support.agent import Agent, Home
from support.canary import pattern

NAME = "payments/db"


def _clean(agent: Agent) -> None:
    assert agent.sweep() == []


@pytest.mark.parametrize(
    "value",
    [
        canary.fresh(),
        canary.fresh() + b"\xff\xfe\x00",
        canary.fresh() + b"\n" + canary.fresh(),
        b'quote " backslash \\ slash / ' + canary.fresh(),
        b"\xe2\x80\xae" + canary.fresh(),
    ],
    ids=["plain", "no text", "two lines", "awkward", "bidi"],
)
def test_a_value_goes_through_every_verb_without_a_trace(unlocked: Agent, value: bytes) -> None:
    unlocked.plant(value)
    with unlocked.connect() as peer:
        peer.hello()
        peer.call("set", {"name": NAME, "fields": {"value": value}})
        peer.call("events", {"audit": True})
        got = peer.call("get", {"name": NAME})
        assert got["fields"] == {"value": value}
        sought = pattern([value])
        for verb in (
            "status",
            "ls",
            "leases",
            "who",
            "scopes",
            "audit-show",
            "policy-show",
            "doctor",
        ):
            assert sought.search(repr(peer.call(verb)).encode()) is None, verb
        for verb in ("describe", "history", "rm"):
            assert sought.search(repr(peer.call(verb, {"name": NAME})).encode()) is None, verb
        told = [repr(event) for event in peer.events]
        assert all(sought.search(event.encode()) is None for event in told)
    _clean(unlocked)


def _slips(value: bytes) -> list[bytes]:
    """Messages that hold a value where none belongs, or in a shape that is refused."""
    text = value.decode()
    slips: list[dict[str, Any]] = [
        {"id": 7, "verb": text},
        {"id": text, "verb": "get"},
        {"id": 7, "verb": "get", "body": {text: 1}},
        {"id": 7, "verb": "get", "body": {"name": f"A{text}"}},
        {"id": 7, "verb": "get", "body": {"name": "a", "field": f"-{text}"}},
        {"id": 7, "verb": "set", "body": {"name": "a", "fields": text}},
        {"id": 7, "verb": "set", "body": {"name": "a", "fields": {f"{text} ": value}}},
        {"id": 7, "verb": "set", "body": {"name": "a", "fields": {"v": value}, "type": "no-such"}},
        {"id": 7, "verb": "unlock", "body": {"passphrase": text}},
        {"id": 7, "verb": "passwd", "body": {"old": value, "new": value}},
        {"id": 7, "verb": "import", "body": {"passphrase": value}},
        {"id": 7, "verb": "export", "body": {"passphrase": value, "recipients": [text]}},
        {"id": 7, "verb": "release", "body": {"leases": [text, value]}},
    ]
    slips += [
        {"id": 7, "verb": verb.name, "body": {field: {text: value}}}
        for verb in VERBS.values()
        for field in verb.fields
    ]
    return [encode(slip) for slip in slips]


def test_no_error_on_the_wire_gives_back_what_was_sent(unlocked: Agent) -> None:
    value = unlocked.plant()
    sought = pattern([value])
    with unlocked.connect() as peer:
        peer.hello()
        for slip in _slips(value):
            peer.send_bytes(slip)
            reply = peer.next_message()
            assert reply is not None
            assert "error" in reply, "the slip was taken"
            assert sought.search(repr(reply).encode()) is None
    _clean(unlocked)


def test_no_malformed_frame_is_given_back_or_logged(unlocked: Agent) -> None:
    value = unlocked.plant()
    for damaged in (
        value,
        len(value).to_bytes(4, "big") + value,
        encode({"id": 1, "verb": "set", "body": {"name": "a", "fields": {"v": value}}})[:-1],
        b"\x00\x00\x00\x28\x81\xd9\x18" + value + b"\xcb" + value,
    ):
        with unlocked.connect() as peer:
            peer.hello()
            peer.send_bytes(damaged)
            peer.socket.shutdown(socket.SHUT_WR)
            while (message := peer.next_message()) is not None:
                assert value not in repr(message).encode()
    _clean(unlocked)


def test_no_failing_command_prints_the_value_that_it_was_given(
    unlocked: Agent, tmp_path: Path
) -> None:
    value = unlocked.plant()
    text = value.decode()
    (tmp_path / "dotenv").write_text(f"GOOD={text}\nthis is no line {text}\nexport '{text}")
    (tmp_path / "broken.json").write_text(f'{{"a": "{text}", "{text}"')
    (tmp_path / "policy.toml").write_text(f'version = 1\nx = "{text}\n')
    (tmp_path / "template").write_text(f"{text} {{{{ secret://Not/{text} }}}}")
    failing: list[tuple[tuple[str, ...], bytes]] = [
        (("set", NAME, f"password={text}"), b""),
        (("set", NAME, text, "--stdin"), b""),
        (("set", NAME, "--json-stdin"), b'{"password": "' + value),
        (("set", NAME, "--json-stdin"), b'["' + value + b'"]'),
        (("set", f"Not A Name {text}", "--stdin"), value),
        (("set", NAME, "--type", "no-such-type", "--stdin"), value),
        (("set", NAME, "--stdin"), value * 30_000),
        (("get", f"{NAME}#{text} "), b""),
        (("unlock", "--lifetime", text), b""),
        (("run", "--env", f"LD_PRELOAD={NAME}", "--", "true"), b""),
        (("run", "--env", f"X={text}!", "--", "true"), b""),
        (("import", str(tmp_path / "broken.json")), b""),
        (("inject", "-i", str(tmp_path / "template")), b""),
        (("policy", "check", str(tmp_path / "policy.toml")), b""),
        ((text,), b""),
    ]
    for args, said in failing:
        for more in ((), ("--debug",), ("--json",)):
            at = args.index("--") if "--" in args else len(args)
            done = unlocked.cli(*args[:at], *more, *args[at:], input=said)
            assert done.returncode != 0, args
    _clean(unlocked)


def test_a_wrong_passphrase_is_not_told_again(agent: Agent) -> None:
    wrong = agent.plant()
    agent.unlock()
    agent.call("lock")
    done = agent.cli_with_passphrase("unlock", passphrase=wrong)
    assert done.returncode == 4
    assert agent.call("status")["state"] == "locked"
    _clean(agent)


def test_a_child_that_cannot_start_takes_nothing_with_it(unlocked: Agent) -> None:
    value = unlocked.put(NAME)
    for command, status in (("/no/such/program", 127), ("/etc/passwd", 126)):
        done = unlocked.cli("run", "--debug", "--env", f"VALUE={NAME}", "--", command)
        assert done.returncode == status
        assert value not in done.stdout + done.stderr
    _clean(unlocked)


@pytest.mark.parametrize("ending", [signal.SIGABRT, signal.SIGSEGV, signal.SIGQUIT, signal.SIGTERM])
def test_a_crash_leaves_no_core_and_no_trace(unlocked: Agent, ending: signal.Signals) -> None:
    unlocked.put(NAME)
    unlocked.call("get", {"name": NAME})
    limits = Path(f"/proc/{unlocked.pid}/limits").read_text()
    assert re.search(r"^Max core file size +0 +0 ", limits, re.MULTILINE)
    assert unlocked.process is not None
    unlocked.process.send_signal(ending)
    unlocked.process.wait(20)
    unlocked.process = None
    assert list(unlocked.path.glob("core*")) == []
    _clean(unlocked)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may read the agent's environ")
def test_an_agent_takes_over_no_secret_of_its_starter_s_environment(home: Home) -> None:
    """An agent outlives the shell that it came from."""
    value = home.plant().decode()
    home.cli("start", env={"AWS_SECRET_ACCESS_KEY": value, "UNRELATED": value}, check=True)
    pid = home.pid_at_socket()
    assert pid is not None
    assert value.encode() not in Path(f"/proc/{pid}/environ").read_bytes()
    assert value.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
