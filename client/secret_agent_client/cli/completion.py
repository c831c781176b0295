"""`completions` and `shell-init`: what shells source.

Names of secrets come from a running, unlocked agent when they are wanted; what goes wrong there is
silence, never a message in the middle of somebody's line and never a question.
"""

import pkgutil
from argparse import ArgumentParser, Namespace
from contextlib import suppress
from pathlib import Path

from secret_agent_client.cli.command import Command
from secret_agent_client.cli.output import Output
from secret_agent_client.connection import Connection
from secret_agent_client.errors import InternalError, SecretAgentError
from secret_agent_client.references import check_name

NAMES_S = 1.0  # seconds that a Tab may wait for an agent
SCRIPTS = {
    "bash": "hook.bash",
    "zsh": "hook.zsh",
    "fish": "hook.fish",
    "posix": "hook.sh",
    "sh": "hook.sh",
    "direnv": "direnv.sh",
}


def _configure_completions(parser: ArgumentParser) -> None:
    parser.add_argument(
        "shell",
        metavar="SHELL",
        choices=("bash", "zsh", "fish"),
        help="bash, zsh or fish",
    )


def _completions(args: Namespace, out: Output) -> int:
    from secret_agent_client.cli.completion_scripts import SHELLS
    from secret_agent_client.cli.completion_words import all_words

    out.raw(SHELLS[args.shell](all_words()).encode())
    return 0


def _configure_complete(parser: ArgumentParser) -> None:
    parser.add_argument("kind", choices=("names",), help="the names of secrets, a line each")


def _complete(_args: Namespace, out: Output) -> int:
    for name in _names():
        out.line(name)
    return 0


def _names() -> list[str]:
    """The names that may be known of; none where no agent answers at once, or it is locked."""
    names = set()
    with suppress(SecretAgentError), Connection.connect(deadline_s=NAMES_S) as connection:
        for secret in connection.call("ls", {}, deadline_s=NAMES_S)["secrets"]:
            # What a shell will split into words is held to the grammar here too (T4).
            names.add(check_name(secret["name"]))
    return sorted(names)


def _configure_init(parser: ArgumentParser) -> None:
    parser.add_argument("shell", metavar="SHELL", choices=tuple(SCRIPTS), help=", ".join(SCRIPTS))


def _init(args: Namespace, out: Output) -> int:
    out.raw(shell_script(SCRIPTS[args.shell]))
    return 0


def shell_script(name: str) -> bytes:
    """A script of shell/, from the package (a wheel, a zipapp) or beside a source checkout."""
    with suppress(OSError):
        packaged = pkgutil.get_data("secret_agent_client", f"shell/{name}")
        if packaged is not None:
            return packaged
    beside = Path(__file__).resolve().parents[3] / "shell" / name
    try:
        return beside.read_bytes()
    except OSError:
        raise InternalError(f"{name} is missing from this installation") from None


COMMANDS = {
    "completions": Command(
        help="completion for a shell",
        example="source <(secret-agent completions bash)",
        configure=_configure_completions,
        run=_completions,
    ),
    "complete": Command(
        help="the words that completion asks for when Tab is pressed",
        example="secret-agent complete names",
        configure=_configure_complete,
        run=_complete,
    ),
    "shell-init": Command(
        help="the integration of a shell, to be evaluated in its start-up file",
        example='eval "$(secret-agent shell-init bash)"',
        configure=_configure_init,
        run=_init,
    ),
}
