"""The conditions of a rule, each as one object that says whether a request meets it, and tells what
was wanted and what was found.  Pure.

Both `decide` and `explain` ask these very objects, so they cannot disagree.

In a deny the surprise is on the safe side: a trailing `/*` covers what lies deeper too, and a path
that cannot be read counts as the one that is meant, so that a process does not escape the rule by
hiding itself.
"""

import os
from collections.abc import Callable
from typing import NamedTuple

from secret_agent.model import Holder, Request
from secret_agent.policy.rules import ON_SECRETS, Rule
from secret_agent_client.references import glob_matches

MOST_TOLD = 4  # values told of a long list: a denial is a line that a person reads


class Failed(NamedTuple):
    """One condition that a request does not meet: what the rule wants and what was found."""

    condition: str
    wanted: str
    found: str

    def as_json(self) -> dict[str, str]:
        return self._asdict()


class Condition(NamedTuple):
    """One condition of one rule."""

    name: str
    holds: Callable[[Request], bool]
    wanted: Callable[[], tuple[str, ...]]
    found: Callable[[Request], str]

    def failed(self, request: Request) -> Failed:
        """What to tell of a request that does not meet it."""
        return Failed(self.name, any_of(self.wanted()), self.found(request))


Conditions = tuple[Condition, ...]


def conditions_of(rule: Rule) -> Conditions:
    """The conditions that a request must meet for the rule to be about it; the cheap ones first."""
    return (*_of_action(rule), *_of_holder(rule), *_of_secret(rule))


def failed(conditions: Conditions, request: Request) -> tuple[Failed, ...]:
    """The conditions that a request does not meet; none: the rule is about it."""
    return tuple(each.failed(request) for each in conditions if not each.holds(request))


def any_of(values: tuple[str, ...]) -> str:
    """`a or b`, and of a long list its beginning."""
    more = len(values) - MOST_TOLD
    told = " or ".join(values[:MOST_TOLD])
    return told if more <= 0 else f"{told} or {more} more"


def _of_action(rule: Rule) -> Conditions:
    # What is said of secrets is not said of the session, unless the rule names the action.
    actions: tuple[str, ...] = rule.actions
    if not actions and (rule.secrets or rule.stages):
        actions = tuple(sorted(ON_SECRETS))
    if not actions:
        return ()
    return (
        Condition(
            "actions",
            lambda request: request.action in actions,
            lambda: actions,
            lambda request: request.action,
        ),
    )


def _of_holder(rule: Rule) -> Conditions:
    wanted, conditions = rule.holder, []
    if wanted.uids != ():
        conditions.append(_uid(wanted.uids))
    if wanted.container is not None:
        conditions.append(
            _flag("container", wanted.container, lambda request: _contained(request.holder))
        )
    if wanted.tty is not None:
        conditions.append(_flag("tty", wanted.tty, lambda request: request.holder.tty))
    is_deny = rule.effect == "deny"
    if wanted.exe is not None:
        conditions.append(
            _path("exe", wanted.exe, lambda request: request.holder.exe, is_deny=is_deny)
        )
    if wanted.cwd is not None:
        conditions.append(
            _path("cwd", wanted.cwd, lambda request: request.holder.cwd, is_deny=is_deny)
        )
    return tuple(conditions)


def _uid(uids: tuple[int, ...] | None) -> Condition:
    def wanted() -> tuple[int, ...]:
        return (os.geteuid(),) if uids is None else uids

    return Condition(
        "uid",
        lambda request: request.holder.uid in wanted(),
        lambda: tuple(map(str, wanted())),
        lambda request: str(request.holder.uid),
    )


def _flag(name: str, wanted: bool, shown_by: Callable[[Request], str | None]) -> Condition:  # noqa: FBT001  # what is wanted
    return Condition(
        name,
        lambda request: (shown_by(request) is not None) is wanted,
        lambda: ("yes" if wanted else "no",),
        lambda request: shown_by(request) or "none",
    )


def _path(
    name: str, globs: tuple[str, ...], of: Callable[[Request], str], *, is_deny: bool
) -> Condition:
    def holds(request: Request) -> bool:
        path = of(request)
        if path == "":
            return is_deny
        return any(glob_matches(glob, path) for glob in globs)

    return Condition(name, holds, lambda: globs, lambda request: of(request) or "unknown")


def _of_secret(rule: Rule) -> Conditions:
    conditions = []
    if rule.secrets and "**" not in rule.secrets:
        conditions.append(_secrets(rule))
    if rule.stages:
        conditions.append(
            Condition(
                "stages",
                _on_secrets(lambda request: request.stage in rule.stages),
                lambda: tuple(stage or "none" for stage in rule.stages),
                lambda request: request.stage or "none",
            )
        )
    if rule.providers:
        conditions.append(
            Condition(
                "providers",
                _on_secrets(lambda request: request.provider in rule.providers),
                lambda: rule.providers,
                lambda request: request.provider,
            )
        )
    return tuple(conditions)


def _secrets(rule: Rule) -> Condition:
    globs = rule.secrets
    if rule.effect == "deny":
        globs += tuple(f"{glob}/**" for glob in globs if glob == "*" or glob.endswith("/*"))

    def holds(request: Request) -> bool:
        # A request that names no secret is about all of them, and these are not all.
        name = request.secret
        return name is not None and any(glob_matches(glob, name) for glob in globs)

    return Condition(
        "secrets",
        _on_secrets(holds),
        lambda: rule.secrets,
        lambda request: request.secret or "all of them",
    )


def _on_secrets(holds: Callable[[Request], bool]) -> Callable[[Request], bool]:
    """What is said of secrets is no condition on the session."""
    return lambda request: request.action not in ON_SECRETS or holds(request)


def _contained(holder: Holder) -> str | None:
    """What shows that a holder is not simply a process of this host, or None."""
    if holder.container is not None:
        return holder.container
    if holder.foreign_namespaces:
        return "another " + ", ".join(holder.foreign_namespaces) + " namespace"
    return None
