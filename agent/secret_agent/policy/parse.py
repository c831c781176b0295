"""policy.toml -> rules, strictly: every problem is reported with its line and column, all of them
at once.

What is unknown is an error, never ignored: a misspelt `deny` must not become a rule that says
nothing.  `confirm` is refused
by name: this agent has no prompt yet that it could ask by, and a rule that cannot be kept must not
look as if it were.
"""

import os
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from secret_agent.model import Limits
from secret_agent.policy.built_in import CONTROL
from secret_agent.policy.locate import Place, locate
from secret_agent.policy.rules import ACTIONS, HolderCondition, Policy, Rule
from secret_agent_client.duration import parse_duration
from secret_agent_client.errors import InvalidError
from secret_agent_client.references import check_glob, check_stage

MAX_RULES = 20_000
DEFAULT_TTL_S = 3600  # of a rule that names no ttl: the built-in hour
RULE_KEYS = ("id", "effect", "secrets", "stages", "actions", "holder", "limits")
HOLDER_KEYS = ("uid", "exe", "cwd", "tty", "container")
LIMIT_KEYS = ("ttl", "uses", "reason")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a policy, and where.  Lines and columns begin at 1."""

    line: int
    column: int
    message: str
    remedy: str | None = None

    def __str__(self) -> str:
        return f"line {self.line}, column {self.column}: {self.message}"


class PolicyError(InvalidError):
    """A text is not a policy; `problems` says all that is wrong with it."""

    def __init__(self, source: str, problems: list[Problem]) -> None:
        super().__init__(
            f"{source} is not a policy: {problems[0]}"
            + (f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""),
            remedy="secret-agent policy check",
        )
        self.problems = problems


def parse_policy(text: bytes, *, source: str) -> Policy:
    """The policy that a text makes, the user's own control of the agent beside it.  Raises
    PolicyError.
    """
    try:
        decoded = text.decode()
        tables = tomllib.loads(decoded)
    except UnicodeDecodeError:
        raise PolicyError(source, [Problem(1, 1, "it is not UTF-8")]) from None
    except tomllib.TOMLDecodeError as error:
        raise PolicyError(source, [_syntax_problem(str(error))]) from None
    reader = _Reader(decoded)
    rules = reader.read(tables)
    if reader.problems:
        raise PolicyError(
            source, sorted(reader.problems, key=lambda each: (each.line, each.column))
        )
    return Policy((*rules, CONTROL), source)


class _Refused(Exception):  # noqa: N818  # not an error of the program: one of the text
    """A value does not fit its key."""


class _Reader:
    """Reads all it can and keeps what is wrong."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.problems: list[Problem] = []

    def read(self, tables: dict[str, Any]) -> list[Rule]:
        for key in tables:
            if key not in ("version", "rule"):
                self._wrong(None, key, f"there is no {key} in a policy; there are version and rule")
        if tables.get("version") != 1:
            self._wrong(None, "version", "version = 1 is wanted")
        rules = tables.get("rule", [])
        if not isinstance(rules, list) or not all(isinstance(rule, dict) for rule in rules):
            self._wrong(None, "rule", "rules are written [[rule]]")
            return []
        if len(rules) > MAX_RULES:
            self._wrong(None, "rule", f"there are {len(rules)} rules; the most is {MAX_RULES}")
            return []
        read = [self._rule(number, table) for number, table in enumerate(rules)]
        self._check_ids(rules)
        return [rule for rule in read if rule is not None]

    def _check_ids(self, rules: list[dict[str, Any]]) -> None:
        seen: set[str] = {CONTROL.id}
        for number, table in enumerate(rules):
            name = table.get("id")
            if isinstance(name, str) and name.casefold() in seen:
                self._wrong(number, "id", f"two rules have the id {name!a}")
            seen.add(str(name).casefold())

    def _rule(self, number: int, table: dict[str, Any]) -> Rule | None:
        before = len(self.problems)
        self._known(number, table, RULE_KEYS, "")
        effect = self._take(number, table, "effect", _effect, required=True)
        holder = self._holder(number, table.get("holder"), effect)
        rule = Rule(
            id=self._take(number, table, "id", _id, required=True) or "",
            effect=effect or "deny",
            secrets=self._take(number, table, "secrets", _globs) or (),
            stages=self._take(number, table, "stages", _stages) or (),
            actions=self._take(number, table, "actions", _actions) or (),
            holder=holder,
            limits=self._limits(number, table.get("limits")),
        )
        return rule if len(self.problems) == before else None

    def _holder(self, number: int, table: Any, effect: str | None) -> HolderCondition:
        # A deny without a holder is about everybody; an allow, about the user's own processes.
        anybody = effect == "deny"
        plain = HolderCondition(uids=() if anybody else None, container=None if anybody else False)
        if not self._is_table(number, "holder", table, HOLDER_KEYS):
            return plain
        take = self._take
        uids = take(number, table, "uid", _uids, prefix="holder.")
        container = take(number, table, "container", _flag, prefix="holder.")
        return HolderCondition(
            uids=plain.uids if "uid" not in table else uids,
            exe=take(number, table, "exe", _paths, prefix="holder."),
            cwd=take(number, table, "cwd", _paths, prefix="holder."),
            tty=take(number, table, "tty", _flag, prefix="holder."),
            container=plain.container if container is None else container,
        )

    def _limits(self, number: int, table: Any) -> Limits:
        if not self._is_table(number, "limits", table, LIMIT_KEYS):
            return Limits(ttl_s=DEFAULT_TTL_S)
        return Limits(
            ttl_s=self._take(number, table, "ttl", _ttl, prefix="limits.") or DEFAULT_TTL_S,
            uses=self._take(number, table, "uses", _count, prefix="limits."),
            reason=self._take(number, table, "reason", _flag, prefix="limits.") or False,
        )

    def _is_table(self, number: int, key: str, table: Any, known: tuple[str, ...]) -> bool:
        if table is None:
            return False
        if not isinstance(table, dict):
            self._wrong(number, key, f"{key} is a table, {{ … }}")
            return False
        self._known(number, table, known, key + ".")
        return True

    def _known(
        self, number: int, table: dict[str, Any], known: tuple[str, ...], prefix: str
    ) -> None:
        for key in table:
            if key not in known:
                self._wrong(
                    number, prefix + key, f"there is no {key!a} here; there are {', '.join(known)}"
                )

    def _take(
        self,
        number: int,
        table: dict[str, Any],
        key: str,
        read: Callable[[Any], Any],
        *,
        required: bool = False,
        prefix: str = "",
    ) -> Any:
        if key not in table:
            if required:
                self._wrong(number, prefix + key, f"the rule has no {key}")
            return None
        try:
            return read(table[key])
        except (_Refused, InvalidError) as error:
            self._wrong(number, prefix + key, f"{prefix}{key}: {error}")
            return None

    def _wrong(self, rule: int | None, key: str, message: str) -> None:
        place: Place = locate(self._text, rule, key)
        self.problems.append(Problem(place.line, place.column, message))


