"""`get`, `set`, `ls`, `describe`, `history`, `rm`, `restore` against a real agent."""

import base64
import json
from typing import Any

import pytest

from support.agent import Agent, Home
from support.terminal import Terminal


def _json(agent: Home, *args: str, **more: Any) -> Any:
    done = agent.cli(*args, "--json", check=True, **more)
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    "value",
    [b"v" * 8, b"with a newline\n", b"\r\n\t \x00\xff\xfe", "ключ 🔑".encode(), b"x" * 300_000],
    ids=["plain", "newline", "binary", "unicode", "large"],
)
def test_a_value_comes_back_byte_for_byte(shared: Agent, value: bytes) -> None:
    shared.cli("set", "exact/v", "--stdin", input=value, check=True)
    assert shared.cli("get", "exact/v", "--ttl", "1m", check=True).stdout == value


def test_json_tells_value_and_lease_with_exactly_the_documented_keys(shared: Agent) -> None:
    value = shared.put("json/a")
    found = _json(shared, "get", "json/a", "--ttl", "90s", "--reason", "a test")
    assert list(found) == ["reference", "version", "type", "fields", "lease"]
    assert list(found["lease"]) == ["id", "expires_at", "renewable"]
    assert found["fields"] == {"value": value.decode()}
    assert (found["reference"], found["version"], found["type"]) == (
        "secret://json/a",
        1,
        "generic",
    )


def test_bytes_that_are_no_text_are_base64_in_json(shared: Agent) -> None:
    shared.cli("set", "json/b", "--stdin", input=b"\xff\x00", check=True)
    value = _json(shared, "get", "json/b")["fields"]["value"]
    assert value == {"base64": base64.b64encode(b"\xff\x00").decode()}


def test_without_a_field_json_has_them_all_and_with_one_that_alone(shared: Agent) -> None:
    password = shared.plant()
    shared.cli("set", "f/db", "username=me", "--stdin", "--type", "login", input=password)
    assert set(_json(shared, "get", "f/db")["fields"]) == {"username", "password"}
    assert _json(shared, "get", "f/db#username")["fields"] == {"username": "me"}
    assert shared.cli("get", "f/db", check=True).stdout == password
    assert shared.cli("get", "f/db#username", check=True).stdout == b"me"


def test_versions_and_stages_are_told_apart(shared: Agent) -> None:
    for value in (b"first-version", b"second-version"):
        shared.cli("set", "v/s", "--stdin", input=value, check=True)
    shared.cli("set", "v/s", "--stage", "prod", "--stdin", input=b"production", check=True)
    shared.cli("set", "v/s?stage=test", "--stdin", input=b"testing-it", check=True)
    values = {ref: shared.cli("get", ref, check=True).stdout for ref in (
        "v/s", "v/s?version=1", "secret://v/s?stage=prod", "v/s?stage=test"
    )}  # fmt: skip  # one table
    assert values == {
        "v/s": b"second-version",
        "v/s?version=1": b"first-version",
        "secret://v/s?stage=prod": b"production",
        "v/s?stage=test": b"testing-it",
    }
    listed = _json(shared, "ls", "v/*")
    assert sorted(str(each["stage"]) for each in listed) == ["None", "prod", "test"]
    assert [each["stage"] for each in _json(shared, "ls", "v/*", "--stage", "prod")] == ["prod"]


def test_the_refusal_says_the_right_way(shared: Agent) -> None:
    done = shared.cli("set", "arg/y", "hunter2hunter2")
    assert done.stderr.decode() == (
        "secret-agent: a value is never an argument: every process on this machine could read it\n"
        "  try: secret-agent set arg/y --stdin\n"
    )
    done = shared.cli("set", "arg/y", "username=me")
    assert "try: secret-agent set arg/y --type login username=…" in done.stderr.decode()


