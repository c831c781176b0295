"""A store goes into a backup and comes back; a backup says what it lacks."""

import json
import os
import subprocess
import tracemalloc
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from secret_agent.backup import bech32
from secret_agent.backup.age import encrypt
from secret_agent.backup.archive import newest_only, read_backup, write_backup
from secret_agent.store import Record, Store, keys
from secret_agent_client.errors import DeniedError, InvalidError, UnavailableError
from support.real import need

SECRET = X25519PrivateKey.from_private_bytes(bytes(range(32)))
IDENTITY = bech32.encode("age-secret-key-", SECRET.private_bytes_raw()).upper().encode()
RECIPIENT = bech32.encode("age", SECRET.public_key().public_bytes_raw())
CHEAP = 4  # work factor


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with keys._for_tests_cheap():
        made = Store.create(tmp_path / "store.db", b"pw", clock_wall=lambda: 1_000.0)
    yield made
    made.close()


def fill(store: Store) -> None:
    store.put("a", "", {"password": b"one"}, type="login", by="me", note="first")
    store.put("a", "", {"password": b"two", "url": b"\0\xff"}, type="login", by="me", merge=True)
    store.put("a", "prod", {"password": b"three"}, type="login", by="me", expires_at=2_000)
    store.put("gone", "", {"x": b"y"}, type="t", by="me")
    store.remove("gone", "", purge=False)


def backup_of(store: Store, **to: object) -> bytes:
    out = BytesIO()
    usual: dict[str, object] = {"recipients": [RECIPIENT], "passphrase": None}
    write_backup(store, out, **(usual | to))  # type: ignore[arg-type]  # keywords of each test
    return out.getvalue()


def read(file: bytes, identity: bytes | None = IDENTITY) -> list[Record]:
    return list(read_backup(BytesIO(file), identity=identity, passphrase=None))


def by_place(records: list[Record]) -> dict[tuple[str, str, int], Record]:
    return {(record.name, record.stage, record.version): record for record in records}


def test_every_version_that_is_not_deleted_comes_back_whole(store: Store) -> None:
    fill(store)
    found = by_place(read(backup_of(store)))
    assert found == by_place(list(store.records()))
    assert found.keys() == {("a", "", 1), ("a", "", 2), ("a", "prod", 1)}
    assert found["a", "", 2].fields["url"].reveal() == b"\0\xff"
    assert found["a", "prod", 1].expires_at == 2_000


def test_a_backup_under_a_passphrase_comes_back(store: Store) -> None:
    fill(store)
    file = backup_of(store, recipients=[], passphrase=b"words", work_factor=CHEAP)
    assert len(list(read_backup(BytesIO(file), identity=None, passphrase=b"words"))) == 3
    with pytest.raises(DeniedError):
        list(read_backup(BytesIO(file), identity=None, passphrase=b"other"))


def test_it_counts_secrets_and_keeps_to_those_it_is_told(store: Store) -> None:
    fill(store)
    for only, count in ((None, 2), ({("a", "prod")}, 1), (set(), 0)):
        out = BytesIO()
        told = write_backup(store, out, recipients=[RECIPIENT], passphrase=None, only=only)
        assert told == count
        assert len({(r.name, r.stage) for r in read(out.getvalue())}) == count


def test_newest_only_keeps_the_last_version_of_each_secret(store: Store) -> None:
    fill(store)
    found = newest_only(read(backup_of(store)))
    assert {(r.name, r.stage, r.version) for r in found} == {("a", "", 2), ("a", "prod", 1)}


def test_nothing_of_the_store_is_readable_in_a_backup(store: Store) -> None:
    store.put("visible/name", "", {"field": b"visible value"}, type="t", by="visible author")
    assert b"visible" not in backup_of(store)


def test_a_backup_of_an_altered_store_fails_rather_than_leave_something_out(
    store: Store,
) -> None:
    fill(store)
    connection = store._ledger._opened.database._sqlite  # type: ignore[union-attr]  # it is open
    connection.execute("UPDATE version SET body = zeroblob(length(body))")
    with pytest.raises(InvalidError, match=r"a.* version .: its fields were altered"):
        backup_of(store)


def test_a_backup_that_was_cut_is_refused_wherever(store: Store) -> None:
    fill(store)
    file = backup_of(store)
    for end in range(0, len(file), 7):
        with pytest.raises(InvalidError):
            read(file[:end])


def test_a_file_of_age_that_is_no_backup_is_named() -> None:
    out = BytesIO()
    writer = encrypt(out, recipients=[RECIPIENT])
    writer.write(b'{"some":"json"}\n')
    writer.finish()
    with pytest.raises(InvalidError, match="opens, but it is no backup"):
        read(out.getvalue())


def test_a_full_disk_is_named(store: Store) -> None:
    with (
        Path("/dev/full").open("wb", buffering=0) as out,
        pytest.raises(UnavailableError, match="cannot be written: no space left on device"),
    ):
        write_backup(store, out, recipients=[RECIPIENT], passphrase=None)


def test_a_source_that_fails_is_named() -> None:
    with pytest.raises(UnavailableError, match="cannot be read: input/output error"):
        list(read_backup(_Failing(), identity=IDENTITY, passphrase=None))


class _Failing(BytesIO):
    def readline(self, size: int | None = -1, /) -> bytes:
        raise OSError(5, "Input/output error")


@pytest.mark.real
def test_age_and_a_json_reader_are_enough_to_read_a_backup(store: Store, tmp_path: Path) -> None:
    fill(store)
    (tmp_path / "identity").write_bytes(IDENTITY)
    opened = subprocess.run(
        [need("age"), "--decrypt", "-i", tmp_path / "identity"],
        input=backup_of(store),
        check=True,
        capture_output=True,
    )
    first, *versions, end = map(json.loads, opened.stdout.splitlines())
    assert first == {"secret-agent-backup": 1, "store": store.store_id}
    assert [version["name"] for version in versions] == ["a", "a", "a"]
    assert end == {"end": 3}


@pytest.mark.slow
def test_memory_stays_bounded_whatever_the_size(store: Store) -> None:
    with store.batch():
        for number in range(40):
            store.put(f"big/{number}", "", {"v": os.urandom(512 * 1024)}, type="t", by="me")
    file = backup_of(store)
    assert len(file) > 20 * 1024 * 1024
    tracemalloc.start()
    for record in read_backup(BytesIO(file), identity=IDENTITY, passphrase=None):
        for value in record.fields.values():
            value.wipe()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10 * 1024 * 1024
