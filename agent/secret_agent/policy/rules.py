"""What a rule is, and which of its conditions a request fails.  Pure; the language is told in
agent/POLICY.md.

A rule that says nothing of its holder means the user's own processes on this host: same uid, same
namespaces, no scope of
another.  Whoever else is meant has to be named.
"""

import os
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from json import dumps
from typing import Any

from secret_agent.model import Action, Effect, Holder, Limits, Request
from secret_agent_client.references import glob_matches

ACTIONS: tuple[Action, ...] = (
    "read", "write", "list", "rotate", "revoke", "delegate", "admin",
)  # fmt: skip  # one line
ON_SECRETS = frozenset({"read", "write", "list", "rotate"})
"""Actions that name a secret; the others are about the session and match whatever a rule's secrets
are.
"""


@dataclass(frozen=True, slots=True)
class Failed:
    """One condition that a request does not meet: what the rule wants and what was found."""

    condition: str
    wanted: str
    found: str

    def as_json(self) -> dict[str, str]:
        return {"condition": self.condition, "wanted": self.wanted, "found": self.found}


@dataclass(frozen=True, slots=True)
class HolderCondition:
    """Who a rule is for.  None: not asked."""

    uids: tuple[int, ...] | None = None  # None: the agent's own; (): anybody
    exe: tuple[str, ...] | None = None  # path globs
    cwd: tuple[str, ...] | None = None  # path globs
    tty: bool | None = None
    container: bool | None = False

    def failed(self, holder: Holder) -> list[Failed]:
        """The conditions that this holder does not meet."""
        uids = (os.geteuid(),) if self.uids is None else self.uids
        failed = []
        if uids and holder.uid not in uids:
            failed.append(Failed("uid", " or ".join(map(str, uids)), str(holder.uid)))
        if self.exe is not None and not _path_fits(self.exe, holder.exe):
            failed.append(Failed("exe", " or ".join(self.exe), holder.exe or "unknown"))
        if self.cwd is not None and not _path_fits(self.cwd, holder.cwd):
            failed.append(Failed("cwd", " or ".join(self.cwd), holder.cwd or "unknown"))
        if self.tty is not None and (holder.tty is not None) != self.tty:
            failed.append(Failed("tty", _yes(self.tty), holder.tty or "none"))
        contained = _contained(holder)
        if self.container is not None and (contained is not None) != self.container:
            failed.append(Failed("container", _yes(self.container), contained or "none"))
        return failed

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

    def failed(self, request: Request) -> list[Failed]:
        """The conditions that a request does not meet; none: the rule is about it."""
        failed = []
        if self.actions and request.action not in self.actions:
            failed.append(Failed("actions", " or ".join(self.actions), request.action))
        if request.action not in ON_SECRETS:
            # What is said of secrets is not said of the session, unless the rule names the action.
            if not self.actions and (self.secrets or self.stages):
                failed.append(Failed("actions", " or ".join(sorted(ON_SECRETS)), request.action))
        elif request.secret is not None:
            failed += self._failed_secret(request, request.secret)
        return failed + self.holder.failed(request.holder)

    def _failed_secret(self, request: Request, name: str) -> list[Failed]:
        failed = []
        if self.secrets and not any(self._names(glob, name) for glob in self.secrets):
            failed.append(Failed("secrets", " or ".join(self.secrets), name))
        if self.stages and request.stage not in self.stages:
            wanted = " or ".join(stage or "none" for stage in self.stages)
            failed.append(Failed("stages", wanted, request.stage or "none"))
        if self.providers and request.provider not in self.providers:
            failed.append(Failed("providers", " or ".join(self.providers), request.provider))
        return failed

    def _names(self, glob: str, name: str) -> bool:
        """In a deny, `prod/*` covers what lies deeper too: the surprise is on the safe side."""
        if glob_matches(glob, name):
            return True
        return self.effect == "deny" and glob.endswith("/*") and glob_matches(glob + "*", name)

    def as_json(self) -> dict[str, Any]:
        """As `policy show --json` shows it."""
        return {
            "id": self.id,
            "effect": self.effect,
            "secrets": list(self.secrets),
            "stages": list(self.stages),
            "actions": list(self.actions),
            "holder": self.holder.as_json(),
            "limits": limits_as_json(self.limits),
        }


@dataclass(frozen=True)
class Policy:
    """All rules, where they come from, and their digest."""

    rules: tuple[Rule, ...]
    source: str

    @cached_property
    def digest(self) -> str:
        """SHA-256 of what the rules mean: the same for the same rules, however they are laid
        out.
        """
        rules = sorted((rule.as_json() for rule in self.rules), key=lambda rule: str(rule["id"]))
        return sha256(dumps(rules, sort_keys=True).encode()).hexdigest()

    @cached_property
    def by_segment(self) -> dict[str | None, tuple[Rule, ...]]:
        """Rules by the first segment of the secrets they name; None: those that may be about any
        name.
        """
        index: dict[str | None, list[Rule]] = {}
        for rule in self.rules:
            for segment in _segments(rule):
                index.setdefault(segment, []).append(rule)
        return {segment: tuple(rules) for segment, rules in index.items()}

    def about(self, request: Request) -> tuple[Rule, ...]:
        """The rules that may be about a request: by its secret's name, where that counts."""
        if request.secret is None or request.action not in ON_SECRETS:
            return self.rules
        index = self.by_segment
        return index.get(request.secret.partition("/")[0], ()) + index.get(None, ())


def limits_as_json(limits: Limits) -> dict[str, Any]:
    """As `policy show` and `policy explain` show them."""
    return {"ttl_s": limits.ttl_s, "uses": limits.uses, "reason": limits.reason}


def _segments(rule: Rule) -> set[str | None]:
    """The literal first segments of a rule's globs, or None where any of them begins with a
    pattern.
    """
    firsts = {glob.partition("/")[0] for glob in rule.secrets}
    if not firsts or any("*" in first or "?" in first for first in firsts):
        return {None}
    return set(firsts)


def _path_fits(globs: tuple[str, ...], path: str) -> bool:
    return path != "" and any(glob_matches(glob, path) for glob in globs)


def _contained(holder: Holder) -> str | None:
    """What shows that a holder is not simply a process of this host, or None."""
    if holder.container is not None:
        return holder.container
    if holder.foreign_namespaces:
        return "another " + ", ".join(holder.foreign_namespaces) + " namespace"
    return None


def _yes(flag: bool) -> str:  # noqa: FBT001  # the flag is what is shown
    return "yes" if flag else "no"
