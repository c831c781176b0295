"""The key tree: passphrase -> key-encryption key; data key -> one key a use.  FORMAT.md section 3.

Rules that hold here: the cost of stretching is checked against a floor and a ceiling before
anything is computed with it, so that a hostile header can neither weaken a store nor exhaust the
machine; keys live in bytearrays of ours, which `forget` overwrites; no key is ever a bytes object,
because Python cannot erase one.

Specs: Argon2id RFC 9106, HKDF-SHA-256 RFC 5869, HMAC RFC 2104.
"""

import hmac
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from secret_agent.store.seal import KEY_SIZE, Buffer, Sealer, wipe
from secret_agent_client.errors import InvalidError

SALT_SIZE = 16  # bytes; RFC 9106 section 3.1
MAX_PASSPHRASE = 4096  # bytes; what the wire carries
TAG_SIZE = 16  # bytes of a lookup tag: 2**64 names before two are expected to meet
LABEL = b"secret-agent store 1 "  # begins every info and every associated data: format and purpose


@dataclass(frozen=True, slots=True)
class Cost:
    """What one stretching costs: memory in KiB, passes over it, lanes side by side."""

    memory_kib: int
    passes: int
    lanes: int


@dataclass(slots=True)
class Bounds:
    """What a new slot costs, and between what a slot that was read must lie."""

    new: Cost
    floor: Cost
    ceiling: Cost


BOUNDS = Bounds(
    new=Cost(64 * 1024, 3, 4),  # RFC 9106 section 4, second recommendation
    floor=Cost(64 * 1024, 3, 1),  # less was never written, so it is a downgrade
    ceiling=Cost(256 * 1024, 8, 8),  # about a second: more was never written either
)


def check_cost(cost: Cost) -> None:
    """Raise InvalidError naming the parameter that lies outside BOUNDS."""
    low, high = BOUNDS.floor, BOUNDS.ceiling
    for name in ("memory_kib", "passes", "lanes"):
        value, least, most = getattr(cost, name), getattr(low, name), getattr(high, name)
        if not least <= value <= most:
            raise InvalidError(
                f"the store's header was altered: its Argon2id {name} is {value},"
                f" which is not from {least} to {most}"
            )


def stretch(passphrase: Buffer, salt: bytes, cost: Cost) -> bytearray:
    """The key-encryption key of a passphrase.

    Raises InvalidError for what lies outside the bounds.
    """
    if not 0 < len(passphrase) <= MAX_PASSPHRASE:
        raise InvalidError(
            f"the passphrase has {len(passphrase)} bytes; it needs 1 to {MAX_PASSPHRASE}"
        )
    check_cost(cost)
    key = _argon2id(passphrase, salt, cost)
    # OpenSSL frees a parameter's copy of the passphrase without overwriting it.  A second run, over
    # as many zeros, is given the same blocks by the allocator: no promise, but what a scan finds.
    _argon2id(bytes(len(passphrase)), salt, Cost(8, 1, 1))
    return key


def hkdf(secret: Buffer, *, salt: bytes, info: bytes, size: int = KEY_SIZE) -> bytearray:
    """`size` bytes by HKDF-SHA-256, extract and expand.  Raises InvalidError past 8160 bytes."""
    if not 0 < size <= 255 * 32:
        raise InvalidError(f"HKDF-SHA-256 cannot give {size} bytes; it gives 1 to {255 * 32}")
    out = bytearray(size)
    HKDF(SHA256(), size, salt, info).derive_into(secret, out)
    return out


def random_key() -> bytearray:
    """A new key, read straight into our buffer: what os.urandom returns could not be erased."""
    os.urandom(1)  # waits until the kernel's generator is seeded, which /dev/urandom does not
    key = bytearray(KEY_SIZE)
    with Path("/dev/urandom").open("rb", buffering=0) as source:
        read = source.readinto(key)
    assert read == KEY_SIZE, "a short read from /dev/urandom"  # noqa: S101  # the kernel gives 256 bytes whole
    return key


class Keys:
    """The data key and what is derived from it, one key a use; all gone after `forget`."""

    __slots__ = ("_data_key", "_names", "body", "digest", "meta", "tally", "witness")

    def __init__(self, data_key: bytearray, store_id: bytes) -> None:
        """Takes the data key over: it is overwritten by `forget`."""
        self._data_key = data_key
        self.meta = self._sealer(b"meta", store_id)
        self.body = self._sealer(b"body", store_id)
        self.tally = self._sealer(b"tally", store_id)
        self._names = self._derived(b"names", store_id)
        self.digest = self._derived(b"digest", store_id)
        self.witness = self._derived(b"witness", store_id)

    @property
    def data_key(self) -> bytearray:
        """The data key itself, for wrapping it into one more slot.  Never copied into bytes."""
        return self._data_key

    def name_tag(self, name: str) -> bytes:
        """What stands in the file for a name: 16 bytes that only this store's key can compute."""
        return self._tag(b"name\0" + name.encode())

    def stage_tag(self, name: str, stage: str) -> bytes:
        """What stands in the file for a stage of a name, different for each name."""
        return self._tag(b"stage\0" + name.encode() + b"\0" + stage.encode())

    def forget(self) -> None:
        """Drop every cipher and overwrite every key."""
        for sealer in (self.meta, self.body, self.tally):
            sealer.forget()
        for buffer in (self._data_key, self._names, self.digest, self.witness):
            wipe(buffer)

    def _tag(self, message: bytes) -> bytes:
        return hmac.digest(self._names, message, "sha256")[:TAG_SIZE]

    def _derived(self, use: bytes, store_id: bytes) -> bytearray:
        return hkdf(self._data_key, salt=store_id, info=LABEL + use)

    def _sealer(self, use: bytes, store_id: bytes) -> Sealer:
        key = self._derived(use, store_id)
        sealer = Sealer(key)
        wipe(key)
        return sealer


def _argon2id(
    passphrase: Buffer,
    salt: bytes,
    cost: Cost,
    *,
    size: int = KEY_SIZE,
    secret: bytes | None = None,
    ad: bytes | None = None,
) -> bytearray:
    """Argon2id, every parameter explicit and unchecked, so that published vectors can run here."""
    out = bytearray(size)
    Argon2id(
        salt=salt,
        length=size,
        iterations=cost.passes,
        lanes=cost.lanes,
        memory_cost=cost.memory_kib,
        secret=secret,
        ad=ad,
    ).derive_into(passphrase, out)  # type: ignore[arg-type]  # takes any buffer, and bytes could not be erased
    return out


@contextmanager
def _for_tests_cheap() -> Iterator[None]:
    """Let this process make and open stores whose stretching costs next to nothing.

    Only code that runs inside the process can call it: no configuration, environment or message
    leads here.
    """
    before = (BOUNDS.new, BOUNDS.floor)
    BOUNDS.new = BOUNDS.floor = Cost(8, 1, 1)
    try:
        yield
    finally:
        BOUNDS.new, BOUNDS.floor = before
