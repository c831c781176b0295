"""`trust` and `untrust`: whether a repository's secrets.toml may be used, by its very content.

To type `trust` is the decision, as `direnv allow` is; nothing else in this program makes it.  What
is trusted is always shown, all of it or what has changed, and at a terminal the person may still
say no; the decision is about the bytes that were shown (one read) and no others (T42, T48).
"""

import os
from argparse import ArgumentParser, Namespace
from pathlib import Path

from secret_agent_client.cli.command import Command
from secret_agent_client.cli.output import Output
from secret_agent_client.cli.prompts import confirm, may_prompt
from secret_agent_client.environment import check_name as check_variable
from secret_agent_client.errors import NotFoundError
from secret_agent_client.manifest import (
    FILE_NAME,
    Manifest,
    ManifestFile,
    find_manifest,
    parse_manifest,
    read_manifest,
)
from secret_agent_client.private_file import quoted
from secret_agent_client.trust import Trust, Trusted, changes


def _configure_trust(parser: ArgumentParser) -> None:
    parser.add_argument(
        "path", metavar="PATH", nargs="?", help="the secrets.toml or its folder; else the nearest"
    )
    parser.add_argument("--yes", action="store_true", help="do not ask at the terminal")
    parser.add_argument("--json", action="store_true", help="what was trusted, as JSON")


def _trust(args: Namespace, out: Output) -> int:
    file = read_manifest(_find(args.path))
    manifest = parse_manifest(file)
    for name in manifest.declared_names():
        check_variable(name, "secrets.toml")
    trust = Trust.of_user()
    before = trust.lookup(file.path)
    if before is not None and before.sha256 == file.digest:
        out.say(f"{file.path} is trusted already, since {before.at}")
    else:
        _show(out, file, before)
        if may_prompt(args) and not args.yes:
            confirm(args, "trust exactly this?", remedy=f"secret-agent trust {quoted(file.path)}")
        trust.add(file.path, file.data)
        out.say(f"{file.path} is trusted as it is now; any change asks again")
    if args.json:
        out.json(_shown(file, manifest))
    return 0


def _shown(file: ManifestFile, manifest: Manifest) -> dict[str, object]:
    return {
        "path": file.path,
        "sha256": file.digest,
        "project": manifest.project,
        "names": sorted(manifest.declared_names()),
    }


def _show(out: Output, file: ManifestFile, before: Trusted | None) -> None:
    text = file.data.decode()
    if before is None:
        out.say(f"{file.path} asks for:")
        lines = [f"  {line}" for line in text.rstrip("\n").split("\n")]
    else:
        out.say(f"{file.path} has changed since {before.at}:")
        lines = changes(before.text, text)
    for line in lines:
        out.say(line)


def _find(path: str | None) -> str:
    """The manifest that is meant.  Raises NotFoundError."""
    if path is None:
        found = find_manifest(os.getcwd())  # noqa: PTH109  # resolved there
        if found is None:
            raise NotFoundError(f"no {FILE_NAME} here or above")
        return found
    given = Path(path)
    if given.is_dir():
        given = given / FILE_NAME
    if not os.path.lexists(given):
        raise NotFoundError(f"no {FILE_NAME} at that path")
    return str(given)


def _configure_untrust(parser: ArgumentParser) -> None:
    parser.add_argument(
        "path", metavar="PATH", nargs="?", help="the secrets.toml or its folder; else the nearest"
    )


def _untrust(args: Namespace, out: Output) -> int:
    # A repository that was deleted can still be forgotten: its file need not be there.
    path = args.path if args.path is not None else _find(None)
    real = os.path.realpath(path)
    trust = Trust.of_user()
    for candidate in (real, os.path.join(real, FILE_NAME)):  # noqa: PTH118  # realpath's text
        if trust.remove(candidate):
            out.say(f"{candidate} is no longer trusted")
            return 0
    raise NotFoundError("nothing was trusted at that path")


COMMANDS = {
    "trust": Command(
        help="let a repository's secrets.toml be used, as it is now",
        example="secret-agent trust ~/src/payments",
        configure=_configure_trust,
        run=_trust,
    ),
    "untrust": Command(
        help="let it be used no more",
        example="secret-agent untrust ~/src/payments",
        configure=_configure_untrust,
        run=_untrust,
    ),
}
