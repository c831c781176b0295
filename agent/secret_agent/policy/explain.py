"""Explain: the decision, and for every rule whether it matched and on which conditions it did not.

It calls the very `decide` that decides and asks the very conditions that it asks, so the two cannot
disagree.
"""

from dataclasses import dataclass
from typing import Any

from secret_agent.model import Decision, Request
from secret_agent.policy.conditions import Failed, conditions_of, failed
from secret_agent.policy.decide import decide, nearest
from secret_agent.policy.rules import Policy, Rule, limits_as_json


@dataclass(frozen=True, slots=True)
class Explanation:
    """A decision taken apart."""

    decision: Decision
    rules: tuple[tuple[Rule, tuple[Failed, ...]], ...]
    nearest: str | None  # id of the allow rule that came closest, where the decision is no

    def as_json(self) -> dict[str, Any]:
        """As `policy explain --json` shows it."""
        decision = self.decision
        return {
            "decision": {
                "effect": decision.effect,
                "rule": decision.rule,
                "because": decision.because or f"rule {decision.rule} allows it",
                "try": decision.remedy,
                "limits": limits_as_json(decision.limits) if decision.allowed else None,
                "policy": decision.policy_digest,
            },
            "rules": [
                {
                    "id": rule.id,
                    "effect": rule.effect,
                    "matched": not misses,
                    "failed": [each.as_json() for each in misses],
                }
                for rule, misses in self.rules
            ],
            "nearest": self.nearest,
        }


def explain(policy: Policy, request: Request) -> Explanation:
    """The decision on a request and how every rule took part in it."""
    decision = decide(policy, request)
    close = None if decision.allowed else nearest(policy, request)
    return Explanation(
        decision,
        tuple((rule, failed(conditions_of(rule), request)) for rule in policy.rules),
        None if close is None else close[0].id,
    )
