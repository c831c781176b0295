"""A reader of the store written from FORMAT.md alone.  It shares no code with the agent's own."""

import hashlib
import hmac
import sqlite3
import struct
from dataclasses import dataclass, field
from typing import Any

import msgpack
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

LABEL = b"secret-agent store 1 "


def hkdf(secret: bytes, salt: bytes, info: bytes, size: int) -> bytes:
    """RFC 5869, written out."""
    pseudo_random = hmac.digest(salt or bytes(32), secret, "sha256")
    out, block, number = b"", b"", 1
    while len(out) < size:
        block = hmac.digest(pseudo_random, block + info + bytes([number]), "sha256")
        out += block
        number += 1
    return out[:size]


def unseal(key: bytes, sealed: tuple[bytes, bytes, bytes], aad: bytes) -> bytes:
    nonce, tag, text = sealed
    return AESGCM(key).decrypt(nonce, text + tag, aad)


@dataclass
class Read:
    """Everything that was read and every number that was met on the way."""

    keys: dict[str, bytes] = field(default_factory=dict)
    header: dict[str, Any] = field(default_factory=dict)
    tally: dict[str, Any] = field(default_factory=dict)
    rows: dict[tuple[str, str, int], tuple[list[Any], dict[str, bytes]]] = field(
        default_factory=dict
    )
    raw: dict[tuple[str, str, int], tuple[bytes, bytes]] = field(default_factory=dict)
    terms: dict[tuple[str, str, int], int] = field(default_factory=dict)


def read(store: sqlite3.Connection, kind: str, secret: bytes) -> Read:
    """Open and check a store as section 8 says, from step 3 on."""
    out = Read()
    parts = {name: (body, sum_) for name, body, sum_ in store.execute("SELECT * FROM part")}
    assert all(hashlib.sha256(body).digest() == sum_ for body, sum_ in parts.values())
    header = parts["header"][0]
    out.header = msgpack.unpackb(header)
    assert out.header["format"] == 1
    store_id = out.header["store"]
    data_key = open_slot(out, header, msgpack.unpackb(parts[kind][0]), secret)
    for use in ("meta", "body", "tally", "names", "digest", "witness"):
        out.keys[use] = hkdf(data_key, store_id, LABEL + use.encode(), 32)
    tally = parts["tally"][0]
    sealed = (tally[:12], tally[12:28], tally[28:])
    out.tally = msgpack.unpackb(unseal(out.keys["tally"], sealed, LABEL + b"tally" + store_id))
    slots = [parts[name][0] for name in sorted(parts) if name not in ("header", "tally")]
    joined = b"".join(struct.pack(">I", len(slot)) + slot for slot in slots)
    assert hashlib.sha256(joined).digest() == out.tally["slots"]
    read_rows(out, store, store_id)
    return out


def open_slot(out: Read, header: bytes, slot: dict[str, Any], secret: bytes) -> bytes:
    kek = secret
    if slot["kdf"] == "argon2id":
        kek = Argon2id(
            salt=slot["salt"],
            length=32,
            iterations=slot["passes"],
            lanes=slot["lanes"],
            memory_cost=slot["memory_kib"],
        ).derive(secret)
    out.keys["kek"] = kek
    out.keys["wrap"] = hkdf(kek, b"", LABEL + b"wrap", 32)
    assert hkdf(kek, b"", LABEL + b"check", 16) == slot["check"]
    public = {key: value for key, value in slot.items() if key not in ("check", "wrapped")}
    wrapped = slot["wrapped"]
    aad = LABEL + b"slot" + header + msgpack.packb(public)
    data_key = unseal(out.keys["wrap"], (wrapped[:12], wrapped[12:28], wrapped[28:]), aad)
    out.keys["data"] = data_key
    return data_key


def read_rows(out: Read, store: sqlite3.Connection, store_id: bytes) -> None:
    digest, before = 0, b""
    for key, mark, meta, body in store.execute("SELECT * FROM version"):
        assert key > before
        assert (len(key), len(mark)) == (40, 72)
        before = key
        place = store_id + key + mark[:16]
        sealed_meta = (mark[16:28], mark[28:44], meta)
        sealed_body = (mark[44:56], mark[56:72], body)
        metadata = msgpack.unpackb(unseal(out.keys["meta"], sealed_meta, LABEL + b"meta" + place))
        values = fields_of(unseal(out.keys["body"], sealed_body, LABEL + b"body" + place))
        name, stage = metadata[:2]
        version = int.from_bytes(key[32:], "big")
        assert key[:16] == tag(out, b"name\0" + name.encode())
        assert key[16:32] == tag(out, b"stage\0" + name.encode() + b"\0" + stage.encode())
        hashed = hashlib.blake2b(key + mark, key=out.keys["digest"], digest_size=32)
        term = int.from_bytes(hashed.digest(), "big")
        digest = (digest + term) % 2**256
        found = (name, stage, version)
        out.rows[found], out.raw[found], out.terms[found] = (metadata, values), (key, mark), term
    assert len(out.rows) == out.tally["rows"]
    assert digest.to_bytes(32, "big") == out.tally["digest"]


def tag(out: Read, message: bytes) -> bytes:
    return hmac.digest(out.keys["names"], message, "sha256")[:16]


def fields_of(plain: bytes) -> dict[str, bytes]:
    fields, at = {}, 0
    while at < len(plain):
        end = at + 1 + plain[at]
        (size,) = struct.unpack_from(">I", plain, end)
        fields[plain[at + 1 : end].decode()] = plain[end + 4 : end + 4 + size]
        at = end + 4 + size
    return fields


def check_witness(out: Read, witness: bytes, sealed_tally: bytes) -> None:
    magic, store_id, generation, tally, slots, mac = struct.unpack(">8s16sQ32s32s32s", witness)
    assert magic == b"SAWITN01"
    assert store_id == out.header["store"]
    assert generation == out.tally["generation"]
    assert tally == hashlib.sha256(sealed_tally).digest()
    assert slots == out.tally["slots"]
    assert mac == hmac.digest(out.keys["witness"], witness[:96], "sha256")
