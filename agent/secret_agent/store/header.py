"""The two kinds of small records that can be read while the store is locked: the header and the key
slots. FORMAT.md section 4.

Rules that hold here: what parses re-encodes to the same bytes, or it is refused; a checksum tells
damage by accident before any key is there; a slot's seal covers the header and every public
parameter of the slot, so that none can be changed by whoever lacks a key.  Nothing here reads or
writes a file.
"""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from hmac import compare_digest
from typing import Any, Final, Literal

from secret_agent.store.keys import BOUNDS, LABEL, SALT_SIZE, Cost, check_cost, hkdf, stretch
from secret_agent.store.seal import KEY_SIZE, BrokenSealError, Buffer, Sealed, Sealer, wipe
from secret_agent_client.codec import pack, unpack
from secret_agent_client.errors import DeniedError, InvalidError

FORMAT: Final = 1
STORE_ID_SIZE = 16  # bytes, random
CHECK_SIZE = 16  # bytes of the key-check value
WRAPPED_SIZE = 12 + 16 + KEY_SIZE  # bytes: nonce, tag, sealed data key

Kind = Literal["passphrase", "keyring"]
KINDS: tuple[Kind, ...] = ("passphrase", "keyring")

_HEADER_SHAPE = {"format": int, "store": bytes, "created": int}
_SLOT_SHAPE: dict[Kind, dict[str, type]] = {
    "passphrase": {
        "kind": str,
        "kdf": str,
        "memory_kib": int,
        "passes": int,
        "lanes": int,
        "salt": bytes,
        "check": bytes,
        "wrapped": bytes,
    },
    "keyring": {"kind": str, "kdf": str, "check": bytes, "wrapped": bytes},
}
_KDF: dict[Kind, str] = {"passphrase": "argon2id", "keyring": "none"}


@dataclass(frozen=True, slots=True)
class Header:
    """Which store this is.  Authenticated by the seal of every slot."""

    store_id: bytes
    created_at: int
    format: int = FORMAT

    def pack(self) -> bytes:
        """The header's bytes, which are also part of every slot's associated data."""
        return pack({"format": self.format, "store": self.store_id, "created": self.created_at})


@dataclass(frozen=True, slots=True)
class Slot:
    """One way to the data key: public parameters, a key-check value, the wrapped data key."""

    kind: Kind
    cost: Cost | None  # None: the key-encryption key is used as it is
    salt: bytes
    check: bytes
    wrapped: bytes

    def pack(self) -> bytes:
        """The slot's bytes."""
        return pack(self._public() | {"check": self.check, "wrapped": self.wrapped})

    def aad(self, header: Header) -> bytes:
        """What the wrapped data key is bound to: the header and the slot's public parameters."""
        return LABEL + b"slot" + header.pack() + pack(self._public())

    def _public(self) -> dict[str, Any]:
        public: dict[str, Any] = {"kind": self.kind, "kdf": _KDF[self.kind]}
        if self.cost is not None:
            public |= {
                "memory_kib": self.cost.memory_kib,
                "passes": self.cost.passes,
                "lanes": self.cost.lanes,
                "salt": self.salt,
            }
        return public


def checksum(body: bytes) -> bytes:
    """What stands beside a body to tell accidents: its SHA-256, without any key."""
    return hashlib.sha256(body).digest()


def slots_digest(slots: Iterable[Slot]) -> bytes:
    """SHA-256 over all slots in order of their kinds, each after its length (4 bytes)."""
    digest = hashlib.sha256()
    for slot in sorted(slots, key=lambda slot: slot.kind):
        body = slot.pack()
        digest.update(len(body).to_bytes(4, "big") + body)
    return digest.digest()


def parse_header(body: bytes) -> Header:
    """Raises InvalidError for another format, and for whatever is not exactly a header."""
    found = _unpacked(body, "header")
    _check_format(found.get("format"))
    _check_shape(found, _HEADER_SHAPE, "header")
    header = Header(found["store"], found["created"])
    if len(header.store_id) != STORE_ID_SIZE or header.pack() != body:
        raise _damaged("header")
    return header


