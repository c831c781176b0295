"""Who can open an age file: X25519 key pairs, and passphrases by scrypt.

Spec: https://c2sp.org/age, "The X25519 recipient type" and "The scrypt recipient type".  Rules that
hold here: a body's size is checked before it is opened, so that it cannot be tried against many
keys at once; the work factor of a file that was read is bounded before anything is computed with
it; a passphrase stands alone.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from secret_agent.backup import bech32
from secret_agent.backup.stanzas import Stanza, decode64, encode64
from secret_agent.store.keys import hkdf
from secret_agent_client.errors import InvalidError

FILE_KEY_SIZE = 16  # bytes
KEY_SIZE = 32  # bytes
WORK_FACTOR = 18  # log2 of scrypt's N: about a second and 256 MiB, as age itself has it
MAX_WORK_FACTOR = 20  # 1 GiB; age's own most is 22, which is 4
MAX_RECIPIENTS = 256

_BODY_SIZE = FILE_KEY_SIZE + 16  # with its tag
_SALT_SIZE = 16
_ZERO_NONCE = bytes(12)
_X25519 = "X25519"
_SCRYPT = "scrypt"
_X25519_INFO = b"age-encryption.org/v1/X25519"
_SCRYPT_LABEL = b"age-encryption.org/v1/scrypt"


@dataclass(frozen=True, slots=True)
class Identity:
    """A private key.  It does not show itself."""

    secret: X25519PrivateKey

    def __repr__(self) -> str:
        return "Identity(…)"

    @property
    def public(self) -> bytes:
        """The public key, 32 bytes."""
        return self.secret.public_key().public_bytes_raw()


def parse_recipients(texts: Sequence[str]) -> list[bytes]:
    """The public keys of `age1…` recipients.  Raises InvalidError telling which is none."""
    if len(texts) > MAX_RECIPIENTS:
        raise InvalidError(f"{len(texts)} recipients; the most is {MAX_RECIPIENTS}")
    return [_parse_key(text.strip(), "age", f"recipient {at}") for at, text in enumerate(texts, 1)]


def parse_identities(text: bytes) -> list[Identity]:
    """The private keys of an identity file, as `age-keygen` writes it, or of one bare line.

    Raises InvalidError naming the line and never its content.
    """
    found = []
    for number, line in enumerate(text.decode("ascii", "replace").splitlines(), 1):
        bare = line.strip()
        if bare and not bare.startswith("#"):
            key = _parse_key(bare, "age-secret-key-", f"line {number} of the identity")
            found.append(Identity(X25519PrivateKey.from_private_bytes(key)))
    if not found:
        raise InvalidError("the identity holds no private key", remedy="age-keygen -o identity.txt")
    return found


def wrap_for_key(file_key: bytes, recipient: bytes) -> Stanza:
    """A stanza that one private key opens."""
    ephemeral = X25519PrivateKey.generate()
    share = ephemeral.public_key().public_bytes_raw()
    key = _x25519_key(ephemeral, recipient, share, recipient)
    return Stanza((_X25519, encode64(share).decode()), _seal(key, file_key))


def wrap_for_passphrase(
    file_key: bytes, passphrase: bytes, *, work_factor: int = WORK_FACTOR
) -> Stanza:
    """The stanza that a passphrase opens."""
    salt = os.urandom(_SALT_SIZE)
    key = _scrypt_key(passphrase, salt, work_factor)
    return Stanza((_SCRYPT, encode64(salt).decode(), str(work_factor)), _seal(key, file_key))


def check_stanzas(stanzas: Sequence[Stanza]) -> None:
    """Raise InvalidError where a passphrase does not stand alone."""
    if len(stanzas) > 1 and any(stanza.kind == _SCRYPT for stanza in stanzas):
        raise _malformed("a passphrase stands beside another recipient")


def unwrap_with_keys(stanzas: Sequence[Stanza], identities: Sequence[Identity]) -> bytes | None:
    """The file key, or None where no stanza is for these keys.  Raises InvalidError."""
    parsed = [_parse_x25519(stanza) for stanza in stanzas if stanza.kind == _X25519]
    for identity in identities:
        for share, body in parsed:
            key = _x25519_key(identity.secret, share, share, identity.public)
            if (file_key := _open(key, body)) is not None:
                return file_key
    return None


def unwrap_with_passphrase(stanzas: Sequence[Stanza], passphrase: bytes) -> bytes | None:
    """The file key, or None where it is another passphrase's or none at all.

    Raises InvalidError.
    """
    for stanza in stanzas:
        if stanza.kind == _SCRYPT:
            salt, work_factor, body = _parse_scrypt(stanza)
            return _open(_scrypt_key(passphrase, salt, work_factor), body)
    return None


def _parse_key(text: str, prefix: str, what: str) -> bytes:
    try:
        found, data = bech32.decode(text)
    except InvalidError as error:
        raise InvalidError(f"{what} is malformed: {error.message}") from None
    if found != prefix or len(data) != KEY_SIZE:
        raise InvalidError(f"{what} is no X25519 key of age", remedy="age-keygen -o identity.txt")
    return data


def _parse_x25519(stanza: Stanza) -> tuple[bytes, bytes]:
    if len(stanza.args) != 2 or len(stanza.body) != _BODY_SIZE:
        raise _malformed("an X25519 stanza has another shape")
    share = decode64(stanza.args[1].encode())
    if len(share) != KEY_SIZE:
        raise _malformed("an X25519 stanza's share has another size")
    return share, stanza.body


def _parse_scrypt(stanza: Stanza) -> tuple[bytes, int, bytes]:
    if len(stanza.args) != 3 or len(stanza.body) != _BODY_SIZE:
        raise _malformed("a scrypt stanza has another shape")
    salt, digits = decode64(stanza.args[1].encode()), stanza.args[2]
    if len(salt) != _SALT_SIZE:
        raise _malformed("a scrypt stanza's salt has another size")
    if not (digits.isascii() and digits.isdigit() and digits[0] != "0" and len(digits) <= 2):
        raise _malformed("a scrypt stanza's work factor is no number from 1 to 99")
    if int(digits) > MAX_WORK_FACTOR:
        raise InvalidError(
            f"the backup's passphrase has a work factor of {digits}; the most is {MAX_WORK_FACTOR}",
            remedy="age --decrypt backup.age | age --encrypt --passphrase > cheaper.age",
        )
    return salt, int(digits), stanza.body


def _x25519_key(own: X25519PrivateKey, other: bytes, share: bytes, recipient: bytes) -> bytearray:
    try:
        shared = own.exchange(X25519PublicKey.from_public_bytes(other))
    except ValueError:  # the shared secret is all zeros
        raise _malformed("an X25519 key is of low order") from None
    return hkdf(shared, salt=share + recipient, info=_X25519_INFO)


def _scrypt_key(passphrase: bytes, salt: bytes, work_factor: int) -> bytearray:
    key = bytearray(KEY_SIZE)
    scrypt = Scrypt(salt=_SCRYPT_LABEL + salt, length=KEY_SIZE, n=1 << work_factor, r=8, p=1)
    scrypt.derive_into(passphrase, key)
    return key


def _seal(key: bytearray, file_key: bytes) -> bytes:
    return ChaCha20Poly1305(key).encrypt(_ZERO_NONCE, file_key, None)


def _open(key: bytearray, body: bytes) -> bytes | None:
    try:
        return ChaCha20Poly1305(key).decrypt(_ZERO_NONCE, body, None)
    except InvalidTag:
        return None


def _malformed(why: str) -> InvalidError:
    return InvalidError(f"the backup's header is malformed: {why}")
