"""Deny wins, no match denies, order does not matter, and an explanation says what the decision
says.
"""

import os
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secret_agent.model import Holder, Limits, Request
from secret_agent.policy.built_in import BUILT_IN, NOTHING
from secret_agent.policy.decide import decide
from secret_agent.policy.explain import explain
from secret_agent.policy.rules import HolderCondition, Policy, Rule
from support.holders import holder

ME = holder(uid=os.geteuid())


def request(secret: str | None = "payments/db", **more: Any) -> Request:  # noqa: S107  # a name
    values: dict[str, Any] = {"holder": ME, "action": "read", "secret": secret}
    return Request(**(values | more))


def policy(*rules: Rule) -> Policy:
    return Policy(rules, "test")


@pytest.mark.parametrize("action", ["read", "write", "list", "rotate"])
def test_the_built_in_policy_gives_ones_own_processes_the_store_for_an_hour(action: str) -> None:
    decision = decide(BUILT_IN, request(action=action))
    assert (decision.effect, decision.rule) == ("allow", "builtin-own-processes")
    assert decision.limits == Limits(ttl_s=3600)
    assert decision.policy_digest == BUILT_IN.digest


@pytest.mark.parametrize("action", ["revoke", "delegate", "admin"])
def test_the_built_in_policy_gives_control(action: str) -> None:
    assert decide(BUILT_IN, request(None, action=action)).rule == "builtin-own-control"


def test_without_a_terminal_it_is_the_same() -> None:
    assert decide(BUILT_IN, request(holder=replace(ME, tty=None))).allowed


@pytest.mark.parametrize(
    ("stranger", "condition"),
    [
        (replace(ME, uid=os.geteuid() + 1), "uid is"),
        (replace(ME, container="c0ffee"), "container is c0ffee"),
        (replace(ME, foreign_namespaces=("user", "mnt")), "container is another user, mnt"),
    ],
)
def test_others_get_nothing_and_are_told_why(stranger: Holder, condition: str) -> None:
    for each in (request(holder=stranger), request(None, holder=stranger, action="admin")):
        decision = decide(BUILT_IN, each)
        assert not decision.allowed
        assert condition in decision.because


def test_root_gets_nothing_from_another_users_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert decide(BUILT_IN, request(holder=holder(uid=1000))).allowed
    assert not decide(BUILT_IN, request(holder=holder(uid=0))).allowed


def test_other_providers_need_a_rule() -> None:
    assert not decide(BUILT_IN, request(provider="vault")).allowed


def test_a_container_is_told_of_scopes() -> None:
    decision = decide(BUILT_IN, request(holder=replace(ME, container="c0ffee")))
    assert decision.remedy == "secret-agent delegate --allow 'payments/db' --socket PATH"


def test_a_wrong_stage_is_told_of_a_right_one() -> None:
    rules = policy(Rule("dev", "allow", secrets=("payments/*",), stages=("dev", "test")))
    decision = decide(rules, request(stage="prod"))
    assert "stages is prod, not dev or test" in decision.because
    assert decision.remedy == "secret-agent get 'payments/db?stage=dev'"


def test_a_reason_is_wanted_where_the_rule_wants_one() -> None:
    rules = policy(Rule("r", "allow", limits=Limits(reason=True)))
    refused = decide(rules, request())
    assert (refused.effect, refused.rule) == ("deny", "r")
    assert refused.remedy is not None
    assert "--reason" in refused.remedy
    assert decide(rules, request(reason="deploy")).allowed


def test_no_rules_and_a_broken_file_deny() -> None:
    assert decide(policy(), request()).because == "no rule allows anything"
    assert not decide(NOTHING, request()).allowed
    assert decide(NOTHING, request(None, action="admin")).allowed


def test_a_denys_trailing_star_covers_what_lies_deeper_and_an_allows_does_not() -> None:
    deep = request("prod/eu/db")
    everything = Rule("all", "allow", secrets=("**",))
    assert not decide(policy(everything, Rule("d", "deny", secrets=("prod/*",))), deep).allowed
    assert not decide(policy(Rule("a", "allow", secrets=("prod/*",))), deep).allowed


def test_the_most_generous_allow_decides() -> None:
    short = Rule("short", "allow", limits=Limits(ttl_s=60))
    long = Rule("long", "allow", limits=Limits(ttl_s=600, uses=3))
    assert decide(policy(short, long), request()).rule == "long"


