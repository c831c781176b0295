"""Values that wait in memory, sealed under a key that lives only as long as the session.

As OpenSSH shields its private keys (sshkey.c, sshkey_shield_private): what a stray read, a swap
file or a late core
dump could catch is ciphertext, and the key is dropped at lock.  Keys are looked up by what they
are for, never listed.
This is no protection from one who can read the whole process; SECURITY.md says so.
"""

import secrets
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from secret_agent_client.value import SecretValue

K = TypeVar("K", bound=Hashable)
M = TypeVar("M")

MAX_ENTRIES = 4096  # secrets that are kept; the least recently used goes first
MAX_BYTES = 8 * 1024 * 1024  # of sealed fields in all
_NONCE = 12  # bytes


class SealedCache(Generic[K, M]):
    """What was read from a provider: metadata in the clear, fields sealed, each under a fresh
    nonce.
    """

    def __init__(self) -> None:
        self._entries: OrderedDict[K, tuple[M, dict[str, bytes]]] = OrderedDict()
        self._size = 0
        self._cipher = AESGCM(secrets.token_bytes(32))

    def put(self, key: K, meta: M, fields: dict[str, SecretValue]) -> None:
        """Seal and keep the fields; what is too large to keep is left out."""
        self.drop(key)
        sealed = {name: self._seal(value) for name, value in fields.items()}
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
        return SecretValue(self._cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], None))

    def drop(self, key: K) -> None:
        """Forget what is kept under a key, if anything."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._size -= _size(entry[1])

    def wipe(self) -> None:
        """Forget everything, and the key: what was sealed cannot be opened again."""
        self._entries.clear()
        self._size = 0
        self._cipher = AESGCM(secrets.token_bytes(32))

    def _seal(self, value: SecretValue) -> bytes:
        nonce = secrets.token_bytes(_NONCE)
        return nonce + self._cipher.encrypt(nonce, value.reveal(), None)


def _size(sealed: dict[str, bytes]) -> int:
    return sum(map(len, sealed.values()))
