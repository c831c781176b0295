"""Promise 8: a denial says which rule, which condition, and the nearest thing the holder may do
instead.
"""

from support.agent import Agent

POLICY = """\
version = 1
[[rule]]
id = "dev"
effect = "allow"
secrets = ["eight/*"]
stages = ["dev"]
actions = ["read", "list"]
[[rule]]
id = "writes"
effect = "allow"
actions = ["write"]
[[rule]]
id = "no-root-key"
effect = "deny"
secrets = ["eight/root"]
"""


def with_policy(agent: Agent) -> None:
    for name in ("eight/a", "eight/root"):
        agent.call("set", {"name": name, "fields": {"value": b"canary-less"}, "stage": "dev"})
    path = agent.path / "config" / "policy.toml"
    path.write_text(POLICY)
    path.chmod(0o600)


def test_denials_name_rule_condition_and_alternative(unlocked: Agent) -> None:
    with_policy(unlocked)
    with unlocked.connect() as peer:
        peer.hello()
        assert peer.call("get", {"name": "eight/a", "stage": "dev"})["version"] == 1
        wrong_stage = peer.refused("get", {"name": "eight/a", "stage": "prod"})
        assert wrong_stage["code"] == "denied"
        assert "dev, fails on: stages is prod, not dev" in wrong_stage["message"]
        assert wrong_stage["try"] == "secret-agent get 'eight/a?stage=dev'"
        denied = peer.refused("get", {"name": "eight/root", "stage": "dev"})
        assert (denied["code"], denied["rule"]) == ("denied", "no-root-key")
        assert denied["try"] == "secret-agent policy explain eight/root"


def test_what_is_denied_reads_as_absent_in_listings(unlocked: Agent) -> None:
    """OpenBao GHSA-xp3c-3jw3-4vcr: LIST bypassed a more specific deny."""
    with_policy(unlocked)
    with unlocked.connect() as peer:
        peer.hello()
        assert [each["name"] for each in peer.call("ls")["secrets"]] == ["eight/a"]
        for verb in ("describe", "history"):
            hidden = peer.refused(verb, {"name": "eight/root"})
            absent = peer.refused(verb, {"name": "eight/nope"})
            assert hidden["code"] == absent["code"] == "not-found"
            assert hidden["message"].replace("root", "nope") == absent["message"]
        told = peer.refused("get", {"name": "eight/root", "stage": "dev"})
        same = peer.refused("get", {"name": "eight/root", "stage": "none-such"})
        assert told == same


def test_control_still_works_under_a_policy_that_forgot_it(unlocked: Agent) -> None:
    with_policy(unlocked)
    assert unlocked.call("status")["policy"]["rules"] == 4
    assert unlocked.call("lock")["ended"] == 0


def test_a_broken_policy_is_told_in_status_and_replaces_nothing(unlocked: Agent) -> None:
    with_policy(unlocked)
    digest = unlocked.call("status")["policy"]["digest"]
    (unlocked.path / "config" / "policy.toml").write_text("version = ")
    policy = unlocked.call("status")["policy"]
    assert policy["digest"] == digest
    assert "is not a policy" in policy["problem"]
