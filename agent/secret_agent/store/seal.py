"""AES-256-GCM with a 96-bit random nonce and associated data: the only sealing of the store.

Rules that hold here: keys are 256 bits, nonces 96, tags 128, and every other size is refused; a
nonce is random and new for each sealing; the opened text is a bytearray that the caller wipes.
Nothing here knows what it seals.

Spec: NIST SP 800-38D.  Random nonces under one key are good for 2**32 sealings (section 8.3); a
store that is written a hundred times a second gets there after a year and four months, one written
by people never.
"""

import os
from typing import NamedTuple, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from secret_agent_client.errors import InvalidError

KEY_SIZE = 32  # bytes
NONCE_SIZE = 12  # bytes; any other size makes GCM hash the nonce, which costs its collision bound
TAG_SIZE = 16  # bytes

Buffer = bytes | bytearray | memoryview


class BrokenSealError(InvalidError):
    """The text, its nonce, its tag, its associated data or the key is not what was sealed."""


class Sealed(NamedTuple):
    """A sealed text in its three pieces.  `pack` puts them in one: nonce, tag, text."""

    nonce: bytes
    tag: bytes
    text: bytes

    def pack(self) -> bytes:
        """The three as one: nonce (12 bytes), tag (16), text."""
        return self.nonce + self.tag + self.text

    @classmethod
    def unpack(cls, packed: bytes) -> Self:
        """The inverse of `pack`.

        Raises BrokenSealError where there is no room for nonce and tag.
        """
        if len(packed) < NONCE_SIZE + TAG_SIZE:
            raise BrokenSealError("a sealed text is shorter than its nonce and tag")
        at = NONCE_SIZE + TAG_SIZE
        return cls(packed[:NONCE_SIZE], packed[NONCE_SIZE:at], packed[at:])


class Sealer:
    """Seals and opens under one key.  It holds a copy of the key until `forget`."""

    __slots__ = ("_cipher",)

    def __init__(self, key: Buffer) -> None:
        if len(key) != KEY_SIZE:
            raise InvalidError(f"a sealing key has {len(key)} bytes; it needs {KEY_SIZE}")
        self._cipher: AESGCM | None = AESGCM(key)

    def seal(self, plain: Buffer, aad: bytes) -> Sealed:
        """Seal under a new random nonce."""
        return self._seal_with(os.urandom(NONCE_SIZE), plain, aad)

    def open(self, sealed: Sealed, aad: bytes) -> bytearray:
        """The text.

        Raises BrokenSealError; nothing of a text whose tag does not fit is returned.
        """
        assert self._cipher is not None, "opened after forget"  # noqa: S101  # a bug of ours
        if len(sealed.nonce) != NONCE_SIZE or len(sealed.tag) != TAG_SIZE:
            raise BrokenSealError(
                f"a nonce of {len(sealed.nonce)} bytes with a tag of {len(sealed.tag)};"
                f" they have {NONCE_SIZE} and {TAG_SIZE}"
            )
        plain = bytearray(len(sealed.text))
        try:
            self._cipher.decrypt_into(sealed.nonce, sealed.text + sealed.tag, aad, plain)
        except InvalidTag:
            wipe(plain)
            raise BrokenSealError("a seal does not fit its text") from None
        return plain

    def forget(self) -> None:
        """Drop the cipher, and with it its copy of the key (OpenSSL overwrites it)."""
        self._cipher = None

    def _seal_with(self, nonce: bytes, plain: Buffer, aad: bytes) -> Sealed:
        assert self._cipher is not None, "sealed after forget"  # noqa: S101  # a bug of ours
        assert len(nonce) == NONCE_SIZE, "a nonce of another size"  # noqa: S101  # a bug of ours
        joined = self._cipher.encrypt(nonce, plain, aad)
        return Sealed(nonce, joined[-TAG_SIZE:], joined[:-TAG_SIZE])


def wipe(buffer: bytearray) -> None:
    """Overwrite a buffer of ours with zeros, in place."""
    buffer[:] = bytes(len(buffer))
