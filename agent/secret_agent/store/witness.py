"""The witness: a small file outside the store that remembers the last tally this machine saw.
FORMAT.md section 7.

It is what tells an older copy of the whole store, valid in itself, from the store.  It lies in
another folder (state, not data), so that what restores the one does not restore the other.  Whoever
can put back both goes unseen: that is whole-machine rollback, which SECURITY.md says we do not
detect.

Rules that hold here: the witness never runs ahead of the store, because it is written after the
store's commit; it is authenticated by a key of the store, so that nobody can forge one; it is
written in place in one piece smaller than a sector, which is why a crash leaves the old or the new
one and never a mixture.
"""

import hashlib
import hmac
import os
import shlex
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from secret_agent.store import files
from secret_agent_client.errors import InvalidError, NotFoundError

MAGIC = b"SAWITN01"
_LAYOUT = struct.Struct(">8s16sQ32s32s")  # magic, store id, generation, tally, slots
_MAC_SIZE = 32
SIZE = _LAYOUT.size + _MAC_SIZE  # 128 bytes


@dataclass(frozen=True, slots=True)
class Sighting:
    """What was last seen of a store."""

    store_id: bytes
    generation: int
    tally: bytes  # SHA-256 of the sealed tally, which differs for every write
    slots: bytes  # digest over the key slots

    @classmethod
    def of(cls, store_id: bytes, generation: int, sealed_tally: bytes, slots: bytes) -> "Sighting":
        """What there is to remember of a store."""
        return cls(store_id, generation, hashlib.sha256(sealed_tally).digest(), slots)

    def pack(self) -> bytes:
        """The authenticated part of the file."""
        return _LAYOUT.pack(MAGIC, self.store_id, self.generation, self.tally, self.slots)


class Witness:
    """The open witness of one store.

    `key` comes from the store, so it exists only while that is unlocked.
    """

    def __init__(self, path: Path, key: bytearray) -> None:
        self._key = key
        self._descriptor = files.open_private(path)

    def save(self, sighting: Sighting, *, durable: bool = False) -> None:
        """Remember.  Raises OSError.

        Without `durable` a power failure may leave an older sighting, which is weaker and never
        wrong.
        """
        body = sighting.pack()
        os.pwrite(self._descriptor, body + _mac(self._key, body), 0)
        if durable:
            os.fsync(self._descriptor)

    def close(self) -> None:
        """Close the file, durable as far as its disk still works."""
        with suppress(OSError):
            os.fsync(self._descriptor)
        os.close(self._descriptor)


def read_unchecked(path: Path) -> Sighting | None:
    """What the file says before any key can vouch for it: good for a hint, for nothing else."""
    try:
        return _parse(_content(path))[0]
    except (InvalidError, NotFoundError):
        return None


def check(path: Path, key: bytearray, found: Sighting) -> None:
    """Raise InvalidError where the witness speaks against the store; a missing one says nothing."""
    try:
        content = _content(path)
    except NotFoundError:
        return
    try:
        known, mac = _parse(content)
    except InvalidError:
        raise _against(path, f"the saved tally {path} is damaged") from None
    if known.store_id != found.store_id:
        raise _against(path, f"the saved tally {path} is of another store")
    if not hmac.compare_digest(_mac(key, known.pack()), mac):
        raise _against(path, f"the saved tally {path} was altered")
    _check_order(path, known, found)


def _check_order(path: Path, known: Sighting, found: Sighting) -> None:
    if found.generation < known.generation:
        raise _against(
            path,
            f"the store is older than the saved tally: it is at write {found.generation},"
            f" this machine last saw write {known.generation}",
        )
    if found.generation == known.generation and found.tally != known.tally:
        raise _against(
            path,
            f"the store went another way than the saved tally: both are at write"
            f" {found.generation}, with different contents",
        )


def _content(path: Path) -> bytes:
    content = files.read_private(path, SIZE + 1)
    if not content:  # it was made, and the machine died before the first sighting
        raise NotFoundError(f"{path} is empty")
    return content


def _parse(content: bytes) -> tuple[Sighting, bytes]:
    if len(content) != SIZE or not content.startswith(MAGIC):
        raise InvalidError("no witness")
    _, store_id, generation, tally, slots = _LAYOUT.unpack_from(content)
    return Sighting(store_id, generation, tally, slots), content[_LAYOUT.size :]


def _mac(key: bytearray, body: bytes) -> bytes:
    return hmac.digest(key, body, "sha256")


def _against(path: Path, message: str) -> InvalidError:
    return InvalidError(
        f"{message}; if you put this copy there yourself, forget what was seen before",
        remedy=f"rm {shlex.quote(str(path))}",
    )
