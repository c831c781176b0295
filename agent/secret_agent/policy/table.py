"""A policy made ready for deciding: its rules by what they may be about, so that one request looks
at few of many.  Pure.

A rule about secrets is filed under the literal beginning of each of its globs, up to the first
segment with a pattern in it: `payments/*` under `payments`, `a/b` under `a/b`, `*/db` under nothing
at all.  A name is looked up under each of its beginnings, which are as many as it has segments.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from secret_agent.model import Action, Decision, Request
from secret_agent.policy.conditions import Conditions, conditions_of
from secret_agent.policy.rules import ACTIONS, ON_SECRETS, Policy, Rule


class Entry:
    """A rule, its conditions, and what is decided where it decides.

    Both are made when they are first asked for: of ten thousand rules most never are.
    """

    __slots__ = ("_conditions", "_decision", "_policy", "rule")

    def __init__(self, rule: Rule, policy: Policy) -> None:
        self.rule = rule
        self._policy = policy
        self._conditions: Conditions | None = None
        self._decision: Decision | None = None

    @property
    def conditions(self) -> Conditions:
        if self._conditions is None:
            self._conditions = conditions_of(self.rule)
        return self._conditions

    @property
    def decision(self) -> Decision:
        if self._decision is None:
            self._decision = _decision(self.rule, self._policy.digest)
        return self._decision

    def is_about(self, request: Request) -> bool:
        for condition in self._conditions or self.conditions:  # noqa: SIM110  # all() costs more
            if not condition.holds(request):
                return False
        return True


@dataclass(slots=True)
class Bucket:
    """Rules filed together: denies by id, allows with the most generous first."""

    denies: list[Entry] = field(default_factory=list)
    allows: list[Entry] = field(default_factory=list)


class Table:
    """All rules of one policy."""

    def __init__(self, policy: Policy) -> None:
        self._named: dict[str, Bucket] = {}
        self._session: dict[Action, Bucket] = {action: Bucket() for action in ACTIONS}
        entries = [Entry(rule, policy) for rule in policy.rules]
        for entry in sorted(entries, key=lambda each: rank(each.rule)):
            for key in _keys(entry.rule) if _may_be_about_secrets(entry.rule) else ():
                _file(self._named.setdefault(key, Bucket()), entry)
            for action in set(ACTIONS) - ON_SECRETS:
                if _may_be_about_session(entry.rule, action):
                    _file(self._session[action], entry)

    def about(self, request: Request) -> list[Bucket]:
        """The buckets whose rules may be about a request; every other rule is not."""
        if request.action not in ON_SECRETS:
            return [self._session[request.action]]
        found = (self._named.get(key) for key in _beginnings(request.secret or ""))
        return [bucket for bucket in found if bucket is not None]


def table_of(policy: Policy) -> Table:
    """The policy's table, made once: a policy never changes."""
    made: Table | None = policy.__dict__.get("_table")
    if made is None:
        made = policy.__dict__["_table"] = Table(policy)
    return made


def rank(rule: Rule) -> tuple[int, float, str]:
    """The most generous first: the longest life, then the most uses, then by id."""
    uses = float("inf") if rule.limits.uses is None else rule.limits.uses
    return -rule.limits.ttl_s, -uses, rule.id


def _decision(rule: Rule, digest: str) -> Decision:
    if rule.effect == "deny":
        return Decision("deny", rule.id, because=f"rule {rule.id} denies it", policy_digest=digest)
    assert rule.effect == "allow", "nobody can be asked yet"  # noqa: S101  # the parser refuses it
    return Decision("allow", rule.id, limits=rule.limits, policy_digest=digest)


def _file(bucket: Bucket, entry: Entry) -> None:
    (bucket.denies if entry.rule.effect == "deny" else bucket.allows).append(entry)


def _keys(rule: Rule) -> Iterable[str]:
    return {_literal_beginning(glob) for glob in rule.secrets} or {""}


def _literal_beginning(glob: str) -> str:
    literal = []
    for segment in glob.split("/"):
        if "*" in segment or "?" in segment:
            break
        literal.append(segment)
    return "/".join(literal)


def _beginnings(name: str) -> Iterator[str]:
    """`""`, `a`, `a/b` and `a/b/c` of `a/b/c`."""
    yield ""
    at = name.find("/")
    while at > 0:
        yield name[:at]
        at = name.find("/", at + 1)
    if name:
        yield name


def _may_be_about_secrets(rule: Rule) -> bool:
    return not rule.actions or not ON_SECRETS.isdisjoint(rule.actions)


def _may_be_about_session(rule: Rule, action: Action) -> bool:
    return action in rule.actions or not (rule.actions or rule.secrets or rule.stages)
