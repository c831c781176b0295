"""`secrets.toml`, version 1: which environment names a repository wants, and by which references.

Rules that hold here (T40, T41, T42, T48; the grammar is told in client/REFERENCES.md):

* a manifest may ask, it may not decide: no key that has to do with policy, trust, providers or
  commands can stand in it, and no value of a secret: only `secret://` references;
* reading one has no side effect: nothing is run, fetched, expanded or included;
* the file is read once; what is hashed, compared with what was trusted, and parsed is those bytes;
* a file of another user, or one that everybody could write, is not used, and that is said.

What is wrong is told with line and column, never with the content of a value.
"""

import os
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from secret_agent_client.dotenv import is_environment_name
from secret_agent_client.errors import DeniedError, InvalidError, SecretAgentError
from secret_agent_client.manifest_place import place_of
from secret_agent_client.private_file import quoted, read_regular
from secret_agent_client.references import Reference, check_stage, is_reference, parse_reference
from secret_agent_client.trust import Trust

FILE_NAME = "secrets.toml"
MAX_FILE = 256 * 1024  # bytes
MAX_NAMES = 1024  # names of one stage; a kernel takes some 2 MiB of environment in all
MAX_TEXT = 1024  # characters of `project` and `about`

When = Literal["always", "run"]

_SECURITY_KEYS = frozenset(
    {
        "policy", "rule", "rules", "trust", "trusted", "trusted_paths", "provider", "providers",
        "mount", "mounts", "command", "commands", "exec", "hook", "hooks", "include", "audit",
        "agent", "socket", "session", "yes", "ci", "allow", "deny", "confirm", "limits", "types",
    }
)  # fmt: skip
"""Keys that would let a repository decide over itself: told apart from mere slips of the pen."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One name of the environment.

    when: "always", or "run" for a name that only `run` sets and a shell never exports.
    required: without the secret nothing runs; otherwise the name stays unset.
    """

    ref: Reference
    when: When = "always"
    required: bool = True
    about: str | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """A parsed manifest.  `digest` is the SHA-256, in hex, of the very bytes that were parsed."""

    path: str
    digest: str
    project: str | None = None
    env: Mapping[str, Entry] = field(default_factory=dict)
    stage_env: Mapping[str, Mapping[str, Entry]] = field(default_factory=dict)

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages that have a table of their own."""
        return tuple(self.stage_env)

    def entries(self, stage: str | None = None) -> dict[str, Entry]:
        """Name -> entry: `[env]`, and over it what `[stage.STAGE.env]` says, if there is one."""
        return {**self.env, **(self.stage_env.get(stage, {}) if stage else {})}

    def declared_names(self) -> frozenset[str]:
        """Every name that stands anywhere in it: `run` removes those it does not set."""
        return frozenset(self.env).union(*self.stage_env.values())


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """A manifest as it was read: not yet trusted, not yet parsed."""

    path: str  # real path, without links
    data: bytes

    @property
    def digest(self) -> str:
        """SHA-256 of the bytes, in hex."""
        return sha256(self.data).hexdigest()


def find_manifest(start: str) -> str | None:
    """The path of the nearest `secrets.toml`, from `start` up to where the project ends.

    The project ends at the directory that holds `.git`, at the home directory, at another file
    system, and before a directory that everybody may write: whose file that would be, nobody knows.
    """
    folder = Path(start).resolve()
    device = folder.stat().st_dev
    home = Path.home().resolve()
    while not os.path.lexists(folder / FILE_NAME):
        if folder in (home, folder.parent) or os.path.lexists(folder / ".git"):
            return None
        folder = folder.parent
        known = folder.stat()
        if known.st_dev != device or known.st_mode & stat.S_IWOTH:
            return None
    return str(folder / FILE_NAME)


def read_manifest(path: str) -> ManifestFile:
    """Read the file once, after asking whose it is.

    Raises DeniedError where it is not ours alone, InvalidError where it is no regular file.
    """
    real = Path(os.path.realpath(path))
    try:
        data, known = read_regular(str(real), most=MAX_FILE)
        folder = real.parent.stat()
    except OSError as error:
        why = os.strerror(error.errno or 0).lower()
        raise InvalidError(f"secrets.toml cannot be read: {why}") from None
    _check_owner(real, known, folder)
    return ManifestFile(str(real), data)


def load_manifest(start: str, trust: Trust | None = None) -> Manifest | None:
    """The nearest manifest, parsed; None where there is none.

    Raises DeniedError unless these very bytes at this very path were trusted before; an untrusted
    file is not even parsed.  `trust` is the user's own record of it where none is given.
    """
    path = find_manifest(start)
    if path is None:
        return None
    file = read_manifest(path)
    (trust or Trust.of_user()).require(file.path, file.data)
    return parse_manifest(file)


def parse_manifest(file: ManifestFile) -> Manifest:
    """Parse the bytes that were read.  Raises InvalidError with line and column."""
    try:
        text = file.data.decode()
        document = tomllib.loads(text)
    except UnicodeDecodeError as error:
        raise InvalidError(f"secrets.toml is not UTF-8 at byte {error.start}") from None
    except tomllib.TOMLDecodeError as error:
        raise InvalidError(f"secrets.toml: {_plain_reason(error)}") from None
    except RecursionError:
        raise InvalidError("secrets.toml: its arrays or tables are nested too deep") from None
    return _Reader(text).read(document, file)


def _check_owner(path: Path, known: os.stat_result, folder: os.stat_result) -> None:
    if known.st_uid != os.geteuid():
        raise DeniedError(
            f"secrets.toml belongs to another user (uid {known.st_uid}), so it is not used",
            remedy=f"ls -l {quoted(str(path))}",
        )
    if known.st_mode & stat.S_IWOTH:
        raise DeniedError(
            "secrets.toml is writable by everybody", remedy=f"chmod o-w {quoted(str(path))}"
        )
    if folder.st_mode & stat.S_IWOTH:
        raise DeniedError(
            "the directory of secrets.toml is writable by everybody",
            remedy=f"chmod o-w {quoted(str(path.parent))}",
        )


class _Reader:
    """Walks the document; every complaint gets the line and column of the key it is about."""

    def __init__(self, text: str) -> None:
        self._text = text

    def read(self, document: dict[str, Any], file: ManifestFile) -> Manifest:
        self._only(document, ("version", "project", "env", "stage"), ())
        if "version" not in document:
            raise InvalidError("secrets.toml: line 1: it must begin with version = 1")
        if type(document["version"]) is not int or document["version"] != 1:
            raise self._wrong(("version",), "this program reads version 1 alone")
        return Manifest(
            path=file.path,
            digest=file.digest,
            project=self._text_at(("project",), document.get("project")),
            env=self._env(document.get("env", {}), ("env",)),
            stage_env=self._stages(document.get("stage", {})),
        )

    def _stages(self, table: Any) -> dict[str, dict[str, Entry]]:
        stages = {}
        for name, inner in self._table(table, ("stage",)).items():
            place = ("stage", name)
            try:
                check_stage(name)
            except InvalidError as error:
                raise self._wrong(place, error.message) from None
            self._only(self._table(inner, place), ("env",), place)
            stages[name] = self._env(inner.get("env", {}), (*place, "env"))
        return stages

    def _env(self, table: Any, place: tuple[str, ...]) -> dict[str, Entry]:
        if len(self._table(table, place)) > MAX_NAMES:
            raise self._wrong(place, f"more than {MAX_NAMES} names")
        return {name: self._entry(name, item, (*place, name)) for name, item in table.items()}

    def _entry(self, name: str, item: Any, place: tuple[str, ...]) -> Entry:
        if not is_environment_name(name):
            raise self._wrong(place, "a name must be letters, digits and _, and no digit first")
        if isinstance(item, str):
            return Entry(self._reference(item, place))
        self._only(self._table(item, place), ("ref", "when", "required", "about"), place)
        when, required = item.get("when", "always"), item.get("required", True)
        if when not in ("always", "run"):
            raise self._wrong(place, 'when must be "always" or "run"')
        if type(required) is not bool:
            raise self._wrong(place, "required must be true or false")
        return Entry(
            self._reference(item.get("ref"), place),
            when=when,
            required=required,
            about=self._text_at(place, item.get("about")),
        )

    def _reference(self, item: Any, place: tuple[str, ...]) -> Reference:
        if not isinstance(item, str) or not is_reference(item):
            # It may be a value that somebody pasted: say nothing of what it is.
            raise self._wrong(place, "a manifest holds references (secret://…) and no values")
        try:
            return parse_reference(item)
        except InvalidError as error:
            raise self._wrong(place, error.message) from None

    def _text_at(self, place: tuple[str, ...], item: Any) -> str | None:
        if item is None or (isinstance(item, str) and len(item) <= MAX_TEXT):
            return item
        raise self._wrong(place, f"a text must be a string of at most {MAX_TEXT} characters")

    def _table(self, item: Any, place: tuple[str, ...]) -> dict[str, Any]:
        if not isinstance(item, dict):
            raise self._wrong(place, "this must be a table")
        return item

    def _only(self, table: dict[str, Any], known: tuple[str, ...], place: tuple[str, ...]) -> None:
        for key in table:
            if key in known:
                continue
            if key in _SECURITY_KEYS:
                raise self._wrong(
                    (*place, key),
                    "this key decides about security; a repository's file cannot, only your own",
                )
            raise self._wrong((*place, key), f"unknown key; known are {', '.join(known)}")

    def _wrong(self, place: tuple[str, ...], why: str) -> SecretAgentError:
        line, column = place_of(self._text, place)
        return InvalidError(f"secrets.toml: line {line}, column {column}: {why}")


def _plain_reason(error: tomllib.TOMLDecodeError) -> str:
    """Where the TOML breaks; tomllib's own sentence may quote a piece of what it read."""
    _, found, place = str(error).rpartition("(at ")
    return f"{place.rstrip(')') if found else 'somewhere'}: this is not TOML"
