"""Decide: a deny that matches wins, else an allow that matches, else no.  A pure function of
policy and request.

Of several allows the most generous decides (longest ttl, then most uses, then by id), whatever
their order in the file.
"""

from secret_agent.model import Decision, Request
from secret_agent.policy.rules import Failed, Policy, Rule


def decide(policy: Policy, request: Request) -> Decision:
    """The decision, and why."""
    allowing: list[Rule] = []
    for rule in policy.about(request):
        if rule.failed(request):
            continue
        if rule.effect == "deny":
            return _denied(policy, request, rule)
        allowing.append(rule)
    if not allowing:
        return _unmatched(policy, request)
    rule = allowing[0] if len(allowing) == 1 else max(allowing, key=_generosity)
    if rule.limits.reason and not request.reason:
        return Decision(
            "deny",
            rule.id,
            because=f"rule {rule.id} wants a reason",
            remedy=_command(request) + " --reason '…'",
            policy_digest=policy.digest,
        )
    return Decision("allow", rule.id, limits=rule.limits, policy_digest=policy.digest)


def nearest(policy: Policy, request: Request) -> tuple[Rule, list[Failed]] | None:
    """The allow rule that fails the fewest conditions, and those; None where no rule allows
    anything.
    """
    tried = [(rule, rule.failed(request)) for rule in policy.rules if rule.effect == "allow"]
    return min(tried, key=lambda each: (_distance(each[1]), each[0].id), default=None)


def alternative(request: Request, rule: Rule, failed: list[Failed]) -> str | None:
    """A command that would meet the one condition that fails, or None where none can be typed."""
    wanted = {each.condition for each in failed}
    if wanted == {"stages"}:
        return f"{_command(request, stage=rule.stages[0])}"
    if wanted == {"container"} and rule.holder.container is False:
        return f"secret-agent delegate --allow '{request.secret}' --socket PATH"
    return None


def _distance(failed: list[Failed]) -> int:
    """How far a rule is from fitting: one for other actions or secrets is not what was meant."""
    return sum(5 if each.condition in ("actions", "secrets") else 1 for each in failed)


def _denied(policy: Policy, request: Request, rule: Rule) -> Decision:
    return Decision(
        "deny",
        rule.id,
        because=f"rule {rule.id} denies it",
        remedy=_explain(request),
        policy_digest=policy.digest,
    )


def _unmatched(policy: Policy, request: Request) -> Decision:
    close = nearest(policy, request)
    if close is None:
        because, remedy = "no rule allows anything", None
    else:
        rule, failed = close
        told = "; ".join(f"{each.condition} is {each.found}, not {each.wanted}" for each in failed)
        because = f"no rule allows it; the nearest, {rule.id}, fails on: {told}"
        remedy = alternative(request, rule, failed)
    return Decision(
        "deny",
        None,
        because=because,
        remedy=remedy or _explain(request),
        policy_digest=policy.digest,
    )


def _generosity(rule: Rule) -> tuple[bool, int, float, str]:
    uses = float("inf") if rule.limits.uses is None else rule.limits.uses
    return not rule.limits.reason, rule.limits.ttl_s, uses, rule.id


def _explain(request: Request) -> str | None:
    return None if request.secret is None else f"secret-agent policy explain {request.secret}"


def _command(request: Request, *, stage: str | None = None) -> str:
    query = f"?stage={stage}" if stage else ""
    return f"secret-agent get '{request.secret}{query}'"
