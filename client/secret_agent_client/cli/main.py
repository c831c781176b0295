"""From argv to an exit status: which verb, its arguments, and how what goes wrong is told.

Rules that hold here: a verb's module is imported only when the verb is used; an argument is never
echoed (it could be a value that somebody meant well); a bad invocation shows a good one; what is
no error of ours in kind is told by its type alone, and by its frames with --debug, never by its
text, which could hold a value.
"""

import os
import signal
import sys
from argparse import SUPPRESS, ArgumentParser, Namespace, RawDescriptionHelpFormatter

from secret_agent_client.cli.command import COMMANDS, Command, load
from secret_agent_client.cli.output import PROGRAM, Output, OutputError
from secret_agent_client.errors import InternalError, SecretAgentError, UsageError
from secret_agent_client.version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

GLOBAL = ("--no-input", "--debug", "--json")  # may also stand in front of the verb
INTERRUPTED = 130  # 128 + SIGINT
PIPE_CLOSED = 141  # 128 + SIGPIPE, as for any program in a pipe
INTRODUCTION = f"""\
{PROGRAM}: an ssh-agent for every other secret

  eval $(secret-agent start)                       the agent runs, and this shell knows it
  secret-agent set payments/db --field password    asks for the value, hidden
  secret-agent get payments/db#password            prints it
  secret-agent run --env PGPASSWORD=secret://payments/db#password -- psql
  secret-agent tour                                see it all work, leaving nothing behind
"""


_NOT_TAKEN = "an argument that it does not take"


class Parser(ArgumentParser):
    """An argument parser that raises UsageError, and does not repeat what it was given."""

    example = f"{PROGRAM} --help"

    def error(self, message: str) -> "NoReturn":
        verb = self.prog.removeprefix(f"{PROGRAM} ")
        raise UsageError(f"{verb}: {without_values(message)}", remedy=self.example)


def run_main(argv: "Sequence[str]", ended: SecretAgentError | None = None) -> "NoReturn":
    """Run one command line and end the process as it should end."""
    open_standard_streams()
    status = main(argv, ended)
    if status == INTERRUPTED:  # a shell that runs a loop must see that it was Ctrl-C
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    sys.exit(status)


def main(argv: "Sequence[str]", ended: SecretAgentError | None = None) -> int:
    """Run one command line (without the program's name); the exit status.

    `ended`: the error that the short path has come to already, which only needs to be told.
    """
    before, verb, rest = split(argv)
    ours = rest[: rest.index("--")] if "--" in rest else rest
    flags = [*before, *ours]
    out = Output(as_json="--json" in flags)
    try:
        if ended is not None:
            return _failed(out, ended, debug=False)
        return _dispatch(out, before, verb, rest)
    except SecretAgentError as error:
        return _failed(out, error, debug="--debug" in flags)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _forget_stdout()
        return PIPE_CLOSED
    except Exception as error:  # noqa: BLE001  # the last line of defence: told by its type, exit 1
        return _unexpected(out, error, verb, debug="--debug" in flags)


