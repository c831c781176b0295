"""A run outlives its rule's maximum for as long as the policy would give it the same again."""

import pytest

from support.agent import Agent

RULE = """\
version = 1
[[rule]]
id = "short"
effect = "allow"
secrets = ["long/*"]
limits = { ttl = "4s" }
"""


def write_policy(agent: Agent, text: str) -> None:
    path = agent.path / "config" / "policy.toml"
    path.write_text(text)
    path.chmod(0o600)


@pytest.mark.slow
def test_a_run_asks_again_at_the_maximum_and_is_decided_on_again(unlocked: Agent) -> None:
    unlocked.put("long/a")
    write_policy(unlocked, RULE)
    done = unlocked.cli("run", "--env", "A=long/a", "--", "sh", "-c", "sleep 9; echo lived")
    assert (done.returncode, done.stdout) == (0, b"lived\n"), done.stderr
    records = unlocked.call("audit-show", {"secret": "long/a", "limit": 1000})["records"]
    reads = [each for each in records if each["action"] == "read"]
    assert len(reads) >= 3
    assert len({each["lease"] for each in reads}) == 1


@pytest.mark.slow
def test_a_policy_that_has_changed_ends_it(unlocked: Agent) -> None:
    unlocked.put("long/a")
    write_policy(unlocked, RULE)
    change = f"sed -i s/long/other/ {unlocked.path}/config/policy.toml; sleep 20; echo lived"
    done = unlocked.cli("run", "--env", "A=long/a", "--", "sh", "-c", change)
    assert (done.returncode, done.stdout) == (143, b""), done.stderr
    assert b"expired" in done.stderr
