"""What is wrong with an age file is named, and nothing that was not checked is released."""

import re
from io import BytesIO
from typing import BinaryIO, cast

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from secret_agent.backup import bech32, stanzas
from secret_agent.backup.age import decrypt, encrypt
from secret_agent.backup.recipients import parse_identities
from secret_agent_client.errors import DeniedError, InvalidError

SECRET = X25519PrivateKey.from_private_bytes(bytes(range(32)))
IDENTITY = bech32.encode("age-secret-key-", SECRET.private_bytes_raw()).upper().encode()
RECIPIENT = bech32.encode("age", SECRET.public_key().public_bytes_raw())
CHEAP = 4  # work factor


def file_of(content: bytes = b"content", **to: object) -> bytes:
    out = BytesIO()
    writer = encrypt(out, **(to or {"recipients": [RECIPIENT]}))  # type: ignore[arg-type]  # one of two
    writer.write(content)
    writer.finish()
    return out.getvalue()


def open_file(file: bytes) -> bytes:
    return b"".join(decrypt(BytesIO(file), identity=IDENTITY))


def test_a_file_that_was_cut_anywhere_is_refused() -> None:
    file = file_of()
    for end in range(len(file)):
        with pytest.raises(InvalidError):
            open_file(file[:end])


def test_a_file_with_any_byte_changed_is_refused() -> None:
    file = file_of()
    for at in range(len(file)):
        changed = bytearray(file)
        changed[at] ^= 1
        with pytest.raises((InvalidError, DeniedError)):
            open_file(bytes(changed))


def test_a_chunk_is_released_only_once_it_is_known_to_be_whole() -> None:
    file = bytearray(file_of(bytes(100_000)))
    file[-1] ^= 1
    released = decrypt(BytesIO(bytes(file)), identity=IDENTITY)
    assert next(released) == bytes(64 * 1024)
    with pytest.raises(InvalidError, match="chunk 2 was cut or altered"):
        next(released)


def test_what_follows_the_last_chunk_is_refused() -> None:
    with pytest.raises(InvalidError, match="chunk 1 was cut or altered"):
        open_file(file_of() + b"x")
    with pytest.raises(InvalidError, match="something follows its last chunk"):
        open_file(file_of(bytes(64 * 1024)) + b"x")


def test_two_files_have_nothing_in_common_but_their_first_line() -> None:
    one, two = file_of(), file_of()
    assert one.split(b"\n")[2:] != two.split(b"\n")[2:]
    assert one.split(b"\n")[1] != two.split(b"\n")[1]


@pytest.mark.parametrize(
    ("work_factor", "error"),
    [("21", "work factor of 21; the most is 20"), ("99", "work factor of 99"),
     ("018", "no number"), ("+18", "no number"), ("0x12", "no number"), ("-1", "no number"),
     ("18446744073709551617", "no number")],
)  # fmt: skip
def test_a_work_factor_out_of_bounds_is_refused_before_it_is_tried(
    work_factor: str, error: str
) -> None:
    file = file_of(passphrase=b"pw", work_factor=CHEAP)
    line = re.compile(rb"(-> scrypt \S+) 4\n")
    changed = line.sub(rb"\1 " + work_factor.encode() + b"\n", file)
    assert changed != file
    with pytest.raises(InvalidError, match=re.escape(error)):
        decrypt(BytesIO(changed), passphrase=b"pw")


def test_a_wrong_passphrase_is_denied() -> None:
    with pytest.raises(DeniedError, match="the passphrase does not open the backup"):
        decrypt(BytesIO(file_of(passphrase=b"pw", work_factor=CHEAP)), passphrase=b"other")


def test_a_passphrase_does_not_open_what_is_for_recipients_nor_the_reverse() -> None:
    with pytest.raises(DeniedError):
        decrypt(BytesIO(file_of()), passphrase=b"pw")
    with pytest.raises(DeniedError):
        open_file(file_of(passphrase=b"pw", work_factor=CHEAP))


def test_a_header_without_end_is_refused_within_its_bound() -> None:
    endless = stanzas.INTRO + b"-> X25519 a\n" + (b"A" * 64 + b"\n") * 2000
    with pytest.raises(InvalidError, match="longer than 65536 bytes"):
        open_file(endless)


