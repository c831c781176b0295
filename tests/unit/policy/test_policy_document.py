"""The example of POLICY.md is a policy, and its tables name what the code knows."""

import re
from pathlib import Path

from secret_agent.policy.built_in import BUILT_IN
from secret_agent.policy.parse import HOLDER_KEYS, LIMIT_KEYS, RULE_KEYS, parse_policy

TEXT = (Path(__file__).resolve().parents[3] / "agent" / "POLICY.md").read_text()


def test_the_example_is_a_policy() -> None:
    block = re.search(r"```toml\n(.*?)```", TEXT, re.DOTALL)
    assert block is not None
    policy = parse_policy(block[1].encode(), source="POLICY.md")
    assert [rule.id for rule in policy.rules[:2]] == ["payments-dev", "no-prod"]


def test_every_key_and_built_in_rule_is_told() -> None:
    keys = [key for key in RULE_KEYS if key not in ("holder", "limits")]
    keys += [f"holder.{key}" for key in HOLDER_KEYS] + [f"limits.{key}" for key in LIMIT_KEYS]
    assert {key for key in keys if f"`{key}`" not in TEXT} == set()
    assert all(f"`{rule.id}`" in TEXT for rule in BUILT_IN.rules)
