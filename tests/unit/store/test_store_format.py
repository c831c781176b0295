"""FORMAT.md is exact: a reader written from it alone reads the worked example, and every store."""

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

import secret_agent.store
from secret_agent.store import Store, header, keys, rows, sqlite, witness
from secret_agent_client.errors import NotFoundError
from unit.store import independent
from unit.store.workshop import PASSPHRASE, Workshop, put

TEXT = (Path(secret_agent.store.__file__).parent / "FORMAT.md").read_text()
VECTORS = Path(__file__).parents[2] / "vectors" / "store"
WORKED = b"correct horse battery staple"
KEYRING = bytes(range(32))
FIRST = ("payments/db", "", 1)


def worked_store() -> sqlite3.Connection:
    store = sqlite3.connect(":memory:")
    store.executescript((VECTORS / "worked.sql").read_text())
    return store


@pytest.fixture(scope="module")
def worked() -> independent.Read:
    with closing(worked_store()) as store:
        return independent.read(store, "passphrase", WORKED)


def test_the_independent_reader_reads_the_worked_example(worked: independent.Read) -> None:
    metadata, values = worked.rows["payments/db", "", 2]
    assert values == {"username": b"app", "password": b"hunter2"}
    assert metadata == [
        "payments/db", "", "login", "uid 1000 bash", "first", 1767225660, 1798761600, 1769817600,
        ["username", "password"], False, 0,
    ]  # fmt: skip
    assert {place: row[0][9:] for place, row in worked.rows.items()} == {
        ("payments/db", "", 1): [True, 0],
        ("payments/db", "", 2): [False, 0],
        ("payments/db", "prod", 1): [False, 0],
        ("ssh/key", "", 1): [False, 0],
        ("gone", "", 1): [False, 3],
    }
    assert worked.rows["ssh/key", "", 1][1] == {"private": bytes(range(256)) * 4}
    assert (worked.tally["secrets"], worked.tally["anchor"]) == (4, [41, "ab" * 32])


def test_both_slots_of_the_worked_example_give_the_same_keys(worked: independent.Read) -> None:
    with closing(worked_store()) as store:
        by_key = independent.read(store, "keyring", KEYRING)
    assert by_key.keys["data"] == worked.keys["data"]
    assert by_key.rows == worked.rows


def test_the_witness_of_the_worked_example_fits_it(worked: independent.Read) -> None:
    content = bytes.fromhex((VECTORS / "worked.witness.hex").read_text())
    with closing(worked_store()) as store:
        (sealed,) = store.execute("SELECT body FROM part WHERE name='tally'").fetchone()
    independent.check_witness(worked, content, sealed)


def test_every_number_in_the_document_is_what_the_reader_computes(
    worked: independent.Read,
) -> None:
    key, mark = worked.raw[FIRST]
    computed = {
        "store id": worked.header["store"],
        "key-encryption key": worked.keys["kek"],
        "wrap key": worked.keys["wrap"],
        "data key": worked.keys["data"],
        **{f"{use} key": worked.keys[use] for use in ("meta", "body", "tally", "names")},
        **{f"{use} key": worked.keys[use] for use in ("digest", "witness")},
        "name tag of `payments/db`": key[:16],
        "stage tag of its stage without a name": key[16:32],
        "row id of its version 1": mark[:16],
        "term of its version 1": worked.terms[FIRST].to_bytes(32, "big"),
        "digest": worked.tally["digest"],
        "slots digest": worked.tally["slots"],
    }
    told = dict(re.findall(r"^\| ([^|]+) \| `([0-9a-f]+)` \|$", TEXT, re.MULTILINE))
    assert told == {name: value.hex() for name, value in computed.items()}


@pytest.mark.usefixtures("real_cost")
@pytest.mark.slow
def test_the_agent_reads_the_worked_example_too(shop: Workshop, worked: independent.Read) -> None:
    shop.path.parent.mkdir(mode=0o700)
    shop.witness.parent.mkdir(mode=0o700)
    with shop.sql() as connection:
        connection.executescript((VECTORS / "worked.sql").read_text())
    shop.path.chmod(0o600)
    shop.witness.write_bytes(bytes.fromhex((VECTORS / "worked.witness.hex").read_text()))
    shop.witness.chmod(0o600)
    with shop.unlocked(WORKED) as store:
        for (name, stage, version), (metadata, values) in worked.rows.items():
            if metadata[9]:
                with pytest.raises(NotFoundError, match="was deleted"):
                    store.get(name, stage, version)
                continue
            record = store.get(name, stage, version)
            assert {field: value.reveal() for field, value in record.fields.items()} == values
            assert [record.by, record.note, record.created_at] == metadata[3:6]
        assert store.count() == worked.tally["secrets"]
        assert put(store, "gone") == 3
    with closing(Store.unlock_with_key(shop.path, KEYRING, clock_wall=lambda: 0)) as store:
        assert store.anchored == (41, "ab" * 32)


def test_the_independent_reader_reads_what_the_agent_wrote(shop: Workshop) -> None:
    with shop.created() as store:
        put(store, "a", b"1", note="né", stage="prod")
        put(store, "a", bytes(1000))
        put(store, "a", b"2")
        store.remove("a", "", 2, purge=True)
        store.anchor(7, "ff")
    with shop.sql() as connection:
        found = independent.read(connection, "passphrase", PASSPHRASE)
        (sealed,) = connection.execute("SELECT body FROM part WHERE name='tally'").fetchone()
    assert {place: values for place, (_, values) in found.rows.items()} == {
        ("a", "prod", 1): {"password": b"1"},
        ("a", "", 1): {"password": bytes(1000)},
    }
    assert found.rows["a", "prod", 1][0][4] == "né"
    assert found.tally["generation"] == 6
    independent.check_witness(found, shop.witness.read_bytes(), sealed)


@pytest.mark.usefixtures("real_cost")
def test_the_limits_in_the_document_are_those_of_the_code() -> None:
    low, high, new = keys.BOUNDS.floor, keys.BOUNDS.ceiling, keys.BOUNDS.new
    assert (
        f"memory from {low.memory_kib} to {high.memory_kib} KiB, passes from {low.passes} to"
        f" {high.passes}, lanes from {low.lanes} to {high.lanes}." in TEXT
    )
    assert f"New slots have {new.memory_kib}, {new.passes} and {new.lanes}." in TEXT
    assert f'`PRAGMA application_id` is {sqlite.APPLICATION_ID} (`"SAGS"`)' in TEXT
    assert sqlite.APPLICATION_ID.to_bytes(4, "big") == b"SAGS"
    assert f"A passphrase is 1 to {keys.MAX_PASSPHRASE} bytes" in TEXT
    assert f"A file of {witness.SIZE} bytes" in TEXT
    assert f"| `key` | {rows.KEY_SIZE} |" in TEXT
    assert f"| `mark` | {rows.MARK_SIZE} |" in TEXT
    assert f"Format {header.FORMAT}." in TEXT
    assert f"A cell has at most {sqlite.MAX_CELL // 2**20} MiB." in TEXT
    assert all(statement in TEXT for statement in sqlite._SCHEMA.values())