@pytest.mark.parametrize(
    ("condition", "fits"),
    [
        ({"exe": ("/usr/bin/*",)}, True),
        ({"exe": ("/bin/*",)}, False),
        ({"cwd": ("/home/**",)}, True),
        ({"cwd": ("/home/*/src",)}, False),
        ({"tty": True}, True),
        ({"tty": False}, False),
        ({"uids": ()}, True),
        ({"uids": (12345678,)}, False),
        ({"container": None}, True),
        ({"container": True}, False),
    ],
)
def test_each_condition_counts(condition: dict[str, Any], fits: bool) -> None:  # noqa: FBT001  # a table's column
    only = Rule("r", "allow", holder=HolderCondition(**condition))
    assert decide(policy(only), request()).allowed is fits


def test_what_cannot_be_seen_fits_no_path() -> None:
    only = Rule("r", "allow", holder=HolderCondition(exe=("/**",), cwd=("/**",)))
    decision = decide(policy(only), request(holder=replace(ME, exe="", cwd="")))
    assert "exe is unknown" in decision.because


# -- properties over random policies -----------------------------------------------------------

_NAMES = st.sampled_from(["a", "a/b", "a/b/c", "b/c", "prod/db"])
_RULES = st.builds(
    Rule,
    id=st.text("abcdefgh", min_size=1, max_size=6),
    effect=st.sampled_from(["allow", "deny"]),
    secrets=st.lists(st.sampled_from(["a", "a/*", "**", "*/b", "prod/**", "b/?"]), max_size=2).map(
        tuple
    ),
    stages=st.lists(st.sampled_from(["", "dev", "prod"]), max_size=2).map(tuple),
    actions=st.lists(st.sampled_from(["read", "list", "admin"]), max_size=2).map(tuple),
    holder=st.builds(
        HolderCondition,
        uids=st.sampled_from([None, (), (5,)]),
        tty=st.sampled_from([None, True, False]),
        container=st.sampled_from([None, True, False]),
    ),
    limits=st.builds(Limits, ttl_s=st.integers(1, 9), uses=st.one_of(st.none(), st.integers(1, 5))),
)
_POLICIES = st.lists(_RULES, max_size=6, unique_by=lambda each: each.id)
_REQUESTS = st.builds(
    Request,
    holder=st.sampled_from([ME, replace(ME, tty=None), replace(ME, container="c"), holder(uid=5)]),
    action=st.sampled_from(["read", "list", "write", "admin"]),
    secret=st.one_of(st.none(), _NAMES),
    stage=st.sampled_from(["", "dev", "prod"]),
)


@given(_POLICIES, _RULES, _REQUESTS)
def test_adding_a_deny_never_widens(rules: list[Rule], more: Rule, asked: Request) -> None:
    before = decide(policy(*rules), asked)
    after = decide(policy(*rules, replace(more, effect="deny")), asked)
    assert before.allowed or not after.allowed


@given(_POLICIES, st.randoms(use_true_random=False), _REQUESTS)
def test_the_order_of_rules_does_not_matter(rules: list[Rule], random: Any, asked: Request) -> None:
    shuffled = list(rules)
    random.shuffle(shuffled)
    one, two = decide(policy(*rules), asked), decide(policy(*shuffled), asked)
    assert (one.effect, one.limits) == (two.effect, two.limits)
    assert policy(*rules).digest == policy(*shuffled).digest


@given(_POLICIES, _REQUESTS)
def test_explanation_and_decision_never_disagree(rules: list[Rule], asked: Request) -> None:
    explained = explain(policy(*rules), asked)
    assert explained.decision == decide(policy(*rules), asked)
    shown = explained.as_json()
    matched = [each for each in shown["rules"] if each["matched"]]
    denies = [each for each in matched if each["effect"] == "deny"]
    assert explained.decision.allowed == bool(matched and not denies)
    assert (shown["nearest"] is None) == (
        explained.decision.allowed or not any(each.effect == "allow" for each in rules)
    )


@given(_POLICIES, _REQUESTS)
def test_the_index_leaves_out_no_rule_that_matters(rules: list[Rule], asked: Request) -> None:
    found = policy(*rules).about(asked)
    assert all(rule in found for rule in rules if not rule.failed(asked))
