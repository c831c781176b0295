"""A policy is read strictly; each problem is told with its line and column, and all of them at
once.
"""

import os
from pathlib import Path

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
    text = 'version = 1\n[[rule]]\nid = "{0}"\neffect = "{0}"\nsecrets = ["a"]\n'
    deny = parse_policy(text.format("deny").encode(), source="x").rules[0]
    allow = parse_policy(text.format("allow").encode(), source="x").rules[0]
    assert deny.holder == HolderCondition(uids=(), container=None)
    assert allow.holder == HolderCondition(uids=None, container=False)


def test_the_home_folder_is_known_and_a_single_uid_may_stand_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", "/people/ada")
    text = rule('secrets = ["a"]', 'holder = { uid = 7, cwd = ["~/src/**", "~"] }')
    holder = parse_policy(text.encode(), source="x").rules[0].holder
    assert (holder.uids, holder.cwd) == ((7,), ("/people/ada/src/**", "/people/ada"))


NAMED = 'secrets = ["a"]'


def rule(*lines: str) -> str:
    return "\n".join(("version = 1", "[[rule]]", 'id = "a"', 'effect = "allow"', *lines))


@pytest.mark.parametrize(
    ("text", "line", "column", "says"),
    [
        ("version = 1\n[[rule]\n", 2, 7, "Expected"),
        ("\udcff", 1, 1, "not UTF-8"),
        ("version = true", 1, 1, "version = 1 is wanted"),
        ("rule = []", 1, 1, "version = 1 is wanted"),
        ("version = 1\n# \u00e9 \udcff", 2, 5, "not UTF-8"),
        ("a = " + "[" * 5000, 1, 1, "too deep"),
        ("a = " + "9" * 5000, 1, 1, "number too long"),
        ("version = 2\n", 1, 1, "version = 1 is wanted"),
        ("version = 1\nrules = 3\n", 2, 1, "there is no 'rules'"),
        ("version = 1\nrule = 3\n", 2, 1, "written [[rule]]"),
        ('version = 1\n[[rule]]\nid = "a"\n', 2, 1, "the rule has no effect"),
        ('version = 1\n[[rule]]\neffect = "allow"\n', 2, 1, "the rule has no id"),
        (rule("secret = []"), 5, 1, "there is no 'secret' here"),
        (rule("  secrets = []"), 5, 3, "at least one"),
        (rule('secrets = "a"'), 5, 1, "a list"),
        (rule("secrets = [1]"), 5, 12, "a string"),
        (rule('secrets = ["a", "A"]'), 5, 17, "'A' at position 0"),
        (rule('stages = ["a b"]'), 5, 11, "' ' at position 1"),
        (rule('actions = ["reed"]'), 5, 12, "an action is one of"),
        (rule("holder = 3"), 5, 1, "holder is a table"),
        (rule("holder = { user = 1 }"), 5, 12, "there is no 'user' here"),
        (rule('holder = { tty = "yes" }'), 5, 12, "true or false"),
        (rule("holder = { uid = -1 }"), 5, 12, "a uid is"),
        (rule("holder = { uid = 1.5 }"), 5, 12, "a uid is"),
        (rule('holder = { tty = true, exe = ["usr"] }'), 5, 31, "begins with / or ~"),
        (rule('holder = { cwd = ["/a/../b"] }'), 5, 19, "has no . or .."),
        (rule("", "[rule.holder]", "", "  uid = true"), 8, 3, "a uid is"),
        (rule('holder = { cwd = [""] }'), 5, 19, "begins with / or ~"),
        (rule('holder = { cwd = ["/a/"] }'), 5, 19, "no / at its end"),
        (rule('holder = { cwd = ["/a//b"] }'), 5, 19, "no // in it"),
        (rule('holder = { cwd = ["~nobody-at-all/x"] }'), 5, 19, "home folder cannot stand"),
        (rule("holder = { uid = [0, 4294967295] }"), 5, 22, "a uid is"),
        (rule(), 2, 1, "an allow names its secrets or its actions"),
        (rule('id2 = "a/b"'), 5, 1, "there is no 'id2'"),
        (rule().replace('"a"', '"a/b"'), 3, 1, "a / cannot stand"),
        (rule().replace("allow", "deny") + "\nlimits = {}", 5, 1, "a deny grants nothing"),
        (rule("limits = { uses = 0 }"), 5, 12, "a whole number from 1"),
        (rule('limits = { ttl = "soon" }'), 5, 12, "limits.ttl"),
        (rule("limits = { ttl = 1.5 }"), 5, 12, "a duration"),
        (rule("limits.reason = 1"), 5, 8, "true or false"),
        (rule(NAMED, "[[rule]]", 'id = "A"', 'effect = "deny"'), 7, 1, "'A' at position 0"),
        (rule(NAMED, "[[rule]]", 'id = "a"', 'effect = "deny"'), 7, 1, "two rules have the id 'a'"),
        (rule(NAMED, "[[rule]]", 'id = "b"', 'effect = "confirm"'), 8, 1, "confirm needs a prompt"),
        (rule(NAMED, "[[rule]]", 'id = "b"', 'effect = "alow"'), 8, 1, "it is allow or deny"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text: str, line: int, column: int, says: str) -> None:
    with pytest.raises(PolicyError) as caught:
        parse_policy(text.encode("utf-8", "surrogateescape"), source="policy.toml")
    problem = caught.value.problems[0]
    assert says in problem.message
    assert (problem.line, problem.column) == (line, column)
    assert "policy.toml is not a policy" in caught.value.message
    assert str(problem) in caught.value.message


def test_all_problems_are_told_in_the_order_of_the_text() -> None:
    with pytest.raises(PolicyError) as caught:
        parse_policy(rule("secret = 1", "stages = 1", "limits = 1").encode(), source="x")
    assert [problem.line for problem in caught.value.problems] == [5, 6, 7]
    assert "(and 2 more)" in caught.value.message


def test_what_can_be_mended_in_one_line_says_the_line() -> None:
    for text, remedy in (
        ("rule = 1", "version = 1"),
        (rule(), 'secrets = ["**"]'),
        (rule('secrets = ["a"]').replace("allow", "confirm"), 'effect = "deny"'),
    ):
        with pytest.raises(PolicyError) as caught:
            parse_policy(text.encode(), source="x")
        assert caught.value.problems[0].remedy == remedy


def test_a_home_folder_with_a_star_in_its_name_widens_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """OpenBao GHSA-59w7-v8rr-pr4p: what is put into a pattern is no pattern."""
    monkeypatch.setenv("HOME", "/home/*")
    with pytest.raises(PolicyError, match="home folder cannot stand"):
        parse_policy(rule('holder = { cwd = ["~/src"] }').encode(), source="x")


def test_the_home_folder_is_the_one_that_the_kernel_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """/home is a link to /var/home on some systems; /proc/PID/cwd tells the latter."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.setenv("HOME", str(tmp_path / "link"))
    text = rule('secrets = ["a"]', 'holder = { cwd = ["~/src"] }')
    read = parse_policy(text.encode(), source="x").rules[0].holder.cwd
    assert read == (str((tmp_path / "real").resolve() / "src"),)


def test_lines_are_counted_alike_whatever_ends_them() -> None:
    with pytest.raises(PolicyError) as caught:
        parse_policy(rule("secrets = 1").replace("\n", "\r\n").encode(), source="x")
    assert (caught.value.problems[0].line, caught.value.problems[0].column) == (5, 1)


def test_a_text_with_very_many_problems_tells_the_first_and_the_number() -> None:
    text = "version = 1\n" + "[[rule]]\nx = 1\n" * 5000
    with pytest.raises(PolicyError, match=r"\(and 14999 more\)") as caught:
        parse_policy(text.encode(), source="x")
    assert len(caught.value.problems) == 100
    assert caught.value.problems[0].line == 2


def test_all_own_uids_may_be_listed_beside_others() -> None:
    text = rule('secrets = ["a"]', 'holder = { uid = ["self", 7] }')
    policy = parse_policy(text.encode(), source="x")
    assert policy.rules[0].holder.uids == (os.geteuid(), 7)


def test_a_policy_is_the_same_however_it_is_laid_out() -> None:
    laid_out = """
        rule = [{ effect = "deny", id = 'no-prod', "secrets" = ["prod/*"],
                  holder = { uid = [1000, 0], container = true } }]
        version = 0x1 # and a comment
    """.replace("\n                  ", " ")
    other = "\n\n".join(line.strip() for line in laid_out.splitlines())
    written = "version = 1\n[[rule]]" + WHOLE.partition("[[rule]]")[2].partition("[[rule]]")[2]
    assert (
        parse_policy(other.encode(), source="x").digest
        == parse_policy(written.encode(), source="y").digest
    )


def test_the_id_of_the_built_in_control_rule_is_taken() -> None:
    with pytest.raises(PolicyError, match="two rules have the id"):
        parse_policy(rule(NAMED).replace('id = "a"', f'id = "{CONTROL.id}"').encode(), source="x")


def test_their_number_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secret_agent.policy.parse.MAX_RULES", 0)
    with pytest.raises(PolicyError, match="the most is 0"):
        parse_policy(rule().encode(), source="x")
