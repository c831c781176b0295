"""A `pass` folder to be imported: `gpg` opens each file; the first line is the password.

Rules that hold here: only regular files named *.gpg, never through a link; `gpg` gets a path and no
value, and asks through its own agent; one that will not open is left and told of.  Lines after the
first of the form `key: value` become fields, the rest of them the field `notes`.
"""

import os
import subprocess
from pathlib import Path

from secret_agent_client.errors import InvalidError, UnavailableError
from secret_agent_client.importers import Found, Imported, distinct_fields, secret_name
from secret_agent_client.value import SecretValue

MAX_FILES = 10_000
OPEN_S = 120.0  # seconds for one file; a person may have to type into gpg's pinentry


def read_pass(folder: str) -> Imported:
    """Read a password store.  Raises InvalidError where it is none, UnavailableError if no gpg."""
    root = Path(folder)
    paths = sorted(path for path in root.rglob("*.gpg") if path.is_file() and not path.is_symlink())
    if not paths or len(paths) > MAX_FILES:
        raise InvalidError(
            f"the folder holds {len(paths)} .gpg files; 1 to {MAX_FILES} can be read"
        )
    result = Imported()
    for path in paths:
        shown = path.relative_to(root).with_suffix("").as_posix()
        name = secret_name(shown)
        content = _open(path)
        if not name:
            result.leave(shown, "its name has no usable character")
        elif content is None:
            result.leave(shown, "gpg does not open it")
        else:
            result.take(Found(name, _fields(content, result, shown), shown, type="login"))
    return result


def _open(path: Path) -> bytes | None:
    command = ["gpg", "--quiet", "--yes", "--decrypt", "--", os.fspath(path.resolve())]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=OPEN_S,
            check=False,
        )
    except FileNotFoundError:
        raise UnavailableError("gpg is not installed, and pass encrypts with it") from None
    except subprocess.TimeoutExpired:
        raise UnavailableError(
            "gpg did not answer in time", remedy="gpg-connect-agent /bye"
        ) from None
    return done.stdout if done.returncode == 0 else None


def _fields(content: bytes, result: Imported, where: str) -> dict[str, SecretValue]:
    first, _, rest = content.partition(b"\n")
    pairs = [("password", SecretValue(first))]
    notes = []
    for line in rest.split(b"\n"):
        key, colon, value = line.partition(b":")
        # `https://…` is an address and no field named https.
        if colon and key.strip() and value.strip() and not value.startswith(b"//"):
            pairs.append((key.decode("utf-8", "replace"), SecretValue(value.strip())))
        elif line.strip():
            notes.append(line)
    if notes:
        pairs.append(("notes", SecretValue(b"\n".join(notes))))
    return distinct_fields(pairs, result, where)
