"""The examples of client/PYTHON.md run as they are written, against the real agent."""

import re
import textwrap
from typing import Any

import pytest
import trio

from secret_agent_client import errors
from secret_agent_client.connection import CALL_S, DIAL_S
from support.agent import Agent
from support.tree import ROOT

pytestmark = pytest.mark.slow

DOCUMENT = (ROOT / "client" / "PYTHON.md").read_text()
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)


@pytest.fixture
def here(unlocked: Agent, monkeypatch: pytest.MonkeyPatch) -> Agent:
    """An agent with the secrets of the examples, which this process finds."""
    monkeypatch.setenv("SECRET_AGENT_HOME", str(unlocked.path))
    monkeypatch.delenv("SECRET_AGENT_SOCK", raising=False)
    fields = {"username": b"me", "password": unlocked.plant()}
    unlocked.call("set", {"name": "payments/db", "type": "login", "fields": fields})
    for name in ("a/b", "c/d"):
        unlocked.put(name)
    return unlocked


def blocking(example: str) -> bool:
    return "async " not in example


@pytest.mark.parametrize("example", [each for each in EXAMPLES if blocking(each)])
def test_a_blocking_example_runs(example: str, here: Agent) -> None:
    used: list[tuple[bytes, ...]] = []
    names: dict[str, Any] = {"use": lambda *values: used.append(values)}
    # No event comes in an example by itself: it is not waited for a minute.
    exec("import secret_agent_client\n" + example.replace("timeout_s=60", "timeout_s=0.05"), names)  # noqa: S102  # the document's own text
    assert used or "use(" not in example
    assert all(value in (*here.planted, b"me") for values in used for value in values)


def test_the_trio_example_runs(here: Agent) -> None:
    (example,) = (each for each in EXAMPLES if not blocking(each))
    used: list[bytes] = []

    async def use_later(value: Any) -> None:
        used.append(value.reveal())
        # What ends the example's last loop: the agent goes away while it listens.
        await trio.to_thread.run_sync(lambda: here.cli("stop", check=True))

    names: dict[str, Any] = {"use_later": use_later}
    exec(example, names)  # noqa: S102  # the document's own text
    with pytest.raises(errors.NoAgentError):
        trio.run(names["main"])
    assert used[0] in here.planted


def test_the_examples_are_found() -> None:
    assert len(EXAMPLES) >= 5
    assert all(compile(textwrap.dedent(example), "PYTHON.md", "exec") for example in EXAMPLES)


def test_every_error_of_the_wire_has_its_line() -> None:
    table = DOCUMENT.partition("\n## Errors")[2].partition("\n## ")[0]
    told = set(re.findall(r"`(\w+Error)`", table)) - {"SecretAgentError"}
    assert told == {kind.__name__ for kind in errors.BY_CODE.values()}


def test_the_deadlines_are_those_of_the_code() -> None:
    assert f"Dialling has {DIAL_S:.0f} seconds" in DOCUMENT
    assert f"and a call {CALL_S:.0f}." in DOCUMENT
