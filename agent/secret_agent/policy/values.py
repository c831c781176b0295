"""What each key of a rule may hold: TOML's value -> ours, or a refusal that says what is wanted.

A value that is refused is never echoed.  Only the home folder is looked up in the world outside.
"""

import os
from collections.abc import Callable
from typing import Any

from secret_agent.policy.rules import ACTIONS
from secret_agent_client.duration import parse_duration
from secret_agent_client.errors import InvalidError
from secret_agent_client.references import check_glob, check_name, check_stage


class Refused(Exception):  # noqa: N818  # not an error of the program: one of the text
    """A value does not fit its key."""

    def __init__(self, message: str, *, item: int | None = None, remedy: str | None = None) -> None:
        super().__init__(message)
        self.item = item
        self.remedy = remedy


def effect(value: Any) -> str:
    """What a rule does.  `confirm` is refused by name."""
    if value == "confirm":
        raise Refused(
            "confirm needs a prompt, which this agent does not have yet: use deny, or allow",
            remedy='effect = "deny"',
        )
    if value not in ("allow", "deny"):
        raise Refused("it is allow or deny")
    return str(value)


def id_(value: Any) -> str:
    """A rule's id: one segment of the name grammar."""
    if "/" in _text(value):
        raise Refused("a / cannot stand in an id")
    return check_name(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise Refused("a string is wanted")
    return value


def _list(value: Any, read: Callable[[Any], Any]) -> tuple[Any, ...]:
    if not isinstance(value, list) or not value:
        raise Refused("a list of at least one is wanted")
    items = []
    for number, each in enumerate(value):
        try:
            items.append(read(each))
        except (Refused, InvalidError) as error:
            raise Refused(str(error), item=number) from None
    return tuple(items)


def globs(value: Any) -> tuple[str, ...]:
    """Globs of secrets' names."""
    return _list(value, lambda each: check_glob(_text(each)))


def stages(value: Any) -> tuple[str, ...]:
    """Names of stages; `""` is the one without a name."""
    return _list(value, lambda each: each if each == "" else check_stage(_text(each)))


def actions(value: Any) -> tuple[str, ...]:
    """Some of ACTIONS."""

    def read(each: Any) -> str:
        if each not in ACTIONS:
            raise Refused(f"an action is one of {', '.join(ACTIONS)}")
        return str(each)

    return _list(value, read)


def uids(value: Any) -> tuple[int, ...] | None:
    """None: the agent's own."""
    if value == "self":
        return None
    if not isinstance(value, list):
        return (_uid(value),)
    return _list(value, lambda each: os.geteuid() if each == "self" else _uid(each))


def _uid(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**32 - 1:  # the last one is "no uid"
        raise Refused('a uid is "self" or a number')
    return value


def paths(value: Any) -> tuple[str, ...]:
    """Path globs, `~` replaced by the home folder."""
    return _list(value, lambda each: _path(_text(each)))


def _path(text: str) -> str:
    head, slash, rest = text.partition("/")
    home = _home(head) if head.startswith("~") else head
    segments = rest.split("/")
    is_absolute = home.startswith("/") if head else bool(slash)
    if not is_absolute or any(part in (".", "..") for part in segments):
        raise Refused("a path glob begins with / or ~/ and has no . or .. in it")
    if "" in segments and text not in ("/", head):
        raise Refused("a path glob has no // in it and no / at its end")
    return f"{home}{slash}{rest}"


def _home(tilde: str) -> str:
    """The folder that `~` or `~name` means, as the kernel names it: links resolved.

    A star in its name must not become a pattern (OpenBao GHSA-59w7-v8rr-pr4p).
    """
    home = os.path.realpath(os.path.expanduser(tilde))  # noqa: PTH111  # Path would normalise
    if not home.startswith("/") or any(char in home for char in "*?~"):
        raise Refused("the home folder cannot stand in a glob: write the path out")
    return home


def flag(value: Any) -> bool:
    """True or false."""
    if type(value) is not bool:
        raise Refused("true or false is wanted")
    return value


def count(value: Any) -> int:
    """A whole number from 1."""
    if type(value) is not int or not 1 <= value <= 10**9:
        raise Refused("a whole number from 1 is wanted")
    return value


def ttl(value: Any) -> int:
    """Seconds: of a duration, or a number."""
    if type(value) is not str and type(value) is not int:
        raise Refused('a duration is wanted, such as "15m"')
    return parse_duration(str(value))
