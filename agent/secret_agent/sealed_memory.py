"""Values that wait in memory, sealed under a key that lives only as long as the session.

As OpenSSH shields its private keys (sshkey.c, sshkey_shield_private): what a stray read, a swap
file or a late core dump could catch is ciphertext.  The key stands in one page that is lent to us
(locked, not dumped) and nowhere else: a cipher is made of it for each operation, which costs about
a microsecond, and is freed with its key schedule when the operation ends.  Keys of entries are
looked up by what they are for, never listed.  This is no protection from one who can read the whole
process; SECURITY.md says so.
"""

import secrets
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from secret_agent_client.value import SecretValue

K = TypeVar("K", bound=Hashable)
M = TypeVar("M")

MAX_ENTRIES = 4096  # secrets that are kept; the least recently used goes first
MAX_BYTES = 8 * 1024 * 1024  # of sealed fields in all
KEY_SIZE = 32  # bytes
_NONCE = 12  # bytes
_TAG = 16  # bytes


class Page(Protocol):
    """What is needed of hardening.LockedPage: a buffer of KEY_SIZE bytes."""

    buffer: memoryview

    def close(self) -> None: ...


class SealedCache(Generic[K, M]):
    """What was read from a provider: metadata in the clear, fields sealed, each under a fresh
    nonce.  The page is taken over.
    """

    def __init__(self, page: Page) -> None:
        self._entries: OrderedDict[K, tuple[M, dict[str, bytes]]] = OrderedDict()
        self._size = 0
        self._page = page
        _fill(page.buffer)

    def put(self, key: K, meta: M, fields: dict[str, SecretValue]) -> None:
        """Seal and keep the fields; what is too large to keep is left out."""
        self.drop(key)
        cipher = self._cipher()
        sealed = {name: _seal(cipher, value) for name, value in fields.items()}
        self._size += _size(sealed)
        self._entries[key] = (meta, sealed)
        while self._entries and (self._size > MAX_BYTES or len(self._entries) > MAX_ENTRIES):
            self.drop(next(iter(self._entries)))

    def meta(self, key: K) -> M | None:
        """The metadata kept under a key, or None where nothing is."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def open(self, key: K, field: str) -> SecretValue:
        """Unseal one field of what is kept.  Raises KeyError."""
        sealed = self._entries[key][1][field]
        opened = bytearray(len(sealed) - _NONCE - _TAG)
        self._cipher().decrypt_into(sealed[:_NONCE], sealed[_NONCE:], None, opened)
        value = SecretValue(opened)
        opened[:] = bytes(len(opened))
        return value

    def drop(self, key: K) -> None:
        """Forget what is kept under a key, if anything."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._size -= _size(entry[1])

    def drop_where(self, chosen: Callable[[K], bool]) -> None:
        """Forget what is kept under every key that is chosen."""
        for key in [key for key in self._entries if chosen(key)]:
            self.drop(key)

    def wipe(self) -> None:
        """Forget everything, and the key: what was sealed cannot be opened again, nor anything
        be put.
        """
        self._entries.clear()
        self._size = 0
        self._page.close()

    def _cipher(self) -> AESGCM:
        return AESGCM(self._page.buffer)


def _fill(buffer: memoryview) -> None:
    """A new key, read straight into its place: os.urandom would leave a copy behind."""
    with Path("/dev/urandom").open("rb", buffering=0) as source:
        read = source.readinto(buffer)
    assert read == len(buffer) == KEY_SIZE, "a whole key or none"  # noqa: S101  # a bug of ours


def _seal(cipher: AESGCM, value: SecretValue) -> bytes:
    nonce = secrets.token_bytes(_NONCE)
    return nonce + cipher.encrypt(nonce, value.reveal(), None)


def _size(sealed: dict[str, bytes]) -> int:
    return sum(map(len, sealed.values()))
