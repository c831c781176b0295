"""One row, one version of one secret: what stands in its columns and how it is sealed.

FORMAT.md section 5.

Rules that hold here: a row's seals are bound to the store, to the row's place (name, stage,
version) and to its random id, so that no row opens anywhere else; values exist here only in
bytearrays that are wiped.  Pure: no file is touched.
"""

import os
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from secret_agent.store.keys import LABEL, TAG_SIZE, Keys
from secret_agent.store.seal import NONCE_SIZE, Sealed, wipe
from secret_agent.store.seal import TAG_SIZE as SEAL_TAG_SIZE
from secret_agent_client.codec import pack, unpack
from secret_agent_client.value import SecretValue

ROW_ID_SIZE = 16  # bytes, random: an id is never used again, not even for the same version
PREFIX_SIZE = 2 * TAG_SIZE  # bytes of a key that all versions of one secret in one stage share
KEY_SIZE = PREFIX_SIZE + 8  # name tag, stage tag, version (big-endian)
MARK_SIZE = ROW_ID_SIZE + 2 * (NONCE_SIZE + SEAL_TAG_SIZE)

_VALUE_HEAD = struct.Struct(">I")


class Row(NamedTuple):
    """A row as it stands in the table."""

    key: bytes
    mark: bytes  # row id, then nonce and tag of meta, then nonce and tag of body
    meta: bytes  # sealed text
    body: bytes  # sealed text

    @property
    def version(self) -> int:
        return int.from_bytes(self.key[PREFIX_SIZE:], "big")


@dataclass(frozen=True, slots=True)
class Meta:
    """Everything about a version but its values."""

    name: str
    stage: str
    type: str
    by: str
    note: str | None
    created_at: int
    expires_at: int | None
    rotate_due: int | None
    field_names: tuple[str, ...]
    deleted: bool = False
    next_version: int = 0  # the least number that the next version may have; 0: this one's plus one


def prefix_of(keys: Keys, name: str, stage: str) -> bytes:
    """The beginning of the keys of all versions of a secret in a stage."""
    return keys.name_tag(name) + keys.stage_tag(name, stage)


def key_of(prefix: bytes, version: int) -> bytes:
    """A row's key."""
    return prefix + version.to_bytes(8, "big")


def seal_row(
    keys: Keys, store_id: bytes, key: bytes, meta: Meta, fields: Mapping[str, SecretValue]
) -> Row:
    """A new row under a new random id."""
    row_id = os.urandom(ROW_ID_SIZE)
    body = _pack_fields(fields)
    sealed = keys.body.seal(body, aad(b"body", store_id, key, row_id))
    wipe(body)
    return _assemble(keys, store_id, key, row_id, meta, sealed)


def reseal_meta(keys: Keys, store_id: bytes, row: Row, meta: Meta) -> Row:
    """The same row with other metadata; its values stay sealed as they are."""
    row_id, _, body = split(row)
    return _assemble(keys, store_id, row.key, row_id, meta, body)


def open_meta(keys: Keys, store_id: bytes, row: Row) -> Meta:
    """Raises BrokenSealError."""
    row_id, sealed, _ = split(row)
    return _unpack_meta(keys.meta.open(sealed, aad(b"meta", store_id, row.key, row_id)))


def open_fields(keys: Keys, store_id: bytes, row: Row) -> dict[str, SecretValue]:
    """Raises BrokenSealError."""
    row_id, _, sealed = split(row)
    plain = keys.body.open(sealed, aad(b"body", store_id, row.key, row_id))
    fields = _unpack_fields(plain)
    wipe(plain)
    return fields


def split(row: Row) -> tuple[bytes, Sealed, Sealed]:
    """The row's id, and its two sealed texts with the nonces and tags that stand in its mark."""
    return _split(row.mark, row.meta, row.body)


def aad(part: bytes, store_id: bytes, key: bytes, row_id: bytes) -> bytes:
    """What a seal of a row is bound to."""
    return LABEL + part + store_id + key + row_id


def _split(mark: bytes, meta: bytes, body: bytes) -> tuple[bytes, Sealed, Sealed]:
    a = ROW_ID_SIZE
    b = a + NONCE_SIZE
    c = b + SEAL_TAG_SIZE
    d = c + NONCE_SIZE
    return mark[:a], Sealed(mark[a:b], mark[b:c], meta), Sealed(mark[c:d], mark[d:], body)


def _assemble(  # the six things that a row is made of
    keys: Keys, store_id: bytes, key: bytes, row_id: bytes, meta: Meta, body: Sealed
) -> Row:
    sealed = keys.meta.seal(_pack_meta(meta), aad(b"meta", store_id, key, row_id))
    mark = row_id + sealed.nonce + sealed.tag + body.nonce + body.tag
    return Row(key, mark, sealed.text, body.text)


def _pack_meta(meta: Meta) -> bytes:
    return pack(
        [
            meta.name,
            meta.stage,
            meta.type,
            meta.by,
            meta.note,
            meta.created_at,
            meta.expires_at,
            meta.rotate_due,
            meta.field_names,
            meta.deleted,
            meta.next_version,
        ]
    )


def _unpack_meta(plain: bytearray) -> Meta:
    # The seal has vouched for these bytes: what does not fit is a bug, not an attack.
    found: Any = unpack(plain)
    found[8] = tuple(found[8])  # the names of the fields
    return Meta(*found)


def _pack_fields(fields: Mapping[str, SecretValue]) -> bytearray:
    """Each field: length of its name (1 byte), name, length of its value (4 bytes), value."""
    plain = bytearray()
    for name, value in fields.items():
        encoded = name.encode()
        plain.append(len(encoded))
        plain += encoded
        plain += _VALUE_HEAD.pack(len(value))
        plain += value.reveal()
    return plain


def _unpack_fields(plain: bytearray) -> dict[str, SecretValue]:
    fields: dict[str, SecretValue] = {}
    at = 0
    while at < len(plain):
        start = at + 1 + plain[at]
        name = plain[at + 1 : start].decode()
        (length,) = _VALUE_HEAD.unpack_from(plain, start)
        at = start + 4 + length
        piece = plain[start + 4 : at]
        fields[name] = SecretValue(piece)
        wipe(piece)
    return fields


def wipe_fields(values: Iterable[SecretValue]) -> None:
    """Overwrite values that nobody needs any more."""
    for value in values:
        value.wipe()
