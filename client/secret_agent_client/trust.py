"""Which manifests the user trusts: the real path and the very content, kept in state/trust.json.

Rules that hold here (T40, T42, T48):

* trust is in the content: any other byte, or the same bytes reached at another path, ask again;
* the record lives in the user's own state folder and nowhere else; no repository can write to it;
* the text that was trusted is kept, so that a change can be shown as one;
* the file is 0600, written whole, by one process at a time; a broken one is an error and never
  taken for an empty one.

    {"version": 1, "trusted": {REALPATH: {"sha256": HEX, "at": RFC 3339, "text": TEXT}}}
"""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import unified_diff
from hashlib import sha256
from hmac import compare_digest
from pathlib import Path
from typing import Any

from secret_agent_client.errors import DeniedError, InvalidError, UnavailableError
from secret_agent_client.private_file import quoted, read_regular, write_private

FILE_NAME = "trust.json"
LOCK_NAME = "trust.lock"
LOCK_S = 5.0  # seconds; a change takes milliseconds
RETRY_S = 0.01  # seconds between two attempts
MAX_FILE = 64 * 1024 * 1024  # bytes; a few hundred manifests of the largest size


@dataclass(frozen=True, slots=True)
class Trusted:
    """What was trusted of one path, and when (RFC 3339 UTC)."""

    sha256: str
    at: str
    text: str


class Trust:
    """The record of one user, read anew at each question: another shell may have written."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        self._path = self._folder / FILE_NAME

    @classmethod
    def of_user(cls) -> "Trust":
        """The record of the user who runs this, where CLI.md puts state."""
        from secret_agent_client.paths import default_paths

        return cls(str(default_paths(os.environ).state))

    def require(self, path: str, data: bytes) -> None:
        """Raise DeniedError unless exactly these bytes were trusted at exactly this path."""
        known = self.lookup(path)
        if known is None:
            what = "has not been trusted yet"
        elif not compare_digest(known.sha256, sha256(data).hexdigest()):
            what = "has changed since it was trusted"
        else:
            return
        raise DeniedError(f"secrets.toml {what}", remedy=f"secret-agent trust {quoted(path)}")

    def lookup(self, path: str) -> Trusted | None:
        """What was trusted of that real path, or None."""
        return self._read().get(path)

    def add(self, path: str, data: bytes) -> None:
        """Trust these bytes at that real path, instead of what was trusted there before."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        text = data.decode("utf-8", "replace")
        with self._changing() as trusted:
            trusted[path] = Trusted(sha256(data).hexdigest(), now, text)

    def remove(self, path: str) -> bool:
        """Trust nothing at that path any more; whether something was."""
        with self._changing() as trusted:
            return trusted.pop(path, None) is not None

    @contextmanager
    def _changing(self) -> Iterator[dict[str, Trusted]]:
        """The records, written back at the end; alone, so that two shells lose neither's change.

        Raises UnavailableError where another process keeps them for too long.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # A file of its own: the agent holds a lock on the folder as long as it lives.
        lock = os.open(
            self._folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
        )
        try:
            _take(lock)
            trusted = self._read()
            yield trusted
            write_private(str(self._path), _encode(trusted))
        finally:
            os.close(lock)

    def _read(self) -> dict[str, Trusted]:
        try:
            data, known = read_regular(str(self._path), most=MAX_FILE)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise self._broken(os.strerror(error.errno or 0).lower(), "ls -l {}") from None
        if known.st_uid != os.geteuid():
            raise self._broken("belongs to another user", "ls -l {}")
        if known.st_mode & 0o077:
            raise self._broken("is open to others", "chmod 600 {}")
        try:
            return _decode(json.loads(data))
        except (ValueError, TypeError, KeyError, AttributeError):
            raise self._broken("is not what this program wrote", "mv {0} {0}.broken") from None

    def _broken(self, what: str, remedy: str) -> InvalidError:
        return InvalidError(
            f"the record of trusted manifests {what}",
            remedy=remedy.format(quoted(str(self._path))),
        )


def _take(lock: int) -> None:
    """Wait for the lock, as long as a change takes and not for ever: its holder may be stopped."""
    until = time.monotonic() + LOCK_S
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                raise UnavailableError(
                    "another process has been changing the record of trusted manifests too long"
                ) from None
            time.sleep(RETRY_S)


def changes(before: str, after: str) -> list[str]:
    """A unified diff of two texts, a line an item, without line ends; the caller escapes it."""
    # split("\n"), not splitlines(): no other character may begin what looks like a line (T7).
    lines = unified_diff(before.split("\n"), after.split("\n"), "trusted", "now", lineterm="", n=2)
    return list(lines)


def _encode(trusted: dict[str, Trusted]) -> bytes:
    records = {
        path: {"sha256": item.sha256, "at": item.at, "text": item.text}
        for path, item in sorted(trusted.items())
    }
    return json.dumps({"version": 1, "trusted": records}, indent=1).encode() + b"\n"


def _decode(document: Any) -> dict[str, Trusted]:
    """Raises one of ValueError, TypeError, KeyError, AttributeError for any other shape."""
    if document["version"] != 1:
        raise ValueError
    trusted = {}
    for path, item in document["trusted"].items():
        record = Trusted(item["sha256"], item["at"], item["text"])
        if not all(type(part) is str for part in (record.sha256, record.at, record.text)):
            raise TypeError
        trusted[path] = record
    return trusted
