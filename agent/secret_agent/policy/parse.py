"""policy.toml -> rules, strictly: every problem is reported with its line and column, all of them
at once.

What is unknown is an error, never ignored: a misspelt `deny` must not become a rule that says
nothing.  `confirm` is refused by name: this agent has no prompt yet that it could ask by, and a
rule that cannot be kept must not look as if it were.
"""

import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from secret_agent.model import Limits
from secret_agent.policy import values
from secret_agent.policy.built_in import CONTROL
from secret_agent.policy.locate import Path, Places
from secret_agent.policy.rules import HolderCondition, Policy, Rule
from secret_agent_client.errors import InvalidError

MAX_RULES = 20_000
MAX_PROBLEMS = 100  # told; a text with more is not read by anybody to its end
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
    remedy: str | None = None  # the line to write instead, where one can be told

    def __str__(self) -> str:
        return f"line {self.line}, column {self.column}: {self.message}"


class PolicyError(InvalidError):
    """A text is not a policy; `problems` says what is wrong with it, in the order of the text."""

    def __init__(self, source: str, problems: list[Problem], *, count: int | None = None) -> None:
        more = (len(problems) if count is None else count) - 1
        super().__init__(
            f"{source} is not a policy: {problems[0]}" + (f" (and {more} more)" if more else ""),
            remedy="secret-agent policy check",
        )
        self.problems = problems


def parse_policy(text: bytes, *, source: str) -> Policy:
    """The policy that a text makes, the user's own control of the agent beside it.  Raises
    PolicyError.
    """
    try:
        # As tomllib reads a file: a newline is one character whatever the editor.
        decoded = text.decode().replace("\r\n", "\n")
        tables = tomllib.loads(decoded)
    except UnicodeDecodeError as error:
        raise PolicyError(source, [_encoding_problem(text, error.start)]) from None
    except tomllib.TOMLDecodeError as error:
        raise PolicyError(source, [_syntax_problem(str(error))]) from None
    except (ValueError, RecursionError):  # a number of thousands of digits; thousands of brackets
        problem = Problem(1, 1, "it has a number too long or lists too deep to be read")
        raise PolicyError(source, [problem]) from None
    reader = _Reader()
    rules = reader.read(tables)
    if reader.wrong:
        raise PolicyError(source, reader.problems(decoded), count=len(reader.wrong))
    return Policy((*rules, CONTROL), source)


