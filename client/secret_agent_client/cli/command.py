"""What a verb is, and the table of all of them.

Rules that hold here: the table names modules and imports none, so that a verb pays for itself
alone; every verb stands in it once; what a verb is and how it is called are told by its module, in
a dictionary COMMANDS from the verb to its Command.
"""

from importlib import import_module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable

    from secret_agent_client.cli.output import Output

    Configure = Callable[[ArgumentParser], None]
    Run = Callable[[Namespace, Output], int]


class Command:
    """One verb of the command line.

    help: one line, without full stop.  example: a command line that works, shown by -h and after a
    bad invocation.  configure: adds the arguments (-h, --no-input and --debug are there already).
    run: does it; the exit status.  takes_command: what follows the first `--` is somebody's command
    line: it is never parsed and arrives as `args.command`, a list, or None without a `--`.
    """

    __slots__ = ("configure", "example", "help", "run", "takes_command")

    def __init__(
        self,
        help: str,  # noqa: A002  # argparse's word
        example: str,
        configure: "Configure",
        run: "Run",
        *,
        takes_command: bool = False,
    ) -> None:
        self.help = help
        self.example = example
        self.configure = configure
        self.run = run
        self.takes_command = takes_command


COMMANDS: "dict[str, tuple[str, str]]" = {
    # agent and session
    "start": ("start", "make sure that the agent runs, and tell the shell of it"),
    "stop": ("start", "revoke every lease, wipe, and end the agent"),
    "status": ("agent", "what the agent does and holds"),
    "unlock": ("agent", "open the session; the first time, make the store"),
    "lock": ("agent", "end the session and every lease"),
    "passwd": ("agent", "change the passphrase"),
    "register": ("agent", ""),
    "unregister": ("agent", ""),
    "doctor": ("doctor", "try what protects here, and how to mend what does not"),
    "tour": ("tour", "see it work: asks nothing, leaves nothing"),
    # secrets
    "set": ("write", "write a new version of a secret"),
    "get": ("fetch", "print a value, under a lease"),
    "run": ("run", "run a command with secrets"),
    "env": ("fetch", "the names and references of secrets.toml"),
    "inject": ("inject", "fill the references of a template"),
    "ls": ("manage", "the secrets that you may know of, without values"),
    "describe": ("manage", "what is known of one secret, without values"),
    "rm": ("manage", "remove a secret, or one version of it"),
    "history": ("manage", "the versions of a secret"),
    "restore": ("manage", "bring back an older or removed version as the newest"),
    "import": ("transfer", "take secrets from a file, or a backup back in"),
    "export": ("backup", "write an encrypted backup"),
    "trust": ("trust", "let a repository's secrets.toml be used, as it is now"),
    "untrust": ("trust", "let it be used no more"),
    # leases, scopes, policy, audit
    "leases": ("lease", "what is out, with whom, until when"),
    "who": ("lease", "which living processes hold what"),
    "renew": ("lease", "prolong a lease, up to the rule's maximum"),
    "revoke": ("lease", "end leases and scopes now"),
    "delegate": ("delegate", "a socket that can do less, for a container or a command"),
    "scopes": ("lease", "the sockets made by delegate"),
    "policy": ("policy", "check, explain and show the rules"),
    "audit": ("audit", "what was decided, and whether the record holds"),
    # integration
    "shell-init": (
        "completion",
        "the integration of a shell, to be evaluated in its start-up file",
    ),
    "completions": ("completion", "completion for a shell"),
    "complete": ("completion", ""),
}
"""Verb -> (module under secret_agent_client.cli, one line of help; a hidden verb has none)."""


def load(verb: str) -> Command:
    """The command of a verb of the table; KeyError for another."""
    module = import_module("secret_agent_client.cli." + COMMANDS[verb][0])
    commands: dict[str, Command] = module.COMMANDS
    return commands[verb]


def add_json(parser: "ArgumentParser") -> None:
    """The --json of a verb whose output a script would read."""
    parser.add_argument("--json", action="store_true", help="print one JSON document to stdout")
