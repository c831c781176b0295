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
from secret_agent.policy.conditions import conditions_of, failed
from secret_agent.policy.decide import NO_REASON, decide, denial
from secret_agent.policy.explain import explain
from secret_agent.policy.rules import HolderCondition, Policy, Rule
from secret_agent.policy.table import table_of
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


@pytest.mark.parametrize(
    ("glob", "name", "denied"),
    [
        ("prod/*", "prod/db", True),
        ("prod/*", "prod/eu/west/db", True),
        ("prod/*", "prod", False),
        ("prod/*", "production/db", False),
        ("*", "prod/eu/db", True),
        ("prod/*-key", "prod/a-key", True),
        ("prod/*-key", "prod/a-key/x", False),
        ("prod", "prod/db", False),
        ("prod/**", "prod", True),
    ],
)
def test_what_a_deny_covers(glob: str, name: str, denied: bool) -> None:  # noqa: FBT001  # a table's column
    rules = policy(Rule("all", "allow"), Rule("d", "deny", secrets=(glob,)))
    assert decide(rules, request(name)).allowed is not denied


def test_a_process_that_hides_itself_does_not_escape_a_deny() -> None:
    """prctl(PR_SET_DUMPABLE, 0) makes exe and cwd unreadable; anybody may call it."""
    hidden = request(holder=replace(ME, exe="", cwd="", inspectable=False))
    for condition in (HolderCondition(exe=("/opt/bad",)), HolderCondition(cwd=("/bad/**",))):
        rules = policy(Rule("all", "allow"), Rule("d", "deny", holder=condition))
        assert decide(rules, request()).allowed
        assert decide(rules, hidden).rule == "d"


def test_a_request_about_all_secrets_is_not_allowed_by_a_rule_about_some() -> None:
    some = Rule("some", "allow", secrets=("payments/*", "*"), actions=("list",))
    everything = Rule("every", "allow", secrets=("**",), actions=("list",))
    not_all = Rule("not", "deny", secrets=("prod/*",))
    asked = request(None, action="list")
    assert not decide(policy(some), asked).allowed
    assert decide(policy(some, everything, not_all), asked).allowed


def test_a_reason_is_not_wanted_for_what_takes_none() -> None:
    rules = policy(Rule("r", "allow", limits=Limits(reason=True)))
    assert decide(rules, request(action="list")).allowed
    assert decide(rules, request(None, action="revoke")).allowed
    assert not decide(rules, request(action="write", reason="  ")).allowed


def test_a_reason_opens_what_is_more_generous_with_one() -> None:
    plain = Rule("plain", "allow", limits=Limits(ttl_s=60))
    told = Rule("told", "allow", limits=Limits(ttl_s=600, reason=True))
    assert decide(policy(plain, told), request()).rule == "plain"
    assert decide(policy(plain, told), request(reason="deploy")).rule == "told"


def test_a_denial_offers_the_folder_where_it_would_be_allowed() -> None:
    rules = policy(Rule("r", "allow", holder=HolderCondition(cwd=("/x/*/y", "/srv/pay ments/**"))))
    assert decide(rules, request()).remedy == "cd '/srv/pay ments'"
    closed = Rule("d", "deny", holder=HolderCondition(cwd=("/srv/**",)))
    assert decide(policy(*rules.rules, closed), request()).remedy == (
        "secret-agent policy explain payments/db"
    )


def test_a_stage_that_is_denied_is_not_offered() -> None:
    rules = policy(Rule("dev", "allow", stages=("dev", "test")), Rule("d", "deny", stages=("dev",)))
    assert decide(rules, request()).remedy == "secret-agent get 'payments/db?stage=test'"
    closed = policy(*rules.rules, Rule("e", "deny", stages=("test",)))
    assert decide(closed, request()).remedy == "secret-agent policy explain payments/db"


@pytest.mark.parametrize(
    ("action", "remedy"),
    [
        ("list", "secret-agent describe 'payments/db?stage=dev'"),
        ("write", "secret-agent set 'payments/db?stage=dev' --stdin"),
        ("rotate", "secret-agent policy explain payments/db"),
    ],
)
def test_what_is_offered_does_what_was_asked(action: str, remedy: str) -> None:
    rules = policy(Rule("dev", "allow", stages=("dev",)))
    assert decide(rules, request(action=action)).remedy == remedy


def test_where_no_command_takes_a_reason_explain_is_offered() -> None:
    rules = policy(Rule("r", "allow", limits=Limits(reason=True)))
    assert decide(rules, request(action="rotate")).remedy == (
        "secret-agent policy explain payments/db"
    )


def test_a_denial_is_short_whatever_the_rule_holds() -> None:
    globs = tuple(f"payments/{'x' * 200}{n}" for n in range(500))
    because = decide(policy(Rule("r", "allow", secrets=globs)), request(globs[0] + "y")).because
    assert because == "no rule allows it: none is about this secret"
    many = policy(Rule("r", "allow", secrets=("**",), stages=tuple(f"s{n}" for n in range(500))))
    assert "not s0 or s1 or s2 or s3 or 496 more" in decide(many, request()).because


