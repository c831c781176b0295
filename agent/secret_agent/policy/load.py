"""The policy in force: read from policy.toml, again when it changes, and never replaced by a
broken one.

Rules that hold here:

* one policy a decision: `current()` returns one object, and that object never changes;
* only a file that is not there means the built-in policy; one that is there and cannot be read, or
  is not safe, means what held before it, and where nothing did, no secret for anybody;
* safe is a regular file of ours or root's that nobody else can write, reached through no link, in a
  folder of which the same holds.  Its bytes are read once, and what was read is what is parsed.
"""

import os
import stat
from collections.abc import Callable
from pathlib import Path

from secret_agent.policy.built_in import BUILT_IN, NOTHING
from secret_agent.policy.rules import Policy
from secret_agent_client.errors import InvalidError
from secret_agent_client.private_file import quoted

MAX_POLICY = 4 * 1024 * 1024  # bytes; 20,000 rules take two thirds of it


class PolicySource:
    """The file, and what it last said.  `problem`: why it does not hold as it stands now, or
    None.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problem: str | None = None
        self._policy = BUILT_IN
        self._seen: tuple[int, ...] = ()

    def current(self) -> Policy:
        """The policy in force; costs one stat(2) while the file stays the same."""
        seen = self._signature()
        if seen != self._seen:
            self._seen = seen
            self._load()
        return self._policy

    def _signature(self) -> tuple[int, ...]:
        """What changes when the file does; of one that cannot be looked at, why not."""
        try:
            found = os.lstat(self.path)
        except OSError as error:
            return (error.errno or 0,)
        return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)

    def _load(self) -> None:
        try:
            policy = load_policy(self.path)
        except InvalidError as error:
            self.problem = error.message
            if self._policy is BUILT_IN:
                # A file was meant to hold and does not: its absence must not be what widens access.
                self._policy = NOTHING
            return
        self.problem = None
        self._policy = policy


def load_policy(path: Path) -> Policy:
    """What a file says, or the built-in policy where there is none.  Raises InvalidError."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        return BUILT_IN
    except OSError as error:
        raise _unreadable(path, error) from None
    try:
        text = _read_checked(path, descriptor)
    except OSError as error:
        raise _unreadable(path, error) from None
    finally:
        os.close(descriptor)
    if len(text) > MAX_POLICY:
        raise InvalidError(f"{path} has more than {MAX_POLICY} bytes")
    from secret_agent.policy.parse import parse_policy

    return parse_policy(text, source=str(path))


def _read_checked(path: Path, descriptor: int) -> bytes:
    _check(path.parent, os.lstat(path.parent), stat.S_ISDIR, "folder")
    _check(path, os.fstat(descriptor), stat.S_ISREG, "file")
    with os.fdopen(os.dup(descriptor), "rb") as file:
        return file.read(MAX_POLICY + 1)


def _check(path: Path, found: os.stat_result, is_kind: Callable[[int], bool], kind: str) -> None:
    if not is_kind(found.st_mode) or found.st_uid not in (os.geteuid(), 0):
        raise InvalidError(f"{path} is not a {kind} of ours", remedy=f"ls -ld {quoted(str(path))}")
    if found.st_mode & 0o022:
        raise InvalidError(
            f"{path} can be written by others", remedy=f"chmod go-w {quoted(str(path))}"
        )


def _unreadable(path: Path, error: OSError) -> InvalidError:
    return InvalidError(
        f"{path} cannot be read: {error.strerror}", remedy=f"ls -ld {quoted(str(path))}"
    )
