"""The payload of an age file: chunks of 64 KiB, each sealed, the last one marked as the last.

Spec: https://c2sp.org/age, "Payload" (the STREAM construction).  Rules that hold here: at most two
chunks are in memory; a chunk goes out only once its seal was checked; an end without a last chunk,
or anything after it, is an error.
"""

import os
from collections.abc import Iterator
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from secret_agent.store.keys import hkdf
from secret_agent_client.errors import InvalidError

CHUNK = 64 * 1024  # bytes
NONCE_SIZE = 16  # bytes, of the file
TAG_SIZE = 16  # bytes


class StreamWriter:
    """Seals what is written, chunk by chunk.  Without `finish` the result is a truncated file."""

    def __init__(self, out: BinaryIO, file_key: bytes) -> None:
        nonce = os.urandom(NONCE_SIZE)
        self._out = out
        self._cipher = _cipher(file_key, nonce)
        self._held = bytearray()
        self._counter = 0
        write_all(out, nonce)

    def write(self, data: bytes) -> None:
        """Seal some more.  A full chunk is kept back, because it might be the last."""
        self._held += data
        while len(self._held) > CHUNK:
            self._seal(self._held[:CHUNK], last=False)
            del self._held[:CHUNK]

    def finish(self) -> None:
        """Seal the last chunk."""
        self._seal(self._held, last=True)
        self._held.clear()

    def _seal(self, chunk: bytearray, *, last: bool) -> None:
        nonce = _nonce(self._counter, last=last)
        write_all(self._out, self._cipher.encrypt(nonce, chunk, None))
        self._counter += 1


def read_stream(source: BinaryIO, file_key: bytes) -> Iterator[bytes]:
    """The payload, one chunk at a time.  Raises InvalidError where it was cut or altered."""
    nonce = read_full(source, NONCE_SIZE)
    if len(nonce) != NONCE_SIZE:
        raise InvalidError("the backup's header is malformed: the file ends after it")
    cipher = _cipher(file_key, nonce)
    counter = 0
    while True:
        chunk = read_full(source, CHUNK + TAG_SIZE)
        plain, last = _open(cipher, counter, chunk)
        if last and not plain and counter:
            raise _broken("its last chunk is empty")
        yield plain
        if last:
            break
        counter += 1
    if source.read(1):
        raise _broken("something follows its last chunk")


def read_full(source: BinaryIO, size: int) -> bytes:
    """So many bytes, fewer only at the end of the file; a pipe gives them in pieces."""
    pieces = bytearray()
    while len(pieces) < size:
        piece = source.read(size - len(pieces))
        if not piece:
            break
        pieces += piece
    return bytes(pieces)


def write_all(out: BinaryIO, data: bytes) -> None:
    """All of it; an unbuffered file may take it in pieces."""
    view = memoryview(data)
    while view:
        view = view[out.write(view) :]


def _open(cipher: ChaCha20Poly1305, counter: int, chunk: bytes) -> tuple[bytes, bool]:
    """(text, whether it is the last chunk)."""
    if len(chunk) < TAG_SIZE:
        raise _broken("it was cut: there is no last chunk")
    # A short chunk can only be the last one; a full one tells by which of the two seals fits.
    for last in (False, True) if len(chunk) == CHUNK + TAG_SIZE else (True,):
        try:
            return cipher.decrypt(_nonce(counter, last=last), chunk, None), last
        except InvalidTag:
            continue
    raise _broken(f"chunk {counter + 1} was cut or altered")


def _cipher(file_key: bytes, nonce: bytes) -> ChaCha20Poly1305:
    return ChaCha20Poly1305(hkdf(file_key, salt=nonce, info=b"payload"))


def _nonce(counter: int, *, last: bool) -> bytes:
    return counter.to_bytes(11, "big") + (b"\x01" if last else b"\x00")


def _broken(why: str) -> InvalidError:
    return InvalidError(f"the backup's content is damaged: {why}")
