"""The environment of a `run` child: which names get values, which are refused, which are removed.

Where a name comes from, the stronger first; a stronger one replaces a weaker one:

    1  --env, --file, --env-file    each name once among them, else it is an error
    2  secrets.toml                 of the stage that was asked for
    3  the environment we have      a variable whose value is a `secret://` reference

Rules that hold here (abuse 50, 53; T43): pure, no I/O; a name by which some program finds code to
run is never set by us, whoever asks, since a value there is a command; what the manifest declares
and this run does not set is taken out of the environment, lest an old value be used; a value that
an environment cannot hold is refused by name, never bent into shape.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from secret_agent_client.dotenv import Assignment, Dotenv, is_environment_name
from secret_agent_client.errors import InvalidError, UsageError
from secret_agent_client.references import Reference, is_reference, parse_reference

if TYPE_CHECKING:
    from secret_agent_client.manifest import Manifest

MAX_VALUE = 128 * 1024 - 1  # bytes of NAME=VALUE; MAX_ARG_STRLEN of execve(2), with its NUL

_REFUSED = frozenset(
    {
        "PATH", "HOME", "SHELL", "ENV", "BASH_ENV", "BASHOPTS", "SHELLOPTS", "IFS", "PS4",
        "PROMPT_COMMAND", "CDPATH", "GLOBIGNORE", "FPATH", "ZDOTDIR", "EDITOR", "VISUAL",
        "PAGER", "MANPAGER", "BROWSER", "LESSOPEN", "LESSCLOSE", "TERMINFO", "TERMCAP",
        "TMPDIR", "XDG_CONFIG_HOME", "XDG_DATA_DIRS", "XDG_CONFIG_DIRS", "XDG_RUNTIME_DIR",
        "DBUS_SESSION_BUS_ADDRESS", "SSH_ASKPASS", "SUDO_ASKPASS", "SUDO_EDITOR",
        "PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "PYTHONBREAKPOINT", "PYTHONUSERBASE",
        "PYTHONPLATLIBDIR", "PYTHONINSPECT", "PYTHONWARNINGS", "PYTHONEXECUTABLE",
        "PYTHONPYCACHEPREFIX", "PYTHONCASEOK", "PERLLIB", "PERL5LIB", "PERL5OPT", "PERL5DB",
        "RUBYLIB", "RUBYOPT", "NODE_OPTIONS", "NODE_PATH", "JAVA_TOOL_OPTIONS",
        "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS", "CLASSPATH", "MAVEN_OPTS", "GRADLE_OPTS",
        "PHPRC", "PHP_INI_SCAN_DIR", "LUA_PATH", "LUA_CPATH", "LUA_INIT", "GOFLAGS",
        "RUSTC_WRAPPER", "CARGO_HOME", "MAKEFLAGS", "GIT_SSH", "GIT_SSH_COMMAND",
        "GIT_ASKPASS", "GIT_EDITOR", "GIT_SEQUENCE_EDITOR", "GIT_PAGER", "GIT_EXEC_PATH",
        "GIT_EXTERNAL_DIFF", "GIT_PROXY_COMMAND", "GIT_TEMPLATE_DIR", "GIT_DIR",
        "GIT_CONFIG", "GCONV_PATH", "LOCPATH", "NLSPATH", "HOSTALIASES", "GLIBC_TUNABLES",
        "GETCONF_DIR", "RESOLV_HOST_CONF", "OPENSSL_CONF", "OPENSSL_ENGINES",
        "OPENSSL_MODULES",
    }
)  # fmt: skip
"""Names by which some program finds code, configuration that names code, or whom it talks to."""

_REFUSED_PREFIXES = ("LD_", "DYLD_", "BASH_FUNC_", "GIT_CONFIG_", "_RLD", "SECRET_AGENT_")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A name that gets a secret.  origin: who asked.  as_file: the path of a file with the value.

    required: without the secret nothing runs; otherwise the name stays unset.
    """

    name: str
    reference: Reference
    origin: str
    as_file: bool = False
    required: bool = True