def test_fields_can_come_as_json_on_stdin(shared: Agent) -> None:
    text, binary = shared.plant(), shared.plant(b"\xf0\xf1cnrybinary")
    fields = {"user": text.decode(), "n": 7, "b": {"base64": base64.b64encode(binary).decode()}}
    shared.cli("set", "j/s", "--json-stdin", input=json.dumps(fields), check=True)
    assert shared.cli("get", "j/s#user", check=True).stdout == text
    assert shared.cli("get", "j/s#n", check=True).stdout == b"7"
    assert shared.cli("get", "j/s#b", check=True).stdout == binary


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("[1]", "must be an object of all fields"),
        ('{"a": canary}', "line 1, column 7"),
        ('{"a": [1]}', 'the field "a" on stdin is not a text or a number'),
        ('{"a": "b", "a": "c"}', "a key stands twice"),
        ('{"a b": "c"}', "cannot stand in a field's name"),
        ("{}", "there is nothing to write"),
    ],
)
def test_bad_json_on_stdin_is_refused_without_being_shown(
    shared: Agent, given: str, message: str
) -> None:
    done = shared.cli("set", "j/bad", "--json-stdin", input=given)
    assert (done.returncode, message in done.stderr.decode()) == (2, True), done.stderr
    assert b"canary" not in done.stderr


def test_an_empty_stdin_is_no_value(shared: Agent) -> None:
    done = shared.cli("set", "e/e", "--stdin")
    assert (done.returncode, done.stderr) == (2, b"secret-agent: stdin is empty\n")


def test_a_trailing_newline_is_kept_and_told_of(shared: Agent) -> None:
    done = shared.cli("set", "n/l", "--stdin", input=b"a value\n", check=True)
    assert b"the value ends with a newline" in done.stderr
    done = shared.cli("set", "n/l", "--stdin", input=b"two\nlines\n", check=True)
    assert b"newline" not in done.stderr


@pytest.mark.parametrize(
    ("words", "field", "length"),
    [
        (("set", "g/a", "--generate"), "value", 32),
        (("set", "--generate", "g/b"), "value", 32),
        (("set", "--generate", "g/c", "username=me", "--type", "login"), "password", 32),
        (("set", "g/d", "--generate=hex:20"), "value", 40),
        (("set", "g/e", "--generate", "hex:20"), "value", 40),
        (("set", "g/f#key", "--generate=alnum:20"), "key", 20),
    ],
)
def test_a_value_can_be_generated_and_is_not_shown(
    shared: Agent, words: tuple[str, ...], field: str, length: int
) -> None:
    done = shared.cli(*words, check=True)
    assert done.stdout == b""
    assert f"{field} generated" in done.stderr.decode()
    name = next(word for word in words if word.startswith("g/")).partition("#")[0]
    assert len(shared.cli("get", f"{name}#{field}", check=True).stdout) == length


def test_set_tells_in_json_what_was_written(shared: Agent) -> None:
    done = _json(shared, "set", "s/j", "--generate", "--note", "why\x1b[31m")
    assert {"name", "version", "stage", "type", "created", "generated"} <= set(done)
    shown = shared.cli("describe", "s/j", check=True).stdout.decode()
    assert "why\\x1b[31m" in shown


@pytest.mark.parametrize("verb", ["get", "describe", "history", "rm"])
def test_what_does_not_exist_is_exit_5(shared: Agent, verb: str) -> None:
    done = shared.cli(verb, "no/such", "--json")
    assert done.returncode == 5
    assert json.loads(done.stdout)["error"]["code"] == "not-found"


def test_ls_and_describe_show_no_value(shared: Agent) -> None:
    shared.put("meta/a")  # what they say is swept for it
    listed = _json(shared, "ls", "meta/*")
    assert [each["name"] for each in listed] == ["meta/a"]
    shared.cli("ls", "meta/*", check=True)
    known = _json(shared, "describe", "meta/a")
    assert (known["primary"], known["readable"], known["stages"]) == ("value", True, [None])
    text = shared.cli("describe", "meta/a", check=True).stdout.decode()
    assert "value (primary)" in text
    assert _json(shared, "ls", "nothing/*") == []


