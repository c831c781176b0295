"""`import`: from the files of others, secret by secret; a backup goes to cli/backup.py.

All that is taken and all that is left is told of.  No secret that exists is written over unless
--replace says so.  The file itself is never touched.
"""

from argparse import ArgumentParser, Namespace
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from secret_agent_client.cli.backup import add_passphrase_fd, import_backup, is_backup
from secret_agent_client.cli.command import Command
from secret_agent_client.cli.given import read_input
from secret_agent_client.cli.output import Output
from secret_agent_client.cli.session import call_unlocked, open_session
from secret_agent_client.cli.write import call_creating
from secret_agent_client.connection import Connection
from secret_agent_client.environment import check_name as check_variable
from secret_agent_client.errors import DeniedError, InvalidError, SecretAgentError, UsageError
from secret_agent_client.importers import Found, Imported, read_layout
from secret_agent_client.manifest_writing import check_absent, write_manifest
from secret_agent_client.private_file import quoted
from secret_agent_client.references import Reference, check_name, check_stage
from secret_agent_client.trust import Trust

MAX_FILE = 16 * 1024 * 1024  # bytes of a file of another layout


@dataclass(slots=True)
class Report:
    """What an import of a layout did: names by what became of them, and what was refused."""

    added: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    failed: SecretAgentError | None = None
    manifest: str | None = None


def _configure_import(parser: ArgumentParser) -> None:
    parser.add_argument(
        "file", metavar="FILE", help=".env, JSON, a pass folder, an encrypted backup; - is stdin"
    )
    parser.add_argument("--prefix", metavar="P", default="", help="put every name below P/")
    parser.add_argument("--stage", metavar="S", help="write everything for this stage")
    parser.add_argument("--replace", action="store_true", help="new versions of what exists too")
    parser.add_argument(
        "--write-manifest", action="store_true", help="write the names to ./secrets.toml, trusted"
    )
    parser.add_argument("--dry-run", action="store_true", help="tell, and write nothing")
    parser.add_argument("--identity", metavar="FILE", help="of a backup: the age identity's file")
    add_passphrase_fd(parser)
    parser.add_argument("--json", action="store_true", help="what was taken and left, as JSON")


def _import(args: Namespace, out: Output) -> int:
    if args.prefix:
        check_name(args.prefix.rstrip("/"))
    if args.file != "-" and is_backup(args.file):
        return import_backup(args, out)
    if args.identity is not None or args.passphrase_fd is not None:
        raise UsageError("--identity and --passphrase-fd are for encrypted backups")
    imported = _read(args.file).prefixed(args.prefix)
    if args.dry_run:
        return _tell(args, out, Report(added=list(imported.found)), imported)
    if args.write_manifest:
        check_absent(".")
    with open_session(args) as connection:
        report = _write_all(connection, args, imported)
    if args.write_manifest:
        names = _environment(report, imported, args.stage)
        report.manifest = write_manifest(".", names, Trust.of_user())
    return _tell(args, out, report, imported)


def _read(path: str) -> Imported:
    if path != "-" and Path(path).is_dir():
        from secret_agent_client.importers_pass import read_pass

        return read_pass(path)
    data = read_input(path, most=MAX_FILE, what="the file to be imported")
    return read_layout(data, stem=Path(path).stem)


def _write_all(connection: Connection, args: Namespace, imported: Imported) -> Report:
    """Write each secret; one that is refused is left with its reason and the others go on."""
    report = Report()
    stage = None if args.stage is None else check_stage(args.stage)
    listed = call_creating(connection, args, "ls", {})["secrets"]
    there = {each["name"] for each in listed if each["stage"] == stage}
    for item in imported.found.values():
        if item.name in there and not args.replace:
            report.kept.append(item.name)
            imported.leave(item.where, f"{item.name} is there already; --replace writes over it")
            continue
        try:
            reply = call_unlocked(connection, args, "set", _set_body(args, item))
        except (InvalidError, DeniedError) as error:
            imported.leave(item.where, error.message)
            report.failed = report.failed or error
            continue
        (report.added if reply["created"] else report.updated).append(item.name)
    return report


def _set_body(args: Namespace, item: Found) -> dict[str, Any]:
    body: dict[str, Any] = {
        "name": item.name,
        "stage": args.stage,
        "type": item.type,
        "note": item.note,
        "fields": {name: value.reveal() for name, value in item.fields.items()},
        "create_only": None if args.replace else True,
        "replace": True,
    }
    return {key: value for key, value in body.items() if value is not None}


def _environment(report: Report, imported: Imported, stage: str | None) -> dict[str, Reference]:
    """The names for a manifest: of what was taken or is there, and of references in the file."""
    held = {*report.added, *report.updated, *report.kept}
    names = {
        item.env: Reference(item.name, stage=stage)
        for item in imported.found.values()
        if item.env is not None and item.name in held
    }
    names |= imported.references
    return {name: reference for name, reference in names.items() if _usable(name, imported)}


def _usable(name: str, imported: Imported) -> bool:
    try:
        check_variable(name, "secrets.toml")
    except SecretAgentError as error:
        imported.leave(name, f"not in {error.message}")
        return False
    return True


def _tell(args: Namespace, out: Output, report: Report, imported: Imported) -> int:
    if args.json:
        out.json(
            {
                "added": report.added,
                "updated": report.updated,
                "left": [{"where": where, "why": why} for where, why in imported.left],
                "manifest": report.manifest,
            }
        )
    verb = "would be taken" if args.dry_run else "taken"
    names = ", ".join([*report.added, *report.updated])
    count = len(report.added) + len(report.updated)
    out.say(f"{count} secrets {verb}{': ' if names else ''}{names}")
    for where, why in imported.notes:
        out.say(f"  {where}: {why}")
    if imported.left:
        out.say(f"{len(imported.left)} left:")
    for where, why in imported.left:
        out.say(f"  {where}: {why}")
    if report.manifest is not None:
        out.say(f"{report.manifest} written and trusted")
    if count and args.file != "-" and not args.dry_run:
        out.hint(f"the values are still in the clear in {quoted(args.file)}")
    return 0 if report.failed is None else report.failed.exit_status


COMMANDS = {
    "import": Command(
        help="take secrets from a file, or a backup back in",
        example="secret-agent import .env --prefix payments --write-manifest",
        configure=_configure_import,
        run=_import,
    ),
}
