"""Encrypt and decrypt files in the format of age, version 1 (https://c2sp.org/age).

What is here: X25519 recipients, passphrases, binary files.  What is left out, and refused by name:
ASCII armor, SSH keys, plug-ins, post-quantum recipients.  `age` and `rage` read what we write, and
we read what they write.
"""

import os
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from secret_agent.backup.recipients import (
    FILE_KEY_SIZE,
    WORK_FACTOR,
    check_stanzas,
    parse_identities,
    parse_recipients,
    unwrap_with_keys,
    unwrap_with_passphrase,
    wrap_for_key,
    wrap_for_passphrase,
)
from secret_agent.backup.stanzas import Stanza, read_head, write_head
from secret_agent.backup.stream import StreamWriter, read_stream, write_all
from secret_agent_client.errors import DeniedError, InvalidError


def encrypt(
    out: BinaryIO,
    *,
    recipients: Sequence[str] = (),
    passphrase: bytes | None = None,
    work_factor: int = WORK_FACTOR,
) -> StreamWriter:
    """Write the header; what is written to the result follows it.

    Give either recipients (`age1…`) or a passphrase.  Raises InvalidError.
    """
    file_key = os.urandom(FILE_KEY_SIZE)
    stanzas = _wrap(file_key, recipients, passphrase, work_factor)
    write_all(out, write_head(stanzas, file_key))
    return StreamWriter(out, file_key)


def decrypt(
    source: BinaryIO, *, identity: bytes | None = None, passphrase: bytes | None = None
) -> Iterator[bytes]:
    """The content, one chunk at a time.

    `identity`: one `AGE-SECRET-KEY-1…`, or a whole identity file.  Raises DeniedError where the
    file is for another key or passphrase, InvalidError where it is malformed, cut or altered.
    """
    if (identity is None) == (passphrase is None):
        raise InvalidError("a backup is opened with either an identity or a passphrase")
    identities = parse_identities(identity) if identity is not None else []
    head = read_head(source)
    check_stanzas(head.stanzas)
    if passphrase is None:
        file_key = unwrap_with_keys(head.stanzas, identities)
    else:
        file_key = unwrap_with_passphrase(head.stanzas, passphrase)
    if file_key is None:
        what = "identity" if passphrase is None else "passphrase"
        raise DeniedError(f"the {what} does not open the backup")
    head.check(file_key)
    return read_stream(source, file_key)


def _wrap(
    file_key: bytes, recipients: Sequence[str], passphrase: bytes | None, work_factor: int
) -> tuple[Stanza, ...]:
    if (passphrase is not None) == bool(recipients):
        raise InvalidError("a backup is encrypted to either recipients or a passphrase")
    if passphrase is None:
        return tuple(wrap_for_key(file_key, each) for each in parse_recipients(recipients))
    if not passphrase:
        raise InvalidError("the backup's passphrase is empty")
    return (wrap_for_passphrase(file_key, passphrase, work_factor=work_factor),)