class _Reader:
    """Reads all it can and keeps what is wrong: where in the tables, what, and the mend."""

    def __init__(self) -> None:
        self.wrong: list[tuple[Path, str, str | None]] = []

    def problems(self, text: str) -> list[Problem]:
        """The first problems, with their places."""
        places = Places(text)
        told = [(places.of(path), message, remedy) for path, message, remedy in self.wrong]
        told.sort(key=lambda each: each[0])
        return [
            Problem(place.line, place.column, message, remedy)
            for place, message, remedy in told[:MAX_PROBLEMS]
        ]

    def read(self, tables: dict[str, Any]) -> list[Rule]:
        if not tables:
            return []  # an empty file allows nothing, as it says
        for key in tables:
            if key not in ("version", "rule"):
                self._wrong((key,), f"there is no {key!a} in a policy; there are version and rule")
        if type(tables.get("version")) is not int or tables["version"] != 1:
            self._wrong(("version",), "version = 1 is wanted", remedy="version = 1")
        rules = tables.get("rule", [])
        if not isinstance(rules, list) or not all(isinstance(rule, dict) for rule in rules):
            self._wrong(("rule",), "rules are written [[rule]]", remedy="[[rule]]")
            return []
        if len(rules) > MAX_RULES:
            self._wrong(("rule",), f"there are {len(rules)} rules; the most is {MAX_RULES}")
            return []
        read = [self._rule(number, table) for number, table in enumerate(rules)]
        self._check_ids(rules)
        return [rule for rule in read if rule is not None]

    def _check_ids(self, rules: list[dict[str, Any]]) -> None:
        seen: set[str] = {CONTROL.id}
        for number, table in enumerate(rules):
            name = table.get("id")
            if isinstance(name, str) and name in seen:
                self._wrong(("rule", number, "id"), f"two rules have the id {name!a}")
            seen.add(str(name))

    def _rule(self, number: int, table: dict[str, Any]) -> Rule | None:
        at: Path = ("rule", number)
        before = len(self.wrong)
        self._check_keys(at, table, RULE_KEYS)
        effect = self._take(at, table, "effect", values.effect, required=True)
        rule = Rule(
            id=self._take(at, table, "id", values.id_, required=True) or "",
            effect=effect or "deny",
            secrets=self._take(at, table, "secrets", values.globs) or (),
            stages=self._take(at, table, "stages", values.stages) or (),
            actions=self._take(at, table, "actions", values.actions) or (),
            holder=self._holder((*at, "holder"), table.get("holder"), effect),
            limits=self._limits((*at, "limits"), table.get("limits"), effect),
        )
        if effect == "allow" and len(self.wrong) == before and not (rule.secrets or rule.actions):
            # Forgotten, it would be the widest rule there is.
            self._wrong(at, "an allow names its secrets or its actions", remedy='secrets = ["**"]')
        return rule if len(self.wrong) == before else None

    def _holder(self, at: Path, table: Any, effect: str | None) -> HolderCondition:
        # A deny without a holder is about everybody; an allow, about the user's own processes.
        anybody = effect == "deny"
        plain = HolderCondition(uids=() if anybody else None, container=None if anybody else False)
        if not self._is_table(at, table, HOLDER_KEYS):
            return plain
        uids = self._take(at, table, "uid", values.uids)
        container = self._take(at, table, "container", values.flag)
        return HolderCondition(
            uids=plain.uids if "uid" not in table else uids,
            exe=self._take(at, table, "exe", values.paths),
            cwd=self._take(at, table, "cwd", values.paths),
            tty=self._take(at, table, "tty", values.flag),
            container=plain.container if container is None else container,
        )

    def _limits(self, at: Path, table: Any, effect: str | None) -> Limits:
        if not self._is_table(at, table, LIMIT_KEYS):
            return Limits(ttl_s=DEFAULT_TTL_S)
        if effect == "deny":
            self._wrong(at, "a deny grants nothing that limits could bound")
        return Limits(
            ttl_s=self._take(at, table, "ttl", values.ttl) or DEFAULT_TTL_S,
            uses=self._take(at, table, "uses", values.count),
            reason=self._take(at, table, "reason", values.flag) or False,
        )

    def _is_table(self, at: Path, table: Any, known: tuple[str, ...]) -> bool:
        if table is None:
            return False
        if not isinstance(table, dict):
            self._wrong(at, f"{at[-1]} is a table, {{ … }}")
            return False
        self._check_keys(at, table, known)
        return True

    def _check_keys(self, at: Path, table: dict[str, Any], known: tuple[str, ...]) -> None:
        for key in table:
            if key not in known:
                told = f"there is no {key!a} here; there are {', '.join(known)}"
                self._wrong((*at, key), told)

    def _take(
        self,
        at: Path,
        table: dict[str, Any],
        key: str,
        read: Callable[[Any], Any],
        *,
        required: bool = False,
    ) -> Any:
        """What the key's value means, or None where it is missing or wrong."""
        if key not in table:
            if required:
                self._wrong(at, f"the rule has no {key}")
            return None
        named = ".".join(str(part) for part in (*at[2:], key))
        try:
            return read(table[key])
        except values.Refused as error:
            item = () if error.item is None else (error.item,)
            self._wrong((*at, key, *item), f"{named}: {error}", remedy=error.remedy)
        except InvalidError as error:
            self._wrong((*at, key), f"{named}: {error}", remedy=None)
        return None

    def _wrong(self, path: Path, message: str, *, remedy: str | None = None) -> None:
        self.wrong.append((path, message, remedy))


def _encoding_problem(text: bytes, offset: int) -> Problem:
    line = text.count(b"\n", 0, offset)
    begin = text.rfind(b"\n", 0, offset) + 1
    column = len(text[begin:offset].decode("utf-8", "replace"))
    return Problem(line + 1, column + 1, "it is not UTF-8")


def _syntax_problem(message: str) -> Problem:
    """Tomllib says "… (at line 3, column 5)"."""
    what, _, at = message.rpartition(" (at line ")
    numbers = at.rstrip(")").split(", column ")
    if what and len(numbers) == 2 and all(number.isdigit() for number in numbers):
        return Problem(int(numbers[0]), int(numbers[1]), what)
    return Problem(1, 1, message)
