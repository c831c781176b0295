"""Where the socket and the files of secret-agent are, and whether they are safe to use.

With SECRET_AGENT_HOME everything is in that one folder:

    HOME/agent.sock   HOME/config/{config,policy}.toml   HOME/config/types/*.toml
    HOME/store.db     HOME/audit.jsonl

Otherwise the places are those that platformdirs gives (a test compares), worked out here because
the client needs nothing but the standard library.  XDG_RUNTIME_DIR unset (su, sudo, runuser leave
it so) means /run/user/UID if it is ours, else a folder `run` in the state folder; never /tmp.

Rules that hold here: everything is looked at with lstat, no link is followed; what is wider, of
another owner or a link is refused with the command that mends it and nothing is mended silently;
a path that is too long is an error and never a reason to go elsewhere.

`secret-agent get` imports this module on its short path: os, stat and sys are loaded by every
Python anyway, and nothing else may be imported at the top.
"""

import os
import stat
import sys

from secret_agent_client.errors import InvalidError, NoAgentError, UnavailableError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

NAME = "secret-agent"
START = "eval $(secret-agent start)"
# Bytes of a socket's path: sun_path holds one more for its NUL (unix(7)).
MAX_SOCKET_PATH = 103 if sys.platform == "darwin" else 107
_WIDE = stat.S_IRWXG | stat.S_IRWXO
_WRITABLE = stat.S_IWGRP | stat.S_IWOTH


class Paths:
    """Every place, as strings.  Nothing has been looked at or made yet."""

    __slots__ = ("config", "data", "runtime", "socket", "state")

    def __init__(self, *, runtime: str, config: str, data: str, state: str) -> None:
        self.runtime = runtime
        self.config = config
        self.data = data
        self.state = state
        self.socket = runtime + "/agent.sock"

    @property
    def store(self) -> str:
        """The embedded store's database."""
        return self.data + "/store.db"

    @property
    def audit(self) -> str:
        """The audit log that is being written; its older parts stand beside it."""
        return self.state + "/audit.jsonl"

    @property
    def config_file(self) -> str:
        return self.config + "/config.toml"

    @property
    def policy_file(self) -> str:
        return self.config + "/policy.toml"

    @property
    def types(self) -> str:
        """The folder of `*.toml` files that describe secret types."""
        return self.config + "/types"


def default_paths(environ: "Mapping[str, str]") -> Paths:
    """The places that this environment names.  Raises InvalidError for a value that is no place."""
    home = environ.get("SECRET_AGENT_HOME")
    if home:
        return paths_under(_absolute("SECRET_AGENT_HOME", home))
    if sys.platform == "darwin":
        config = data = state = "~/Library/Application Support"
    else:
        config, data, state = "~/.config", "~/.local/share", "~/.local/state"
    state = _folder(environ, "XDG_STATE_HOME", state)
    return Paths(
        runtime=_runtime(environ, state),
        config=_folder(environ, "XDG_CONFIG_HOME", config),
        data=_folder(environ, "XDG_DATA_HOME", data),
        state=state,
    )


def paths_under(home: str) -> Paths:
    """The layout of one folder, as SECRET_AGENT_HOME and the agent's --home give it."""
    home = home.rstrip("/") or "/"
    return Paths(runtime=home, config=home + "/config", data=home, state=home)


def socket_path(environ: "Mapping[str, str]") -> str:
    """Where to connect: SECRET_AGENT_SOCK, else the well-known socket.

    Raises InvalidError for a path that cannot be a socket's.
    """
    path = environ.get("SECRET_AGENT_SOCK")
    if path:
        return check_socket_path(path, what="SECRET_AGENT_SOCK")
    return check_socket_path(default_paths(environ).socket)


def find_socket(environ: "Mapping[str, str]", path: str | None = None) -> tuple[str, bool]:
    """The path to dial, and whether somebody named it (SECRET_AGENT_SOCK, or `path`).

    Raises InvalidError where it cannot be a socket's, or where the well-known one or its folder is
    unsafe; NoAgentError where the well-known one is missing.
    """
    if path is not None:
        return check_socket_path(path), True
    found = socket_path(environ)
    if environ.get("SECRET_AGENT_SOCK"):
        return found, True
    check_runtime_base(environ)
    try:
        check_private_dir(found.rpartition("/")[0] or "/")
        check_private_socket(found)
    except OSError:
        raise NoAgentError("no agent is running", remedy=START) from None
    return found, False


def check_socket_path(path: str, *, what: str = "the socket's path") -> str:
    """Return the path if a socket can be bound and found there; raise InvalidError otherwise."""
    if not path.startswith("/"):
        # "@name" and "\0name" are abstract: no owner, no mode, seen by every user (T13).
        raise InvalidError(f"{what} is not an absolute path", remedy="unset SECRET_AGENT_SOCK")
    if "\0" in path:
        raise InvalidError(f"{what} has a NUL in it", remedy="unset SECRET_AGENT_SOCK")
    length = len(os.fsencode(path))
    if length > MAX_SOCKET_PATH:
        raise InvalidError(
            f"{what} has {length} bytes; the most is {MAX_SOCKET_PATH}",
            remedy="export SECRET_AGENT_HOME=~/.secret-agent",
        )
    return path