def parse_slot(kind: Kind, body: bytes) -> Slot:
    """Raises InvalidError for parameters out of bounds and for what is not exactly a slot."""
    what = f"{kind} slot"
    found = _unpacked(body, what)
    _check_shape(found, _SLOT_SHAPE[kind], what)
    cost = None
    if kind == "passphrase":
        cost = Cost(found["memory_kib"], found["passes"], found["lanes"])
        check_cost(cost)
    slot = Slot(kind, cost, found.get("salt", b""), found["check"], found["wrapped"])
    sizes = (len(slot.salt), len(slot.check), len(slot.wrapped))
    if sizes != (SALT_SIZE if cost else 0, CHECK_SIZE, WRAPPED_SIZE) or slot.pack() != body:
        raise _damaged(what)
    return slot


def blank_slot(kind: Kind) -> Slot:
    """A new slot's public parameters, before anything is wrapped."""
    if kind == "passphrase":
        return Slot(kind, BOUNDS.new, os.urandom(SALT_SIZE), b"", b"")
    return Slot(kind, None, b"", b"", b"")


def slot_key(slot: Slot, secret: Buffer) -> bytearray:
    """The key-encryption key: the passphrase stretched, or the keyring's key as it is."""
    if slot.cost is not None:
        return stretch(secret, slot.salt, slot.cost)
    if len(secret) != KEY_SIZE:
        raise InvalidError(f"the key of the keyring has {len(secret)} bytes; it needs {KEY_SIZE}")
    return bytearray(secret)


def fill_slot(blank: Slot, kek: Buffer, data_key: Buffer, header: Header) -> Slot:
    """Wrap the data key under a key-encryption key."""
    sealer = _wrapping(kek)
    wrapped = sealer.seal(data_key, blank.aad(header)).pack()
    sealer.forget()
    return replace(blank, check=_check_value(kek), wrapped=wrapped)


def open_slot(slot: Slot, kek: Buffer, header: Header) -> bytearray:
    """The data key.

    Raises DeniedError where nothing speaks for this key, InvalidError where the key-check value and
    the seal contradict each other: then the key is right and the file was altered.
    """
    fits = compare_digest(_check_value(kek), slot.check)
    sealer = _wrapping(kek)
    try:
        data_key = sealer.open(Sealed.unpack(slot.wrapped), slot.aad(header))
    except BrokenSealError:
        if fits:
            raise InvalidError(
                f"the store's header was altered: its {slot.kind} slot does not open"
                f" although the {_secret_of(slot.kind)} is right"
            ) from None
        raise DeniedError(f"the {_secret_of(slot.kind)} does not open the store") from None
    finally:
        sealer.forget()
    if not fits:
        wipe(data_key)
        raise InvalidError(
            f"the store's header was altered: the {_secret_of(slot.kind)} is right,"
            f" and the {slot.kind} slot's check value contradicts it"
        )
    return data_key


def _check_value(kek: Buffer) -> bytes:
    return bytes(hkdf(kek, salt=b"", info=LABEL + b"check", size=CHECK_SIZE))


def _wrapping(kek: Buffer) -> Sealer:
    key = hkdf(kek, salt=b"", info=LABEL + b"wrap")
    sealer = Sealer(key)
    wipe(key)
    return sealer


def _secret_of(kind: Kind) -> str:
    return "passphrase" if kind == "passphrase" else "key of the keyring"


def _check_format(found: object) -> None:
    if type(found) is not int or found < 1:
        raise InvalidError("the store's header was altered: it names a format that never existed")
    if found > FORMAT:
        raise InvalidError(
            f"the store has format {found}; this agent reads up to {FORMAT}",
            remedy="pip install --upgrade secret-agent-daemon",
        )


def _unpacked(body: bytes, what: str) -> dict[str, Any]:
    try:
        found = unpack(body)
    except InvalidError:
        raise _damaged(what) from None
    if not isinstance(found, dict):
        raise _damaged(what)
    return found


def _check_shape(found: dict[str, Any], shape: dict[str, type], what: str) -> None:
    exact = found.keys() == shape.keys()
    if not exact or any(type(found[key]) is not kind for key, kind in shape.items()):
        raise _damaged(what)


def _damaged(what: str) -> InvalidError:
    return InvalidError(f"the store's {what} was altered: it is not one that any agent wrote")
