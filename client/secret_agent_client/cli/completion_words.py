"""What can be typed after each command, read off the parsers: never a list kept by hand."""

from argparse import SUPPRESS, Action, ArgumentParser, _SubParsersAction
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Takes = Literal["nothing", "names", "files", "text"]

_NAMES = frozenset({"REF", "GLOB", "REF [FIELD=VALUE]"})  # metavars: a secret's name fits there
_FILES = frozenset({"FILE", "PATH", "IN", "OUT", "-- CMD", "CMD"})


@dataclass(frozen=True, slots=True)
class Option:
    """An option: its spellings, its help, and what the word after it is."""

    names: tuple[str, ...]
    help: str
    takes: Takes
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Words:
    """What may follow a command (`get`) or a command's command (`policy check`)."""

    path: tuple[str, ...]
    help: str
    options: tuple[Option, ...]
    choices: tuple[tuple[str, str], ...]  # fixed words and their help
    takes: Takes


def all_words() -> list[Words]:
    """The words of every command that is not hidden."""
    from secret_agent_client.cli.command import COMMANDS, load
    from secret_agent_client.cli.main import parser_for

    found: list[Words] = []
    for verb, (_, help_) in COMMANDS.items():
        if help_:
            found += words_of(parser_for(verb, load(verb)), (verb,), help_)
    return found


def words_of(parser: ArgumentParser, path: tuple[str, ...], help_: str) -> Iterator[Words]:
    """The words of a parser and of every parser below it."""
    options: list[Option] = []
    choices: list[tuple[str, str]] = []
    takes: Takes = "nothing"
    below: list[tuple[ArgumentParser, str, str]] = []
    for action in parser._actions:  # noqa: SLF001  # argparse has no public way to ask
        if isinstance(action, _SubParsersAction):
            helps = {each.dest: each.help or "" for each in action._choices_actions}  # noqa: SLF001  # ditto
            below += [(sub, name, helps.get(name, "")) for name, sub in action.choices.items()]
            choices += [(name, helps.get(name, "")) for name in action.choices]
        elif action.option_strings:
            options.append(_option(action))
        elif action.choices:
            choices += [(str(choice), "") for choice in action.choices]
        elif takes == "nothing":
            takes = _takes(action)
    yield Words(path, help_, tuple(options), tuple(choices), takes)
    for sub, name, help_below in below:
        yield from words_of(sub, (*path, name), help_below)


def _option(action: Action) -> Option:
    text = "" if action.help in (None, SUPPRESS) else str(action.help)
    choices = tuple(map(str, action.choices or ()))
    # An option whose word may be left out (`--generate[=SPEC]`) is followed by what is next.
    takes: Takes = "nothing" if action.nargs in (0, "?") else _takes(action)
    return Option(tuple(action.option_strings), text, takes, choices)


def _takes(action: Action) -> Takes:
    metavar = action.metavar
    if metavar in _NAMES:
        return "names"
    return "files" if metavar in _FILES else "text"