def check_private_dir(path: str) -> None:
    """Raise InvalidError unless it is a directory of ours, 0700 or narrower, and no link.

    FileNotFoundError where there is none.
    """
    _check(path, stat.S_IFDIR, "directory", "0700")


def check_private_file(path: str) -> None:
    """Raise InvalidError unless it is a regular file of ours, 0600 or narrower, and no link.

    FileNotFoundError where there is none.
    """
    _check(path, stat.S_IFREG, "file", "0600")


def check_private_socket(path: str) -> None:
    """Raise InvalidError unless it is a socket of ours, 0600 or narrower, and no link.

    FileNotFoundError where there is none.
    """
    _check(path, stat.S_IFSOCK, "socket", "0600")


def make_private_dir(path: str) -> None:
    """Make the directory and what is missing above it, each 0700, and check it.

    Raises InvalidError for what stands there already and is unsafe, UnavailableError where the
    system refuses.
    """
    try:
        _make(path)
        check_private_dir(path)
    except OSError as error:
        why = os.strerror(error.errno or 0).lower()
        raise UnavailableError(
            f"the directory {path} cannot be made: {why}",
            remedy="export SECRET_AGENT_HOME=~/.secret-agent",
        ) from None


def check_runtime_base(environ: "Mapping[str, str]") -> None:
    """Raise InvalidError where XDG_RUNTIME_DIR names a directory that others could plant things in.

    One that is missing is no error here: nothing answers there, and nothing is made there.
    """
    base = environ.get("XDG_RUNTIME_DIR", "")
    if environ.get("SECRET_AGENT_HOME") or not base.startswith("/"):
        return
    try:
        known = os.lstat(base)
    except OSError:
        return
    if stat.S_ISLNK(known.st_mode) or not stat.S_ISDIR(known.st_mode):
        problem = "is a symbolic link, or no directory"
    elif known.st_uid != os.geteuid():
        problem = "belongs to another user"
    elif known.st_mode & _WRITABLE:
        problem = "can be written by others"
        raise InvalidError(f"XDG_RUNTIME_DIR {problem}", remedy=f"chmod 0700 {_quoted(base)}")
    else:
        return
    raise InvalidError(f"XDG_RUNTIME_DIR {problem}", remedy="unset XDG_RUNTIME_DIR")


def _runtime(environ: "Mapping[str, str]", state: str) -> str:
    base = environ.get("XDG_RUNTIME_DIR", "")
    if base.startswith("/"):
        return (base.rstrip("/") or "/") + "/" + NAME
    if sys.platform == "darwin":
        return _home(environ, "~/Library/Caches/TemporaryItems") + "/" + NAME
    base = f"/run/user/{os.geteuid()}"
    try:
        known = os.lstat(base)
    except OSError:
        return state + "/run"
    ours = stat.S_ISDIR(known.st_mode) and known.st_uid == os.geteuid()
    return f"{base}/{NAME}" if ours and not known.st_mode & _WRITABLE else state + "/run"


def _folder(environ: "Mapping[str, str]", variable: str, default: str) -> str:
    base = environ.get(variable, "")
    if not base.startswith("/"):  # "all paths must be absolute", else ignored: XDG base directories
        base = _home(environ, default)
    return (base.rstrip("/") or "/") + "/" + NAME


def _home(environ: "Mapping[str, str]", path: str) -> str:
    """The path with its `~` replaced by HOME, else by what the user database says."""
    home = environ.get("HOME") or os.path.expanduser("~")  # noqa: PTH111  # pathlib costs start-up
    found = home.rstrip("/") + path[1:]
    if not found.startswith("/"):
        raise InvalidError(
            "HOME is not an absolute path", remedy="export SECRET_AGENT_HOME=/path/to/a/folder"
        )
    return found


def _absolute(variable: str, path: str) -> str:
    if not path.startswith("/") or "\0" in path:
        raise InvalidError(f"{variable} is not an absolute path", remedy=f"unset {variable}")
    return path


def _make(path: str) -> None:
    try:
        os.mkdir(path, 0o700)  # noqa: PTH102  # pathlib alone would double the start-up
    except FileExistsError:
        return
    except FileNotFoundError:
        parent = os.path.dirname(path)  # noqa: PTH120  # pathlib alone would double the start-up
        if parent == path:
            raise
        _make(parent)
        _make(path)


def _check(path: str, kind: int, noun: str, mode: str) -> None:
    known = os.lstat(path)
    quoted = _quoted(path)
    if stat.S_ISLNK(known.st_mode):
        raise InvalidError(f"the {noun} {path} is a symbolic link", remedy=f"rm {quoted}")
    if stat.S_IFMT(known.st_mode) != kind:
        raise InvalidError(f"{path} is not a {noun}", remedy=f"ls -ld {quoted}")
    if known.st_uid != os.geteuid():
        raise InvalidError(f"the {noun} {path} belongs to another user", remedy=f"ls -ld {quoted}")
    if known.st_mode & _WIDE:
        raise InvalidError(
            f"the {noun} {path} is open wider than {mode}", remedy=f"chmod {mode} {quoted}"
        )


def _quoted(path: str) -> str:
    """A path as a shell takes it, for a remedy that can be pasted."""
    if path.isascii() and all(char.isalnum() or char in "/._-+" for char in path):
        return path
    return "'" + path.replace("'", "'\\''") + "'"
