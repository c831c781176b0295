"""Promise 7: bad input of any kind gets a clear error that names the field and the mend.

The agent goes on, and nothing is lost.  What malformed bytes and hostile requests meet is tested
one by one in tests/fuzz; here they all come to one agent that has something to lose.
"""

import random
from typing import Any

import pytest

from secret_agent_client.messages import VERBS, check_body
from support.agent import Agent
from support.vectors import wire_vectors

NAME = "payments/db"


def test_after_all_of_it_what_was_stored_is_there(unlocked: Agent) -> None:
    value = unlocked.put(NAME)
    vectors = wire_vectors("invalid", "closed", "refused", "more")
    random.Random(7).shuffle(vectors)  # noqa: S311  # any order, but the same one each time
    for vector in vectors:
        with unlocked.connect() as peer:
            peer.hello()
            peer.send_bytes(vector.data)
    assert unlocked.call("get", {"name": NAME})["fields"] == {"value": value}
    assert unlocked.call("audit-verify")["ok"]
    unlocked.kill()
    unlocked.start()
    unlocked.unlock()
    assert unlocked.call("get", {"name": NAME})["fields"] == {"value": value}


def _wrong(kind: str) -> Any:
    return 7 if kind != "uint" else "seven"


@pytest.mark.parametrize(
    "verb", [verb for verb in VERBS.values() if verb.fields], ids=lambda verb: verb.name
)
def test_a_field_of_the_wrong_kind_is_named(verb: Any, shared: Agent) -> None:
    right = {"uint": 1, "text": "a", "bytes": b"a", "texts": ["a"]}
    needed = {name: right[f.kind] for name, f in verb.fields.items() if f.required}
    check_body(verb, needed)
    with shared.connect() as peer:
        if verb.name != "hello":
            peer.hello()
        for name, field in verb.fields.items():
            error = peer.refused(verb.name, {**needed, name: _wrong(field.kind)})
            assert error["code"] == "invalid"
            assert name in error["message"]
            if verb.name == "hello":
                break


@pytest.mark.parametrize(
    ("args", "status", "said"),
    [
        (("get", "Payments/DB"), 2, "'P' at position 0"),
        (("get", "payments//db"), 2, "an empty segment at position 9"),
        (("get", "payments/db#"), 2, "a field's name has 0 characters"),
        (("get", "payments/db?version=0"), 2, "versions count from 1"),
        (("get", "payments/db", "--ttl", "soon"), 2, "ttl"),
        (("get",), 2, "try:"),
        (("frobnicate",), 2, "try:"),
        (("get", "payments/absent"), 5, "payments/absent"),
        (("revoke", "l-0000000000000000"), 5, "no such lease"),
    ],
)
def test_a_bad_command_line_is_explained(
    args: tuple[str, ...], status: int, said: str, shared: Agent
) -> None:
    done = shared.cli(*args)
    assert done.returncode == status
    assert done.stdout == b""
    text = done.stderr.decode()
    assert said in text
    assert text.startswith("secret-agent: ")
    assert "Traceback" not in text