@pytest.mark.parametrize(
    ("file", "error"),
    [(b"", "ends in the middle"), (b"PK\3\4 zip\n", "not an age file"),
     (b"age-encryption.org/v9\n", "version of the age format"),
     (b"-----BEGIN AGE ENCRYPTED FILE-----\n", "armored")],
)  # fmt: skip
def test_another_file_is_named(file: bytes, error: str) -> None:
    with pytest.raises(InvalidError, match=error):
        open_file(file)


@pytest.mark.parametrize(
    ("recipient", "error"),
    [
        ("", "recipient 2 is malformed"),
        ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI", "recipient 2 is malformed"),
        (RECIPIENT[:-1] + "q", "recipient 2 is malformed"),
        (bech32.encode("age", b"short"), "recipient 2 is no X25519 key"),
        (bech32.encode("age1pq", bytes(32)), "recipient 2 is no X25519 key"),
        (IDENTITY.decode(), "recipient 2 is no X25519 key"),
    ],
)
def test_what_is_no_recipient_is_refused_by_its_place(recipient: str, error: str) -> None:
    with pytest.raises(InvalidError, match=error) as caught:
        encrypt(BytesIO(), recipients=[RECIPIENT, recipient])
    assert not recipient or recipient not in str(caught.value)


def test_too_many_recipients_are_refused() -> None:
    with pytest.raises(InvalidError, match="257 recipients"):
        encrypt(BytesIO(), recipients=[RECIPIENT] * 257)


def test_as_many_recipients_as_are_allowed_fit_into_a_header() -> None:
    assert open_file(file_of(recipients=[RECIPIENT] * 256)) == b"content"


def test_a_recipient_of_low_order_is_refused() -> None:
    low = bech32.encode("age", bytes(32))
    with pytest.raises(InvalidError, match="low order"):
        encrypt(BytesIO(), recipients=[low])


@pytest.mark.parametrize(
    "to", [{}, {"recipients": [RECIPIENT], "passphrase": b"pw"}, {"passphrase": b""}]
)
def test_a_backup_is_for_recipients_or_for_one_passphrase(to: dict[str, object]) -> None:
    with pytest.raises(InvalidError):
        encrypt(BytesIO(), **to)  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize("by", [{}, {"identity": IDENTITY, "passphrase": b"pw"}])
def test_a_backup_is_opened_by_one_of_the_two(by: dict[str, bytes]) -> None:
    with pytest.raises(InvalidError, match="either an identity or a passphrase"):
        decrypt(BytesIO(file_of()), **by)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (b"", "holds no private key"),
        (b"# created: today\n\n", "holds no private key"),
        (b"# c\n" + IDENTITY[:-1] + b"\n", "line 2 of the identity is malformed"),
        (RECIPIENT.encode(), "line 1 of the identity is no X25519 key"),
        (b"\xff\xfe", "line 1 of the identity is malformed"),
    ],
)
def test_what_is_no_identity_is_refused_without_being_echoed(text: bytes, error: str) -> None:
    with pytest.raises(InvalidError, match=error) as caught:
        parse_identities(text)
    assert IDENTITY.decode()[:20] not in f"{caught.value!s} {caught.value.remedy}"


def test_an_identity_does_not_show_itself() -> None:
    (identity,) = parse_identities(IDENTITY)
    assert repr(identity) == "Identity(…)"


class Trickle:
    """A pipe that gives one byte at a time, and takes one at a time."""

    def __init__(self, content: bytes = b"") -> None:
        self._file = BytesIO(content)

    def read(self, size: int) -> bytes:
        return self._file.read(min(size, 1))

    def readline(self, size: int) -> bytes:
        return self._file.readline(size)

    def write(self, data: memoryview) -> int:
        return self._file.write(data[:1])

    def getvalue(self) -> bytes:
        return self._file.getvalue()


def test_a_pipe_that_moves_single_bytes_carries_the_same_file() -> None:
    out = Trickle()
    writer = encrypt(cast("BinaryIO", out), recipients=[RECIPIENT])
    writer.write(b"slow")
    writer.finish()
    source = cast("BinaryIO", Trickle(out.getvalue()))
    assert b"".join(decrypt(source, identity=IDENTITY)) == b"slow"
