"""The textual header of an age file: one stanza a recipient, and a MAC over all of it.

Spec: https://c2sp.org/age, "Header".  Rules that hold here: what is parsed has exactly one
spelling, every other is refused; the header is bounded before it is read; the MAC is taken over the
bytes as they stood in the file.
"""

import base64
import binascii
import hmac
from dataclasses import dataclass
from typing import BinaryIO

from secret_agent.store.keys import hkdf
from secret_agent_client.errors import InvalidError

INTRO = b"age-encryption.org/v1\n"
ARMOR = b"-----BEGIN AGE ENCRYPTED FILE-----"
MAX_HEADER = 64 * 1024  # bytes; room for hundreds of recipients
COLUMNS = 64  # of a full line of base64
MAC_SIZE = 32  # bytes

_DASHES = b"---"
_ARROW = b"-> "


@dataclass(frozen=True, slots=True)
class Stanza:
    """One wrapping of the file key."""

    args: tuple[str, ...]
    body: bytes

    @property
    def kind(self) -> str:
        """The first argument: which type of recipient it is for."""
        return self.args[0]

    def pack(self) -> bytes:
        """The stanza as it stands in the header."""
        body = encode64(self.body)
        lines = [body[at : at + COLUMNS] for at in range(0, len(body) + 1, COLUMNS)]
        return _ARROW + " ".join(self.args).encode() + b"\n" + b"\n".join(lines) + b"\n"


@dataclass(frozen=True, slots=True)
class Head:
    """A parsed header: its stanzas, and what its MAC says of which bytes."""

    stanzas: tuple[Stanza, ...]
    signed: bytes
    mac: bytes

    def check(self, file_key: bytes) -> None:
        """Raise InvalidError unless the MAC fits the header."""
        if not hmac.compare_digest(_mac(file_key, self.signed), self.mac):
            raise InvalidError("the backup's header was altered: its MAC does not fit")


def write_head(stanzas: "tuple[Stanza, ...]", file_key: bytes) -> bytes:
    """The whole header."""
    signed = INTRO + b"".join(stanza.pack() for stanza in stanzas) + _DASHES
    return signed + b" " + encode64(_mac(file_key, signed)) + b"\n"


def read_head(source: BinaryIO) -> Head:
    """Read a header and stop after it.  Raises InvalidError."""
    lines = _Lines(source)
    intro = lines.next()
    if intro != INTRO:
        _refuse_intro(intro)
    stanzas = []
    line = lines.next()
    while line.startswith(_ARROW):
        stanzas.append(_read_stanza(line, lines))
        line = lines.next()
    if not stanzas or not line.startswith(_DASHES + b" "):
        raise _malformed("a stanza or the MAC was expected")
    mac = decode64(line[len(_DASHES) + 1 : -1])
    if len(mac) != MAC_SIZE:
        raise _malformed("its MAC has another size")
    return Head(tuple(stanzas), lines.read[: -len(line)] + _DASHES, mac)


def encode64(data: bytes) -> bytes:
    """Base64 without padding."""
    return base64.b64encode(data).rstrip(b"=")


def decode64(text: bytes) -> bytes:
    """The inverse of `encode64`, for its own output only.  Raises InvalidError."""
    try:
        data = base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        raise _malformed("a base64 string is broken") from None
    if encode64(data) != text:
        raise _malformed("a base64 string is not canonical")
    return data


class _Lines:
    """Lines of a bounded header, and all that was read so far."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self.read = b""

    def next(self) -> bytes:
        """The next line with its line feed."""
        line = self._source.readline(MAX_HEADER + 1 - len(self.read))
        self.read += line
        if len(self.read) > MAX_HEADER:
            raise _malformed(f"it is longer than {MAX_HEADER} bytes")
        if not line.endswith(b"\n"):
            raise _malformed("it ends in the middle")
        return line


def _read_stanza(line: bytes, lines: _Lines) -> Stanza:
    args = line[len(_ARROW) : -1].split(b" ")
    if not all(arg and all(0x21 <= char <= 0x7E for char in arg) for arg in args):
        raise _malformed("a stanza's argument is empty or has a strange character")
    body = b""
    while True:
        piece = lines.next()[:-1]
        if len(piece) > COLUMNS:
            raise _malformed(f"a line of a stanza is longer than {COLUMNS} columns")
        body += piece
        if len(piece) < COLUMNS:
            return Stanza(tuple(arg.decode() for arg in args), decode64(body))


def _mac(file_key: bytes, signed: bytes) -> bytes:
    return hmac.digest(hkdf(file_key, salt=b"", info=b"header"), signed, "sha256")


def _refuse_intro(intro: bytes) -> None:
    if intro.lstrip().startswith(ARMOR):
        raise InvalidError(
            "the backup is an armored age file; take the armor off first",
            remedy="sed '1d;$d' backup.age | base64 --decode > binary.age",
        )
    if intro.startswith(b"age-encryption.org/"):
        raise InvalidError("the backup has a version of the age format that is not known here")
    raise InvalidError("the backup is not an age file")


def _malformed(why: str) -> InvalidError:
    return InvalidError(f"the backup's header is malformed: {why}")
