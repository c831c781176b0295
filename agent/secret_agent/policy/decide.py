"""Decide: a deny that matches wins, else an allow that matches, else no.  A pure function of
policy and request.

Of several allows the most generous that the request satisfies decides (longest ttl, then most uses,
then by id), whatever their order in the file; so another allow never narrows, and another deny
never widens.

A denial says why and what may be done instead.  What it offers has been decided too: it never sends
anybody to a command that policy would refuse.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

from secret_agent.model import Decision, Request
from secret_agent.policy.conditions import Failed, failed
from secret_agent.policy.rules import Policy, Rule
from secret_agent.policy.table import Entry, rank, table_of
from secret_agent_client.private_file import quoted

MOST_COMPARED = 64  # allow rules looked at for the nearest: a denial must stay cheap
MOST_STAGES = 8  # of one rule, tried for an alternative
NO_REASON = frozenset({"list", "revoke", "delegate", "admin"})
"""Actions that nobody can give a reason for; rules that want one grant them without."""

Nearest = tuple[Rule, tuple[Failed, ...]]


def decide(policy: Policy, request: Request) -> Decision:
    """The decision, and why."""
    decisive = _deny(policy, request) or _allow(policy, request)
    if decisive is None:
        return _unmatched(policy, request)
    if decisive.rule.effect == "deny":
        return replace(decisive.decision, remedy=_explain(request))
    if _lacks_reason(decisive.rule, request):
        return _unreasoned(policy, request, decisive.rule)
    return decisive.decision


def denial(policy: Policy, request: Request) -> Decision | None:
    """The denying decision of a deny rule, or None where none is about the request.

    For a holder that is not judged by its own standing: one that came by a scope is allowed what
    the scope's maker is allowed, and is denied what either of them is denied.
    """
    entry = _deny(policy, request)
    return None if entry is None else replace(entry.decision, remedy=_explain(request))


def nearest(policy: Policy, request: Request) -> Nearest | None:
    """The allow rule that fails the fewest conditions, and those; None where none comes near.

    Near is a rule whose globs begin as the secret's name does, or with a pattern.
    """
    allows = (each for bucket in table_of(policy).about(request) for each in bucket.allows)
    tried = [
        (each.rule, failed(each.conditions, request)) for each in islice(allows, MOST_COMPARED)
    ]
    return min(tried, key=lambda each: (_distance(each[1]), each[0].id), default=None)


def _deny(policy: Policy, request: Request) -> Entry | None:
    """The deny rule that is about the request; of several the first by id."""
    found = [
        each
        for bucket in table_of(policy).about(request)
        for each in islice(_about(bucket.denies, request), 1)
    ]
    return min(found, key=lambda each: each.rule.id) if found else None


def _allow(policy: Policy, request: Request) -> Entry | None:
    """The allow rule that decides: the most generous, those first whose reason is not missing."""
    best: Entry | None = None
    for bucket in table_of(policy).about(request):
        for each in _about(bucket.allows, request):
            if best is None or _order(each, request) < _order(best, request):
                best = each
            if not _lacks_reason(each.rule, request):
                break  # the rest of the bucket is less generous
    return best


def _about(entries: list[Entry], request: Request) -> Iterator[Entry]:
    return (each for each in entries if each.is_about(request))


def _order(entry: Entry, request: Request) -> tuple[bool, tuple[int, float, str]]:
    return _lacks_reason(entry.rule, request), rank(entry.rule)


def _lacks_reason(rule: Rule, request: Request) -> bool:
    if not rule.limits.reason or request.action in NO_REASON:
        return False
    return request.reason is None or not request.reason.strip()


def _unreasoned(policy: Policy, request: Request, rule: Rule) -> Decision:
    remedy = _command(request)
    return Decision(
        "deny",
        rule.id,
        because=f"rule {rule.id} wants a reason",
        remedy=_explain(request) if remedy is None else f"{remedy} --reason '…'",
        policy_digest=policy.digest,
    )


def _unmatched(policy: Policy, request: Request) -> Decision:
    close = nearest(policy, request)
    remedy = None
    if close is not None:
        rule, misses = close
        told = "; ".join(f"{miss.condition} is {miss.found}, not {miss.wanted}" for miss in misses)
        because = f"no rule allows it; the nearest, {rule.id}, fails on: {told}"
        remedy = _alternative(policy, request, rule, misses)
    elif any(rule.effect == "allow" for rule in policy.rules):
        because = "no rule allows it: none is about this secret"
    else:
        because = "no rule allows anything"
    return Decision(
        "deny",
        None,
        because=because,
        remedy=remedy or _explain(request),
        policy_digest=policy.digest,
    )


def _alternative(
    policy: Policy, request: Request, rule: Rule, misses: tuple[Failed, ...]
) -> str | None:
    """A command that would meet the one condition that fails, or None where none can be typed."""
    if len(misses) != 1 or request.secret is None:
        return None
    if misses[0].condition == "stages":
        return _other_stage(policy, request, rule)
    if misses[0].condition == "cwd":
        return _other_folder(policy, request, rule)
    if misses[0].condition == "container" and rule.holder.container is False:
        return f"secret-agent delegate --allow '{request.secret}' --socket PATH"
    return None


def _other_stage(policy: Policy, request: Request, rule: Rule) -> str | None:
    for stage in rule.stages[:MOST_STAGES]:
        other = replace(request, stage=stage)
        if _is_allowed(policy, other):
            return _command(other)
    return None


def _other_folder(policy: Policy, request: Request, rule: Rule) -> str | None:
    for glob in rule.holder.cwd or ():
        folder = glob.removesuffix("/**").removesuffix("/*")
        moved = replace(request, holder=replace(request.holder, cwd=folder))
        if _is_allowed(policy, moved) and not any(char in folder for char in "*?"):
            return f"cd {quoted(folder)}"
    return None


def _is_allowed(policy: Policy, request: Request) -> bool:
    """Whether this would be granted, the reason that it may want aside."""
    return _deny(policy, request) is None and _allow(policy, request) is not None


def _distance(misses: tuple[Failed, ...]) -> int:
    """How far a rule is from fitting: one for other actions or secrets is not what was meant."""
    return sum(5 if miss.condition in ("actions", "secrets") else 1 for miss in misses)


def _explain(request: Request) -> str | None:
    return None if request.secret is None else f"secret-agent policy explain {request.secret}"


def _command(request: Request) -> str | None:
    """The command of this very request, or None where none does just that."""
    query = f"?stage={request.stage}" if request.stage else ""
    form = {
        "read": "secret-agent get '{}'",
        "list": "secret-agent describe '{}'",
        "write": "secret-agent set '{}' --stdin",
    }.get(request.action)
    return None if form is None else form.format(f"{request.secret}{query}")