@dataclass(frozen=True, slots=True)
class Plan:
    """What the child's environment is made of.

    kept: inherited variables that stay.  plain: from --env-file, as they stand.
    """

    wanted: tuple[Wanted, ...]
    kept: Mapping[str, str] = field(repr=False)
    plain: Mapping[str, bytes] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line asks for: options as they were typed, files as they were read."""

    env: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    env_files: tuple[Dotenv, ...] = ()


def plan_environment(
    inherited: Mapping[str, str],
    asked: Asked,
    manifest: "Manifest | None" = None,
    *,
    stage: str | None = None,
) -> Plan:
    """Decide what every name gets.  Raises UsageError and InvalidError, naming the name."""
    explicit, plain = _explicit(asked)
    wanted = _from_environment(inherited)
    if manifest is not None:
        wanted |= _from_manifest(manifest, stage)
    wanted |= explicit
    for name in plain:
        wanted.pop(name, None)
    declared = manifest.declared_names() if manifest is not None else frozenset()
    gone = declared | wanted.keys() | plain.keys()
    kept = {name: value for name, value in inherited.items() if name not in gone}
    return Plan(tuple(wanted.values()), kept, plain)


def child_environment(plan: Plan, values: Mapping[str, bytes]) -> dict[bytes, bytes]:
    """The whole environment, as execve takes it.

    values: by name, the secret's value, or the path of the file that holds it; an optional name
    may be missing.  Raises InvalidError for a value that no environment can hold.
    """
    environment = {_bytes(name): _bytes(value) for name, value in plan.kept.items()}
    environment |= {_bytes(name): value for name, value in plan.plain.items()}
    for wanted in plan.wanted:
        if wanted.name in values:
            _check_value(wanted.name, values[wanted.name])
            environment[_bytes(wanted.name)] = values[wanted.name]
    return environment


def check_name(name: str, origin: str) -> str:
    """The name, if a secret may be put there.  Raises InvalidError saying why it may not."""
    if not is_environment_name(name):
        raise InvalidError(
            f"{origin}: a name must be letters, digits and _, and no digit first",
            remedy="secret-agent run --env NAME=REF -- CMD",
        )
    if name in _REFUSED or name.startswith(_REFUSED_PREFIXES):
        raise InvalidError(
            f"{origin}: {name} decides what programs run or load, so no secret is put there",
            remedy="secret-agent run --env ANOTHER_NAME=REF -- CMD",
        )
    return name


def _check_value(name: str, value: bytes) -> None:
    if b"\0" in value:
        why = "has a NUL, which no environment can hold"
    elif len(name) + 1 + len(value) > MAX_VALUE:
        why = f"has {len(value)} bytes; an environment holds {MAX_VALUE} at most"
    elif not _is_text(value):
        why = "is not UTF-8, and most programs would not get it out of their environment intact"
    else:
        return
    raise InvalidError(
        f"the value for {name} {why}", remedy=f"secret-agent run --file {name}=REF -- CMD"
    )


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _explicit(asked: Asked) -> tuple[dict[str, Wanted], dict[str, bytes]]:
    wanted: dict[str, Wanted] = {}
    plain: dict[str, bytes] = {}
    for found in _asked_for(asked):
        name = found.name
        if name in wanted or name in plain:
            raise UsageError(f"{name} is asked for twice", remedy="secret-agent run -h")
        if isinstance(found, Wanted):
            wanted[name] = found
        else:
            plain[name] = found.value.reveal()
    return wanted, plain


def _asked_for(asked: Asked) -> Iterable[Wanted | Assignment]:
    for text in asked.env:
        yield _option(text, "--env", as_file=False)
    for text in asked.files:
        yield _option(text, "--file", as_file=True)
    for dotenv in asked.env_files:
        yield from _from_dotenv(dotenv)


def _option(text: str, origin: str, *, as_file: bool) -> Wanted:
    name, equals, reference = text.partition("=")
    if not equals:
        raise UsageError(
            f"{origin} takes NAME=REF, such as DATABASE_URL=payments/db#url",
            remedy=f"secret-agent run {origin} NAME=REF -- CMD",
        )
    check_name(name, origin)
    return Wanted(name, _parse(reference, f"{origin} {name}"), origin, as_file=as_file)


def _from_dotenv(dotenv: Dotenv) -> Iterable[Wanted | Assignment]:
    for line, why in dotenv.left:
        raise InvalidError(f"--env-file: line {line}: {why}")
    for assignment in dotenv.assignments:
        origin = f"--env-file: line {assignment.line}"
        check_name(assignment.name, origin)
        text = assignment.value.reveal().decode()
        if is_reference(text):
            yield Wanted(assignment.name, _parse(text, origin), "--env-file")
        else:
            yield assignment


def _from_environment(inherited: Mapping[str, str]) -> dict[str, Wanted]:
    wanted = {}
    for name, value in inherited.items():
        if is_reference(value):
            origin = "the environment"
            check_name(name, origin)
            wanted[name] = Wanted(name, _parse(value, f"{name} in {origin}"), origin)
    return wanted


def _from_manifest(manifest: "Manifest", stage: str | None) -> dict[str, Wanted]:
    return {
        check_name(name, "secrets.toml"): Wanted(
            name, entry.ref, "secrets.toml", required=entry.required
        )
        for name, entry in manifest.entries(stage).items()
    }


def _parse(text: str, origin: str) -> Reference:
    try:
        return parse_reference(text)
    except InvalidError as error:
        raise InvalidError(f"{origin}: {error.message}", remedy=error.remedy) from None


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