def test_a_rule_that_asks_a_person_is_not_decided_by_anybody() -> None:
    with pytest.raises(AssertionError, match="nobody can be asked yet"):
        decide(policy(Rule("r", "confirm")), request())


def test_the_digest_holds_what_rules_mean_and_nothing_else() -> None:
    one = Rule("r", "allow", secrets=("a", "b"), stages=("x", "y"))
    assert policy(one).digest == policy(replace(one, secrets=("b", "a", "b"))).digest
    for other in (
        replace(one, id="s"),
        replace(one, effect="deny"),
        replace(one, secrets=("a",)),
        replace(one, stages=()),
        replace(one, actions=("read",)),
        replace(one, providers=("store",)),
        replace(one, holder=HolderCondition(tty=True)),
        replace(one, limits=Limits(ttl_s=1)),
    ):
        assert policy(one).digest != policy(other).digest


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
    limits=st.builds(
        Limits,
        ttl_s=st.integers(1, 9),
        uses=st.one_of(st.none(), st.integers(1, 5)),
        reason=st.booleans(),
    ),
)
_POLICIES = st.lists(_RULES, max_size=6, unique_by=lambda each: each.id)
_REQUESTS = st.builds(
    Request,
    holder=st.sampled_from([ME, replace(ME, tty=None), replace(ME, container="c"), holder(uid=5)]),
    action=st.sampled_from(["read", "list", "write", "admin"]),
    secret=st.one_of(st.none(), _NAMES),
    stage=st.sampled_from(["", "dev", "prod"]),
    reason=st.sampled_from([None, " ", "deploy"]),
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
    assert one == two
    assert policy(*rules).digest == policy(*shuffled).digest


@given(_POLICIES, _REQUESTS)
def test_explanation_and_decision_never_disagree(rules: list[Rule], asked: Request) -> None:
    explained = explain(policy(*rules), asked)
    assert explained.decision == decide(policy(*rules), asked)
    shown = explained.as_json()
    matched = [each for each in shown["rules"] if each["matched"]]
    denies = [each for each in matched if each["effect"] == "deny"]
    if denies or not matched:
        assert not explained.decision.allowed
    else:
        wants_reason = all(rule.limits.reason for rule, misses in explained.rules if not misses)
        has_one = asked.action in NO_REASON or (asked.reason or "").strip()
        assert explained.decision.allowed == bool(has_one or not wants_reason)
    near = [each for bucket in table_of(policy(*rules)).about(asked) for each in bucket.allows]
    assert (shown["nearest"] is None) == (explained.decision.allowed or not near)


@given(_POLICIES, _REQUESTS)
def test_the_table_leaves_out_no_rule_that_matters(rules: list[Rule], asked: Request) -> None:
    buckets = table_of(policy(*rules)).about(asked)
    found = [each.rule for bucket in buckets for each in (*bucket.denies, *bucket.allows)]
    assert all(rule in found for rule in rules if not failed(conditions_of(rule), asked))


@given(_POLICIES, _RULES, _REQUESTS)
def test_adding_an_allow_never_narrows(rules: list[Rule], more: Rule, asked: Request) -> None:
    before = decide(policy(*rules), asked)
    after = decide(policy(*rules, replace(more, effect="allow", id="zzz")), asked)
    assert after.allowed or not before.allowed
    if before.allowed:
        assert after.limits.ttl_s >= before.limits.ttl_s


@given(_POLICIES, _REQUESTS)
def test_what_a_denial_offers_is_allowed(rules: list[Rule], asked: Request) -> None:
    """Where it offers another stage or a reason: those can be tried here."""
    whole = policy(*rules)
    decision = decide(whole, asked)
    remedy = decision.remedy or ""
    if decision.allowed or asked.secret is None or remedy.startswith("secret-agent policy"):
        return
    stage = remedy.partition("?stage=")[2].partition("'")[0]
    if "--reason" in remedy:
        stage = asked.stage
    else:
        assert "get" in remedy or "describe" in remedy or "set" in remedy or "delegate" in remedy
    if "delegate" not in remedy:
        offered = replace(asked, stage=stage, reason="because")
        assert decide(whole, offered).allowed


@given(_POLICIES, _REQUESTS)
def test_a_denial_by_rule_is_what_decides(rules: list[Rule], asked: Request) -> None:
    whole = policy(*rules)
    found = denial(whole, asked)
    decision = decide(whole, asked)
    assert (found is not None) == any(
        rule.effect == "deny" and not failed(conditions_of(rule), asked) for rule in rules
    )
    assert found is None or found == decision


@given(_POLICIES, _RULES, _REQUESTS, st.sampled_from(["read", "write", "list", "rotate"]))
def test_what_a_deny_of_all_covers_is_denied_in_every_action(
    rules: list[Rule], deny: Rule, asked: Request, action: Any
) -> None:
    """OpenBao GHSA-xp3c-3jw3-4vcr: LIST went past a deny; abuse case 16."""
    deny = replace(deny, effect="deny", actions=(), id="zzz")
    whole = policy(*rules, deny)
    if not failed(conditions_of(deny), asked) and asked.action != "admin":
        assert not decide(whole, replace(asked, action=action)).allowed