def test_what_was_removed_can_be_restored_and_what_was_purged_cannot(shared: Agent) -> None:
    value = shared.put("r/m")
    done = shared.cli("rm", "r/m", check=True)
    assert b"restore r/m --version 1" in done.stderr
    assert shared.cli("get", "r/m").returncode == 5
    shared.cli("restore", "r/m", "--version", "1", check=True)
    assert shared.cli("get", "r/m", check=True).stdout == value
    shared.put("r/m")
    assert [each["version"] for each in _json(shared, "history", "r/m")] == [3, 2, 1]
    assert _json(shared, "rm", "r/m", "--version", "3") == {"removed": [3], "purged": False}
    assert shared.cli("get", "r/m", check=True).stdout == value
    assert _json(shared, "rm", "r/m", "--purge", "--yes")["purged"] is True
    assert shared.cli("restore", "r/m", "--version", "1").returncode == 5


def test_a_purge_needs_a_yes_and_says_how_a_script_gives_it(shared: Agent) -> None:
    shared.put("r/p")
    done = shared.cli("rm", "r/p", "--purge", "--no-input")
    assert done.returncode == 4
    assert b"try: secret-agent rm r/p --purge --yes" in done.stderr
    shared.cli("describe", "r/p", check=True)


@pytest.mark.parametrize("verb", ["get", "ls", "describe", "history", "rm", "restore", "set"])
def test_a_locked_session_is_exit_3_at_once_where_nobody_can_be_asked(
    agent: Agent, verb: str
) -> None:
    more = {"get": ("a",), "describe": ("a",), "history": ("a",), "rm": ("a",), "ls": ()}
    words = {**more, "restore": ("a", "--version", "1"), "set": ("a", "--stdin")}[verb]
    done = agent.cli(verb, *words, "--no-input", input=b"a value")
    assert done.returncode == 3, done.stderr
    assert b"secret-agent unlock" in done.stderr


def test_without_an_agent_it_is_exit_6(home: Home) -> None:
    for words in (("get", "a"), ("ls",), ("leases",), ("audit", "verify"), ("policy", "show")):
        assert home.cli(*words).returncode == 6


def test_a_field_is_asked_for_hidden_at_the_terminal(unlocked: Agent) -> None:
    value = unlocked.plant()
    argv = ["python3", "-m", "secret_agent_client", "set", "t/y", "--field", "password"]
    with Terminal(argv, env=unlocked.environment(), cwd=unlocked.path) as terminal:
        terminal.expect("t/y#password: ")
        terminal.send(value.decode() + "\r")
        terminal.expect("version 1 written")
        assert value not in terminal.seen
    assert unlocked.cli("get", "t/y#password", check=True).stdout == value


def test_on_a_terminal_a_newline_follows_the_value(unlocked: Agent) -> None:
    unlocked.cli("set", "t/n", "--stdin", input=b"shown-here", check=True)
    argv = ["python3", "-m", "secret_agent_client", "get", "t/n", "--ttl", "1m"]
    with Terminal(argv, env=unlocked.environment(), cwd=unlocked.path) as terminal:
        terminal.expect("shown-here\r\n")


@pytest.mark.slow
def test_the_first_set_makes_the_store_where_a_person_can_be_asked(agent: Agent) -> None:
    value = agent.plant()
    given = agent.path.with_suffix(".value")
    given.write_bytes(value)
    script = f'python3 -m secret_agent_client set new/a --stdin < "{given}"'
    with Terminal(["sh", "-c", script], env=agent.environment(), cwd=agent.path) as terminal:
        terminal.expect("New passphrase")
        terminal.send("correct horse battery staple\r")
        terminal.expect("again")
        terminal.send("correct horse battery staple\r")
        terminal.expect("new/a: version 1 written")
    given.unlink()
    assert agent.cli("get", "new/a", check=True).stdout == value
