"""What a rule is, what a policy is, and how both look in JSON.  Pure; the language is told in
agent/POLICY.md.

A rule that says nothing of its holder means the user's own processes on this host: same uid, same
namespaces.  Whoever else is meant has to be named.
"""

from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from json import dumps
from typing import Any

from secret_agent.model import Action, Effect, Limits

ACTIONS: tuple[Action, ...] = (
    "read", "write", "list", "rotate", "revoke", "delegate", "admin",
)  # fmt: skip  # one line
ON_SECRETS = frozenset({"read", "write", "list", "rotate"})
"""Actions that name a secret; the others are about the session as a whole."""


@dataclass(frozen=True, slots=True)
class HolderCondition:
    """Who a rule is for.  None: not asked."""

    uids: tuple[int, ...] | None = None  # None: the agent's own; (): anybody
    exe: tuple[str, ...] | None = None  # path globs
    cwd: tuple[str, ...] | None = None  # path globs
    tty: bool | None = None
    container: bool | None = False

    def as_json(self) -> dict[str, Any]:
        shown = {
            "uid": "self" if self.uids is None else list(self.uids) or "any",
            "exe": self.exe and list(self.exe),
            "cwd": self.cwd and list(self.cwd),
            "tty": self.tty,
            "container": self.container,
        }
        return {key: value for key, value in shown.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule.  Empty tuples: any."""

    id: str
    effect: Effect
    secrets: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()
    actions: tuple[Action, ...] = ()
    providers: tuple[str, ...] = ()  # of the built-in rules alone
    holder: HolderCondition = field(default_factory=HolderCondition)
    limits: Limits = field(default_factory=Limits)

    def as_json(self) -> dict[str, Any]:
        """As `policy show --json` shows it."""
        return {
            "id": self.id,
            "effect": self.effect,
            "secrets": list(self.secrets),
            "stages": list(self.stages),
            "actions": list(self.actions),
            "providers": list(self.providers),
            "holder": self.holder.as_json(),
            "limits": limits_as_json(self.limits),
        }


@dataclass(frozen=True)
class Policy:
    """All rules, and where they come from."""

    rules: tuple[Rule, ...]
    source: str

    @cached_property
    def digest(self) -> str:
        """SHA-256 of what the rules mean: the same for the same rules, however they are laid
        out.
        """
        rules = sorted(map(_canonical, self.rules), key=lambda rule: str(rule["id"]))
        return sha256(dumps(rules, sort_keys=True).encode()).hexdigest()


def limits_as_json(limits: Limits) -> dict[str, Any]:
    """As `policy show` and `policy explain` show them."""
    return {"ttl_s": limits.ttl_s, "uses": limits.uses, "reason": limits.reason}


def _canonical(rule: Rule) -> dict[str, Any]:
    """The rule without what means nothing: the order in a list, and what stands in it twice."""
    shown = rule.as_json()
    for part in (shown, shown["holder"]):
        part.update({k: sorted(set(v)) for k, v in part.items() if isinstance(v, list)})
    return shown
