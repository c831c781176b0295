"""The example of POLICY.md is a policy, and its tables name what the code knows."""

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from secret_agent.model import Request
from secret_agent.policy.built_in import BUILT_IN
from secret_agent.policy.decide import decide
from secret_agent.policy.parse import HOLDER_KEYS, LIMIT_KEYS, RULE_KEYS, parse_policy
from secret_agent.policy.rules import Policy
from support.holders import holder

TEXT = (Path(__file__).resolve().parents[3] / "agent" / "POLICY.md").read_text()


def example() -> Policy:
    block = re.search(r"```toml\n(.*?)```", TEXT, re.DOTALL)
    assert block is not None
    return parse_policy(block[1].encode(), source="POLICY.md")


def test_the_example_is_a_policy() -> None:
    assert [rule.id for rule in example().rules[:2]] == ["payments-dev", "no-prod"]


def rows() -> list[tuple[str, str, str, str]]:
    table = TEXT.partition("### Worked example")[2].partition("\n## ")[0]
    found = re.findall(r"^\| `(\w+ \S+)` \| (.*?) \| (\w+) \| (.*?) \|$", table, re.MULTILINE)
    assert len(found) > 10
    return found


def asked(what: str, given: str) -> Request:
    """The request that a row of the table tells."""
    action, name = what.split()
    said: dict[str, Any] = dict(part.split("=") for part in re.findall(r"`(.*?)`", given))
    if "cwd" in said:
        said["cwd"] = str(Path(said["cwd"]).expanduser().resolve())
    about = {key: said.pop(key) for key in ("stage", "reason") if key in said}
    seen: dict[str, Any] = {key: value or None for key, value in said.items()}
    me = holder(uid=os.geteuid(), **seen)
    return replace(Request(me, "read", name, **about), action=action)  # type: ignore[arg-type]  # a word of the table


@pytest.mark.parametrize(("what", "given", "effect", "because"), rows())
def test_the_worked_example_is_what_is_decided(
    what: str, given: str, effect: str, because: str
) -> None:
    decision = decide(example(), asked(what, given))
    assert decision.effect == effect
    assert because.strip("`") in (decision.because or str(decision.rule))


def test_every_key_and_built_in_rule_is_told() -> None:
    keys = [key for key in RULE_KEYS if key not in ("holder", "limits")]
    keys += [f"holder.{key}" for key in HOLDER_KEYS] + [f"limits.{key}" for key in LIMIT_KEYS]
    assert {key for key in keys if f"`{key}`" not in TEXT} == set()
    assert all(f"`{rule.id}`" in TEXT for rule in BUILT_IN.rules)
