"""A policy is read strictly; each problem is told with its line and column, and all of them at
once.
"""

import pytest

from secret_agent.model import Limits
from secret_agent.policy.built_in import CONTROL
from secret_agent.policy.parse import PolicyError, parse_policy
from secret_agent.policy.rules import HolderCondition, Rule

WHOLE = """\
version = 1
[[rule]]
id      = "payments-dev"
effect  = "allow"
secrets = ["payments/*"]
stages  = ["dev", "test"]
actions = ["read"]
holder  = { uid = "self", exe = ["/usr/bin/*"], cwd = ["/src/**"], tty = true, container = false }
limits  = { ttl = "15m", uses = 10, reason = true }

[[rule]]
id = "no-prod"
effect = "deny"
secrets = ["prod/*"]
[rule.holder]
uid = [0, 1000]
container = true
"""


def test_every_key_is_read() -> None:
    policy = parse_policy(WHOLE.encode(), source="policy.toml")
    assert policy.rules == (
        Rule(
            id="payments-dev",
            effect="allow",
            secrets=("payments/*",),
            stages=("dev", "test"),
            actions=("read",),
            holder=HolderCondition(
                uids=None, exe=("/usr/bin/*",), cwd=("/src/**",), tty=True, container=False
            ),
            limits=Limits(900, 10, True),
        ),
        Rule(
            id="no-prod",
            effect="deny",
            secrets=("prod/*",),
            holder=HolderCondition(uids=(0, 1000), container=True),
        ),
        CONTROL,
    )


def test_a_deny_without_a_holder_is_about_everybody_and_an_allow_about_ones_own() -> None:
    text = 'version = 1\n[[rule]]\nid = "{0}"\neffect = "{0}"\n'
    deny = parse_policy(text.format("deny").encode(), source="x").rules[0]
    allow = parse_policy(text.format("allow").encode(), source="x").rules[0]
    assert deny.holder == HolderCondition(uids=(), container=None)
    assert allow.holder == HolderCondition(uids=None, container=False)


def test_the_home_folder_is_known_and_a_single_uid_may_stand_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", "/people/ada")
    text = rule('holder = { uid = 7, cwd = ["~/src/**"] }')
    holder = parse_policy(text.encode(), source="x").rules[0].holder
    assert (holder.uids, holder.cwd) == ((7,), ("/people/ada/src/**",))


def rule(*lines: str) -> str:
    return "\n".join(("version = 1", "[[rule]]", 'id = "a"', 'effect = "allow"', *lines))


@pytest.mark.parametrize(
    ("text", "line", "column", "says"),
    [
        ("version = 1\n[[rule]\n", 2, 7, "Expected"),
        ("\udcff", 1, 1, "not UTF-8"),
        ("", 1, 1, "version = 1 is wanted"),
        ("version = 2\n", 1, 1, "version = 1 is wanted"),
        ("version = 1\nrules = 3\n", 2, 1, "there is no rules"),
        ("version = 1\nrule = 3\n", 2, 1, "written [[rule]]"),
        ('version = 1\n[[rule]]\nid = "a"\n', 2, 1, "the rule has no effect"),
        ('version = 1\n[[rule]]\neffect = "allow"\n', 2, 1, "the rule has no id"),
        (rule("secret = []"), 5, 1, "there is no 'secret' here"),
        (rule("  secrets = []"), 5, 3, "at least one"),
        (rule('secrets = "a"'), 5, 1, "a list"),
        (rule("secrets = [1]"), 5, 1, "a string"),
        (rule('secrets = ["A"]'), 5, 1, "'A' at position 0"),
        (rule('stages = ["a b"]'), 5, 1, "' ' at position 1"),
        (rule('actions = ["reed"]'), 5, 1, "an action is one of"),
        (rule("holder = 3"), 5, 1, "holder is a table"),
        (rule("holder = { user = 1 }"), 5, 12, "there is no 'user' here"),
        (rule('holder = { tty = "yes" }'), 5, 12, "true or false"),
        (rule("holder = { uid = -1 }"), 5, 12, "a uid is"),
        (rule("holder = { uid = 1.5 }"), 5, 12, "a uid is"),
        (rule('holder = { tty = true, exe = ["usr"] }'), 5, 24, "begins with / or ~"),
        (rule('holder = { cwd = ["/a/../b"] }'), 5, 12, "has no . or .."),
        (rule("", "[rule.holder]", "", "  uid = true"), 8, 3, "a uid is"),
        (rule("limits = { uses = 0 }"), 5, 12, "a whole number from 1"),
        (rule('limits = { ttl = "soon" }'), 5, 12, "limits.ttl"),
        (rule("limits = { ttl = 1.5 }"), 5, 12, "a duration"),
        (rule("limits.reason = 1"), 5, 8, "true or false"),
        (rule("", "[[rule]]", 'id = "A"', 'effect = "deny"'), 7, 1, "'A' at position 0"),
        (rule("", "[[rule]]", 'id = "a"', 'effect = "deny"'), 7, 1, "two rules have the id 'a'"),
        (rule("", "[[rule]]", 'id = "b"', 'effect = "confirm"'), 8, 1, "confirm needs a prompt"),
        (rule("", "[[rule]]", 'id = "b"', 'effect = "alow"'), 8, 1, "it is allow or deny"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text: str, line: int, column: int, says: str) -> None:
    with pytest.raises(PolicyError) as caught:
        parse_policy(text.encode("utf-8", "surrogateescape"), source="policy.toml")
    problem = caught.value.problems[0]
    assert says in problem.message
    assert (problem.line, problem.column) == (line, column)
    assert "policy.toml is not a policy" in caught.value.message


def test_all_problems_are_told_in_the_order_of_the_text() -> None:
    with pytest.raises(PolicyError) as caught:
        parse_policy(rule("secret = 1", "stages = 1", "limits = 1").encode(), source="x")
    assert [problem.line for problem in caught.value.problems] == [5, 6, 7]
    assert "(and 2 more)" in caught.value.message


def test_the_id_of_the_built_in_control_rule_is_taken() -> None:
    with pytest.raises(PolicyError, match="two rules have the id"):
        parse_policy(rule().replace('"a"', f'"{CONTROL.id}"').encode(), source="x")


def test_their_number_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secret_agent.policy.parse.MAX_RULES", 0)
    with pytest.raises(PolicyError, match="the most is 0"):
        parse_policy(rule().encode(), source="x")