def open_standard_streams() -> None:
    """Give a closed stdin, stdout or stderr a descriptor that refuses, before a file takes it.

    Without this a socket could become descriptor 1, and a value be written to it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            # Read only: what is printed to a closed stdout is an error, not lost.
            null = os.open(os.devnull, os.O_RDONLY if number == 1 else os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w"))


def split(argv: "Sequence[str]") -> tuple[list[str], str | None, list[str]]:
    """What stands before the verb, the verb, and what stands after it."""
    for at, word in enumerate(argv):
        if not word.startswith("-"):
            return list(argv[:at]), word, list(argv[at + 1 :])
    return list(argv), None, []


def without_values(message: str) -> str:
    """The message of argparse with what the person typed taken out: it quotes arguments freely."""
    if message.startswith("unrecognized arguments"):
        return _NOT_TAKEN
    for mark in (": invalid choice:", ": invalid ", ": ignored explicit argument", ": could match"):
        head, found, tail = message.partition(mark)
        if found:
            choices = tail.partition("(choose from ")[1:]
            return head + " cannot be that" + (f" {''.join(choices)}" if choices[0] else "")
    return message


def parser_for(verb: str, command: Command) -> Parser:
    """The parser of one verb, with what every verb has."""
    parser = Parser(
        prog=f"{PROGRAM} {verb}",
        description=command.help[:1].upper() + command.help[1:] + ".",
        epilog=f"example:\n  {command.example}",
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.example = command.example
    parser.add_argument("--no-input", action="store_true", help="never ask; fail at once instead")
    parser.add_argument("--debug", action="store_true", help="show a traceback when it goes wrong")
    parser.set_defaults(json=False)
    command.configure(parser)
    return parser


def parse(verb: str, command: Command, words: "Sequence[str]") -> Namespace:
    """The arguments of a verb.  Raises UsageError; -h raises SystemExit(0) having printed."""
    line: list[str] | None = None
    words = list(words)
    if command.takes_command and "--" in words:
        at = words.index("--")
        words, line = words[:at], words[at + 1 :]
    try:
        args = parser_for(verb, command).parse_args(words)
    except UsageError as error:
        if command.takes_command and line is None and error.message.endswith(_NOT_TAKEN):
            message = f"{verb}: a command to run stands behind --"
            raise UsageError(message, remedy=command.example) from None
        raise
    if command.takes_command:
        args.command = line
    return args


def _dispatch(out: Output, before: "list[str]", verb: str | None, rest: "list[str]") -> int:
    if "--version" in before:
        out.line(f"{PROGRAM} {__version__}")
        return 0
    if verb is None and (not before or "-h" in before or "--help" in before):
        return _help(out, asked="-h" in before or "--help" in before)
    unknown = [word for word in before if word not in GLOBAL]
    if verb is None or unknown:
        raise UsageError("an option that no command has, or no command", remedy=f"{PROGRAM} --help")
    if verb == "help":
        return _help(out, asked=True) if not rest else _dispatch(out, [], rest[0], ["--help"])
    if verb not in COMMANDS:
        raise UsageError("there is no command of that name", remedy=_nearest(verb))
    command = load(verb)
    try:
        args = parse(verb, command, [*_placed(before, command, verb), *rest])
    except SystemExit:
        return 0
    return command.run(args, out)


def _placed(before: "list[str]", command: Command, verb: str) -> "list[str]":
    """Options that stood in front of the verb, where it knows them; `--json` not all have."""
    known = parser_for(verb, command).format_usage()
    return [word for word in before if word in known]


def _help(out: Output, *, asked: bool) -> int:
    """The short help: to stdout when it was asked for, else to stderr."""
    lines = INTRODUCTION.splitlines()
    if asked:
        lines += ["", "commands (each has -h):"]
        lines += [f"  {verb:<12} {text}" for verb, (_, text) in COMMANDS.items() if text]
    else:
        lines += ["", f"{PROGRAM} --help lists the commands"]
    for line in lines:
        (out.line if asked else out.say)(line)
    return 0 if asked else UsageError.exit_status


def _nearest(verb: str) -> str:
    from difflib import get_close_matches

    names = [name for name, (_, text) in COMMANDS.items() if text]
    close = get_close_matches(verb, names, n=1)
    return f"{PROGRAM} {close[0]} --help" if close else f"{PROGRAM} --help"


def _failed(out: Output, error: SecretAgentError, *, debug: bool) -> int:
    if debug:
        _trace(out, error)
    out.error(error)
    return error.exit_status


def _unexpected(out: Output, error: Exception, verb: str | None, *, debug: bool) -> int:
    if isinstance(error, OutputError):
        return _unwritten(out, error)
    if debug:
        _trace(out, error)
    wrapped = InternalError(
        f"{verb or 'no command'}: an error that should not happen: {type(error).__name__}",
        remedy=f"{PROGRAM} {verb or ''} --debug …",
    )
    out.error(wrapped)
    return wrapped.exit_status


def _unwritten(out: Output, error: OutputError) -> int:
    wrapped = InternalError(f"stdout cannot be written: {error}")
    out.as_json = False
    out.error(wrapped)
    _forget_stdout()
    return wrapped.exit_status


def _trace(out: Output, error: BaseException) -> None:
    """Where it happened, outermost first; no texts of exceptions, no locals."""
    from traceback import extract_tb

    for frame in extract_tb(error.__traceback__):
        out.say(f"  {frame.filename}:{frame.lineno} in {frame.name}")
    out.say(f"  {type(error).__name__}")
    if error.__cause__ is not None:
        out.say("  caused by")
        _trace(out, error.__cause__)


def _forget_stdout() -> None:
    """Python flushes stdout at exit; nobody reads it any more."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


__all__ = ["SUPPRESS", "main"]
