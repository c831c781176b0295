"""Canaries: values planted by a test, and the search for them where no value may be.

A value counts as found in any form in which programs leak one: as it is, in base64 at its three
offsets (both alphabets), in hex, escaped for JSON, escaped for a URL.
"""

import base64
import json
import re
import secrets
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote_from_bytes

SHORTEST = 8  # bytes; a shorter planted value would be found by chance


def fresh() -> bytes:
    """A value that stands nowhere else: 24 letters and digits."""
    return b"cnry" + secrets.token_hex(10).encode()


def forms(value: bytes) -> set[bytes]:
    """Every form of a value that the sweep looks for."""
    found = {value, value.hex().encode(), value.hex().upper().encode()}
    found |= _base64_forms(value)
    found.add(quote_from_bytes(value, safe="").encode())
    text = value.decode("utf-8", "backslashreplace")
    found.add(json.dumps(text)[1:-1].encode())
    found.add(json.dumps(text, ensure_ascii=False)[1:-1].encode())
    found.add(repr(value)[2:-1].encode())
    return found


def _base64_forms(value: bytes) -> set[bytes]:
    """The part of the value's base64 that does not depend on what stands before and after it."""
    found = set()
    for shift in range(3):
        text = base64.b64encode(bytes(shift) + value)
        head = (0, 2, 3)[shift]  # characters that the bytes before it have a share in
        tail = (0, 3, 2)[
            (shift + len(value)) % 3
        ]  # "=" and the character that the next byte shares
        core = text[head : len(text) - tail]
        found |= {core, core.translate(bytes.maketrans(b"+/", b"-_"))}
    return found


def pattern(values: Iterable[bytes]) -> re.Pattern[bytes]:
    """One expression that finds any form of any of the values."""
    every = set().union(*(forms(value) for value in values))
    return re.compile(b"|".join(sorted(map(re.escape, every))) or b"(?!)")


def files_holding(sought: re.Pattern[bytes], folder: Path) -> list[str]:
    """The regular files under a folder that hold a form of a value, and the names that do."""
    hits = []
    for path in sorted(folder.rglob("*")):
        if sought.search(bytes(path.relative_to(folder))):
            hits.append(f"the name of a file under {folder}")
        if path.is_file() and not path.is_symlink():
            try:
                content = path.read_bytes()
            except FileNotFoundError:  # the agent removed it between the listing and now
                continue
            if sought.search(content):
                hits.append(f"the file {path}")
    return hits