def _syntax_problem(message: str) -> Problem:
    """Tomllib says "… (at line 3, column 5)"."""
    what, _, at = message.rpartition(" (at line ")
    numbers = at.rstrip(")").split(", column ")
    if what and len(numbers) == 2 and all(number.isdigit() for number in numbers):
        return Problem(int(numbers[0]), int(numbers[1]), what)
    return Problem(1, 1, message)


def _effect(value: Any) -> str:
    if value == "confirm":
        raise _Refused(
            "confirm needs a prompt, which this agent does not have yet: use allow or deny"
        )
    if value not in ("allow", "deny"):
        raise _Refused("it is allow or deny")
    return str(value)


def _id(value: Any) -> str:
    return check_stage(_text(value))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _Refused("a string is wanted")
    return value


def _list(value: Any, read: Callable[[Any], Any]) -> tuple[Any, ...]:
    if not isinstance(value, list) or not value:
        raise _Refused("a list of at least one is wanted")
    return tuple(read(each) for each in value)


def _globs(value: Any) -> tuple[str, ...]:
    return _list(value, lambda each: check_glob(_text(each)))


def _stages(value: Any) -> tuple[str, ...]:
    return _list(value, lambda each: each if each == "" else check_stage(_text(each)))


def _actions(value: Any) -> tuple[str, ...]:
    def read(each: Any) -> str:
        if each not in ACTIONS:
            raise _Refused(f"an action is one of {', '.join(ACTIONS)}")
        return str(each)

    return _list(value, read)


def _uids(value: Any) -> tuple[int, ...] | None:
    """None: the agent's own."""
    if value == "self":
        return None
    if not isinstance(value, list):
        value = [value]

    def read(each: Any) -> int:
        if each == "self":
            return os.geteuid()
        if type(each) is not int or not 0 <= each < 2**32:
            raise _Refused('a uid is "self" or a number')
        return each

    return _list(value, read)


def _paths(value: Any) -> tuple[str, ...]:
    def read(each: Any) -> str:
        path = os.path.expanduser(_text(each))  # noqa: PTH111  # a glob, which Path would normalise
        if not path.startswith("/") or any(part in (".", "..") for part in path.split("/")):
            raise _Refused("a path glob begins with / or ~ and has no . or .. in it")
        return path

    return _list(value, read)


def _flag(value: Any) -> bool:
    if type(value) is not bool:
        raise _Refused("true or false is wanted")
    return value


def _count(value: Any) -> int:
    if type(value) is not int or not 1 <= value <= 10**9:
        raise _Refused("a whole number from 1 is wanted")
    return value


def _ttl(value: Any) -> int:
    if type(value) is not str and type(value) is not int:
        raise _Refused('a duration is wanted, such as "15m"')
    return parse_duration(str(value))
