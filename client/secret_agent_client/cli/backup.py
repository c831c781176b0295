"""Encrypted backups: `export`, and `import` of what it wrote.

The agent makes and opens a backup; it gets a descriptor of the file and never a path.  A backup is
encrypted before it leaves the agent, so that nothing here ever sees a value.
"""

import sys
from argparse import ArgumentParser, Namespace
from typing import Any

from secret_agent_client.cli.command import Command
from secret_agent_client.cli.given import cannot_be_read
from secret_agent_client.cli.output import Output
from secret_agent_client.cli.prompts import may_prompt, passphrase_from, read_passphrase
from secret_agent_client.cli.session import call_unlocked, open_session
from secret_agent_client.errors import InvalidError, UsageError
from secret_agent_client.private_file import quoted, read_regular, replacing

MAX_IDENTITY = 4096  # bytes; the wire's limit
BACKUP_S = 600.0  # seconds for a backup of a large store on a slow disk
_AGE = (b"age-encryption.org/v1", b"-----BEGIN AGE ENCRYPTED FILE-----")


def add_passphrase_fd(parser: ArgumentParser) -> None:
    """The option by which a script gives a backup's passphrase."""
    parser.add_argument(
        "--passphrase-fd", metavar="N", type=int, help="of a backup: read its passphrase there"
    )


def is_backup(path: str) -> bool:
    """Whether the file is an age file, by how it begins.  Raises InvalidError."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123  # "" must be an error and no folder
            return file.read(64).startswith(_AGE)
    except IsADirectoryError:
        return False
    except OSError as error:
        raise cannot_be_read("the file to be imported", error) from None


def import_backup(args: Namespace, out: Output) -> int:
    """Take a backup back in; the exit status."""
    if args.write_manifest or args.stage or args.dry_run or args.replace:
        raise UsageError("a backup is taken back as it is: names, stages and versions are its own")
    body: dict[str, Any] = {"prefix": args.prefix} if args.prefix else {}
    if args.identity is not None:
        body["identity"] = _identity(args.identity)
    else:
        body["passphrase"] = _passphrase(args, "the backup's passphrase: ", confirm=False)
    with open_session(args) as connection, open(args.file, "rb") as file:  # noqa: PTH123  # as above
        reply = call_unlocked(
            connection, args, "import", body, descriptors=(file.fileno(),), deadline_s=BACKUP_S
        )
    if args.json:
        out.json(reply)
    else:
        out.say(
            f"{reply['added']} secrets added, {reply['updated']} updated, {reply['same']} the same"
        )
    return 0


def _identity(path: str) -> bytes:
    try:
        data, known = read_regular(path, most=MAX_IDENTITY)
    except OSError as error:
        raise cannot_be_read("the identity's file", error) from None
    if known.st_mode & 0o077:
        raise InvalidError(
            "the identity's file is open to others", remedy=f"chmod 600 {quoted(path)}"
        )
    return data


def _configure_export(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--encrypted-to",
        metavar="RECIPIENT",
        action="append",
        required=True,
        help="age1…, which may stand several times, or: passphrase",
    )
    parser.add_argument("-o", "--out", metavar="FILE", help="the file to be written; else stdout")
    add_passphrase_fd(parser)
    parser.add_argument("--json", action="store_true", help="what was written, as JSON")


def _export(args: Namespace, out: Output) -> int:
    body = _export_body(args)
    if args.out in (None, "-"):
        if args.json:
            raise UsageError("--json needs -o FILE: stdout carries the backup")
        if sys.stdout.isatty():
            raise UsageError(
                "stdout is a terminal and a backup is no text",
                remedy=f"secret-agent export --encrypted-to {args.encrypted_to[0]} -o backup.age",
            )
        reply = _write_backup(args, body, sys.stdout.fileno())
    else:
        with replacing(args.out) as descriptor:
            reply = _write_backup(args, body, descriptor)
    if args.json:
        out.json(reply)
        return 0
    where = "" if args.out in (None, "-") else f" in {args.out}"
    out.say(f"{reply['secrets']} secrets{where}")
    if reply.get("left_out"):
        out.warn(f"{reply['left_out']} secrets that you may not read are not in it")
    return 0


def _export_body(args: Namespace) -> dict[str, Any]:
    recipients: list[str] = args.encrypted_to
    if recipients == ["passphrase"]:
        return {"passphrase": _passphrase(args, "a passphrase for the backup: ", confirm=True)}
    if "passphrase" in recipients:
        raise UsageError("a backup is encrypted to recipients or to a passphrase, not to both")
    if args.passphrase_fd is not None:
        raise UsageError("--passphrase-fd goes with --encrypted-to passphrase")
    for recipient in recipients:
        if not recipient.startswith("age1"):
            # It may be a passphrase or an identity that somebody typed here: it is not repeated.
            raise UsageError(
                "a recipient is an age public key (age1…) or the word passphrase",
                remedy="secret-agent export --encrypted-to passphrase -o backup.age",
            )
    return {"recipients": recipients}


def _write_backup(args: Namespace, body: dict[str, Any], descriptor: int) -> dict[str, Any]:
    with open_session(args) as connection:
        return call_unlocked(
            connection, args, "export", body, descriptors=(descriptor,), deadline_s=BACKUP_S
        )


def _passphrase(args: Namespace, text: str, *, confirm: bool) -> bytes:
    if args.passphrase_fd is not None:
        return bytes(passphrase_from(args.passphrase_fd))
    if not may_prompt(args):
        raise UsageError(
            "there is no terminal to ask for the passphrase at",
            remedy="give it by --passphrase-fd 3 3< passphrase-file",
        )
    return bytes(read_passphrase(text, confirm=confirm))


COMMANDS = {
    "export": Command(
        help="write an encrypted backup",
        example="secret-agent export --encrypted-to passphrase -o backup.age",
        configure=_configure_export,
        run=_export,
    ),
}
