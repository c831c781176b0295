"""`run`: a command with secrets in its environment or in files, masked, in its own terminal.

Here is only what the command line decides: options, the manifest, what is told on failure.
Exit statuses are env(1)'s: 125 where the secrets could not be had, 126 and 127 where the command
could not be run; 2 only for options that do not fit together; else the command's own.
"""

import os
from argparse import ArgumentParser, Namespace
from functools import partial

from secret_agent_client.child import CommandError, find_program
from secret_agent_client.cli.command import Command
from secret_agent_client.cli.output import Output
from secret_agent_client.cli.session import call_many_unlocked, open_session
from secret_agent_client.dotenv import MAX_FILE, Dotenv, parse_dotenv
from secret_agent_client.environment import Asked, Plan, plan_environment
from secret_agent_client.errors import InvalidError, SecretAgentError, UsageError
from secret_agent_client.references import check_stage
from secret_agent_client.run import Job, SecretRun
from secret_agent_client.run_holding import Terms

NOT_HAD = 125  # exit status where the secrets could not be had; as env(1) for its own failures
MANIFEST = "secrets.toml"

# Their server is started by whoever comes first, and hands its environment to all that come later.
_OUTLIVE = frozenset({"tmux", "screen", "zellij", "byobu", "dtach", "abduco", "emacs", "code"})


def _configure(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--env", metavar="NAME=REF", action="append", default=[], help="put it into NAME"
    )
    parser.add_argument(
        "--env-file",
        metavar="FILE",
        action="append",
        default=[],
        help="a .env file whose values may be references",
    )
    parser.add_argument(
        "--file",
        metavar="NAME=REF",
        action="append",
        default=[],
        help="put it into a private file whose path is in NAME",
    )
    parser.add_argument("--stage", metavar="S", help="of this stage, where there is such a one")
    parser.add_argument("--ttl", metavar="D", help="the term of the leases; they are renewed")
    parser.add_argument("--reason", metavar="TEXT", help="why; the audit log keeps it")
    parser.add_argument("--no-manifest", action="store_true", help="leave secrets.toml aside")
    parser.add_argument("--no-mask", action="store_true", help="show values in the output")
    parser.add_argument(
        "--on-revoke",
        choices=("terminate", "hup", "ignore"),
        default="terminate",
        help="what happens to the command when a lease ends; if not said, SIGTERM, then SIGKILL",
    )
    parser.add_argument(
        "--restart",
        action="store_true",
        help="start it anew with new values where a lease expired and can be had again",
    )


def _run(args: Namespace, out: Output) -> int:
    if not args.command:
        raise UsageError(
            "run needs a command after --", remedy="secret-agent run --env NAME=REF -- CMD"
        )
    argv = tuple(args.command)
    program = find_program(argv[0], os.environ.get("PATH"))
    asked = _asked(args)
    terms = _terms(args)
    plan_environment(os.environ, asked)  # what is wrong with the options is told first, as such
    try:
        job = Job(
            program=program,
            argv=argv,
            plan=_plan(args, asked),
            terms=terms,
            on_revoke=args.on_revoke,
            restart=args.restart,
            mask=not args.no_mask,
        )
        _warn_of_servers(argv[0], out)
        if not job.plan.wanted:
            out.warn("no secret was asked for: no option, no reference, no secrets.toml")
            return SecretRun(None, job, out.warn).run()
        with open_session(args) as connection:
            ask = partial(call_many_unlocked, connection, args)
            return SecretRun(connection, job, out.warn).run(ask)
    except CommandError:
        raise
    except SecretAgentError as error:
        error.exit_status = NOT_HAD
        raise


def _asked(args: Namespace) -> Asked:
    return Asked(
        env=tuple(args.env),
        files=tuple(args.file),
        env_files=tuple(_read_dotenv(path) for path in args.env_file),
    )


def _terms(args: Namespace) -> Terms:
    return Terms(
        stage=None if args.stage is None else check_stage(args.stage),
        ttl_s=None if args.ttl is None else _duration(args.ttl),
        reason=args.reason,
    )


def _duration(text: str) -> int:
    from secret_agent_client.duration import parse_duration

    return parse_duration(text, what="--ttl")


def _plan(args: Namespace, asked: Asked) -> Plan:
    if args.no_manifest or not _may_have_manifest():
        return plan_environment(os.environ, asked)
    from secret_agent_client.manifest import load_manifest

    return plan_environment(os.environ, asked, load_manifest(os.curdir), stage=args.stage)


def _may_have_manifest() -> bool:
    """Whether a secrets.toml lies in any folder above us: reading TOML costs as much as all else.

    Which of them counts, and whether it may be used, manifest.py decides.
    """
    folder = os.path.realpath(os.curdir)
    while not os.path.lexists(os.path.join(folder, MANIFEST)):  # noqa: PTH118  # no pathlib here
        above = os.path.dirname(folder)  # noqa: PTH120  # as above
        if above == folder:
            return False
        folder = above
    return True


def _read_dotenv(path: str) -> Dotenv:
    from secret_agent_client.private_file import read_regular

    try:
        data, _ = read_regular(path, most=MAX_FILE)
    except OSError as error:
        why = os.strerror(error.errno or 0).lower()
        raise InvalidError(f"--env-file cannot be read: {why}") from None
    return parse_dotenv(data)


def _warn_of_servers(program: str, out: Output) -> None:
    if program.rpartition("/")[2] in _OUTLIVE:
        out.warn(
            "a server that this may start keeps its environment, values included, for everything "
            "that is started in it later; run commands inside it instead"
        )


COMMANDS = {
    "run": Command(
        help="run a command with secrets",
        example="secret-agent run --env PGPASSWORD=payments/db#password -- psql",
        configure=_configure,
        run=_run,
        takes_command=True,
    ),
}
