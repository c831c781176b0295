"""Every way to tamper with a store is named for what it is, before anything is served from it."""

import sqlite3
from pathlib import Path

import pytest

from secret_agent_client.errors import DeniedError, InvalidError, UnavailableError
from unit.store.workshop import PASSPHRASE, Workshop, flip, put, value_of


def refused(shop: Workshop, error: str, *, passphrase: bytes = PASSPHRASE) -> InvalidError:
    """The error of an unlock that must name what is wrong; the file is let go of afterwards."""
    with pytest.raises(InvalidError, match=error) as caught:
        shop.unlock(passphrase)
    with shop.sql() as connection:
        connection.execute("BEGIN IMMEDIATE")
    assert shop.path.with_name("store.db.lock").exists()
    return caught.value


# rows whose seals no longer add up: the store does not open


def test_a_dropped_row_is_named(shop: Workshop) -> None:
    shop.fill(a="1", b="2", c="3")
    with shop.sql() as connection:
        connection.execute("DELETE FROM version WHERE key=?", (shop.rows()[0][0],))
    error = refused(shop, "rows are missing: 1 of the 3 that were written")
    assert error.remedy == f"mv {shop.path} {shop.path}.damaged"


def test_dropped_rows_are_counted(shop: Workshop) -> None:
    shop.fill(a="1", b="2", c="3")
    with shop.sql() as connection:
        connection.execute("DELETE FROM version")
    refused(shop, "rows are missing: 3 of the 3 that were written")


def test_a_row_added_from_an_older_copy_is_named(shop: Workshop) -> None:
    shop.fill(a="1", b="2")
    old = shop.rows()
    with shop.unlocked() as store:
        store.remove("app/a", "", purge=True)
    (back,) = [row for row in old if row[0] not in {row[0] for row in shop.rows()}]
    with shop.sql() as connection:
        connection.execute("INSERT INTO version VALUES (?,?,?,?)", back)
    refused(shop, "rows were added: 1 more than the 1 that were written")


def test_a_row_put_back_from_an_older_copy_is_named(shop: Workshop) -> None:
    shop.fill(a="1", b="2")
    key = shop.key_of("app/a")
    old = {row[0]: row for row in shop.rows()}[key]
    with shop.unlocked() as store:
        store.remove("app/a", "", purge=False)
    with shop.sql() as connection:
        connection.execute("UPDATE version SET mark=?, meta=? WHERE key=?", (old[1], old[2], key))
    refused(shop, "a row was put back from an older copy")


def test_a_newest_version_exchanged_for_an_older_one_is_named(shop: Workshop) -> None:
    with shop.created() as store:
        put(store, "a", b"old")
        put(store, "a", b"new")
    first, second = shop.rows()
    with shop.sql() as connection:
        connection.execute(
            "UPDATE version SET mark=?, meta=?, body=? WHERE key=?", (*first[1:], second[0])
        )
    refused(shop, "version 2 was swapped: it holds what belongs to a version 1")


def test_two_rows_swapped_with_their_marks_are_named(shop: Workshop) -> None:
    shop.fill(a="1", b="2", c="3")
    one, two, _ = shop.rows()
    with shop.sql() as connection:
        for key, row in ((one[0], two), (two[0], one)):
            connection.execute(
                "UPDATE version SET mark=?, meta=?, body=? WHERE key=?", (*row[1:], key)
            )
    error = refused(shop, "was swapped: it holds what belongs to")
    assert error.message.count("swapped") == 2


@pytest.mark.parametrize("at", [0, 16, 30, 44, 71])
def test_a_flipped_bit_in_a_mark_is_named(shop: Workshop, at: int) -> None:
    shop.fill(a="1", b="2")
    key, mark, _, _ = shop.rows()[0]
    shop.set_cell(key, "mark", flip(mark, at))
    refused(shop, "(fields were|metadata was) altered")


def test_a_row_moved_to_another_version_is_named(shop: Workshop) -> None:
    shop.fill(a="1")
    key = shop.rows()[0][0]
    with shop.sql() as connection:
        connection.execute("UPDATE version SET key=?", (key[:-1] + b"\2",))
    refused(shop, "the row .{8}… version 2: its metadata was altered")


def test_many_broken_rows_make_a_short_message(shop: Workshop) -> None:
    with shop.created() as store, store.batch():
        for number in range(40):
            put(store, f"n/{number}")
    with shop.sql() as connection:
        connection.execute("UPDATE version SET mark=zeroblob(72)")
    assert len(refused(shop, "metadata was altered").message) < 1000


@pytest.mark.parametrize("value", [None, 7, 1.5, "text"], ids=["null", "int", "real", "text"])
def test_a_mark_of_another_type_is_named(shop: Workshop, value: object) -> None:
    shop.fill(a="1")
    with shop.sql() as connection:
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute(
            "UPDATE sqlite_master SET sql=replace(sql, ' NOT NULL', '') WHERE name='version'"
        )
    shop.set_cell(shop.rows()[0][0], "mark", value)
    with shop.sql() as connection:
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute(
            "UPDATE sqlite_master SET sql=replace(replace(replace(sql,"
            " 'mark BLOB', 'mark BLOB NOT NULL'), 'meta BLOB', 'meta BLOB NOT NULL'),"
            " 'body BLOB', 'body BLOB NOT NULL') WHERE name='version'"
        )
    refused(shop, "another type|cannot be found")


def test_a_tree_in_which_lookups_would_miss_a_row_is_named(shop: Workshop) -> None:
    shop.fill(a="1", b="2", c="3")
    keys_ = [row[0] for row in shop.rows()]
    file = shop.path.read_bytes()
    at, before = file.index(keys_[1]), file.index(keys_[0])
    changed = bytearray(file)
    changed[at : at + 40], changed[before : before + 40] = keys_[0], keys_[1]
    shop.path.write_bytes(changed)
    refused(shop, "a row stands where it cannot be found")


# texts under intact marks: the store opens, the item is refused, the others are served


@pytest.mark.parametrize(("column", "part"), [("body", "fields were"), ("meta", "metadata was")])
def test_an_altered_text_refuses_its_item_and_no_other(
    shop: Workshop, column: str, part: str
) -> None:
    shop.fill(a="1", b="2")
    key = shop.key_of("app/a")
    row = {row[0]: row for row in shop.rows()}[key]
    shop.set_cell(key, column, flip(row[3 if column == "body" else 2]))
    with shop.unlocked() as store:
        with pytest.raises(InvalidError, match=f"version 1: its {part} altered"):
            store.get("app/a", "")
        assert value_of(store, "app/b") == b"2"
        assert len(store.damage()) == 1
        assert part in store.damage()[0]


def test_swapped_texts_under_intact_marks_are_named_when_read(shop: Workshop) -> None:
    with shop.created() as store:
        put(store, "app/a", b"1")
        put(store, "app/b", b"2", stage="prod")
        put(store, "app/c", b"3")
    key_a, key_b = shop.key_of("app/a"), shop.key_of("app/b", stage="prod")
    by_key = {row[0]: row for row in shop.rows()}
    shop.set_cell(key_a, "body", by_key[key_b][3])
    shop.set_cell(key_b, "body", by_key[key_a][3])
    with shop.unlocked() as store:
        with pytest.raises(InvalidError) as caught:
            store.get("app/a", "")
        assert caught.value.message == (
            "the store was altered: app/a version 1 was swapped: it holds what belongs to another"
        )
        assert (
            "app/a version 1 was swapped: it holds what belongs to app/b in stage prod version 1"
        ) in store.damage()
        with pytest.raises(InvalidError, match="app/b in stage prod version 1 was swapped"):
            store.get("app/b", "prod")
        assert value_of(store, "app/c") == b"3"


def test_a_text_from_an_older_copy_under_the_mark_of_today_is_named(shop: Workshop) -> None:
    shop.fill(a="old")
    old = shop.rows()[0]
    with shop.unlocked() as store:
        store.remove("app/a", "", purge=True)
        put(store, "app/a", b"new")
    shop.set_cell(old[0], "body", old[3])
    with shop.unlocked() as store, pytest.raises(InvalidError, match="fields were altered"):
        store.get("app/a", "")


def test_altered_metadata_is_left_out_of_lists_and_named(shop: Workshop) -> None:
    shop.fill(a="1", b="2")
    key = shop.key_of("app/a")
    shop.set_cell(key, "meta", flip({row[0]: row for row in shop.rows()}[key][2]))
    with shop.unlocked() as store:
        assert [info.name for info in store.list()] == ["app/b"]
        assert store.stages("app/a") == []
        for call in (
            lambda: store.history("app/a", ""),
            lambda: store.describe("app/a", ""),
            lambda: put(store, "app/a"),
            lambda: store.remove("app/a", "", purge=False),
        ):
            with pytest.raises(InvalidError, match=r"the row .{8}… version 1: its metadata was"):
                call()
        assert store.count() == 2


def test_an_altered_item_can_be_purged_and_written_anew(shop: Workshop) -> None:
    with shop.created() as store:
        put(store, "a", b"1")
        put(store, "a", b"2")
    for key, _, meta, _ in shop.rows():
        shop.set_cell(key, "meta", flip(meta))
    with shop.unlocked() as store:
        assert store.remove("a", "", 2, purge=True) == [2]
        assert store.remove("a", "", purge=True) == [1]
        assert store.count() == 0
        assert put(store, "a", b"new") == 1
        assert store.damage() == ()
    with shop.unlocked() as store:
        assert value_of(store, "a") == b"new"


def test_merging_onto_altered_fields_is_refused_and_replacing_them_is_not(shop: Workshop) -> None:
    shop.fill(a="1")
    key, _, _, body = shop.rows()[0]
    shop.set_cell(key, "body", flip(body))
    with shop.unlocked() as store:
        with pytest.raises(InvalidError, match="app/a version 1: its fields were altered"):
            put(store, "app/a", merge=True)
        assert put(store, "app/a", b"2") == 2
        assert value_of(store, "app/a") == b"2"
        assert store.remove("app/a", "", 1, purge=False) == [1]


def test_a_text_of_another_type_is_named(shop: Workshop) -> None:
    shop.fill(a="1")
    shop.set_cell(shop.rows()[0][0], "body", 7)
    with shop.unlocked() as store, pytest.raises(InvalidError, match="a cell of another type"):
        store.get("app/a", "")


def test_a_text_larger_than_any_is_refused_without_reading_it(shop: Workshop) -> None:
    shop.fill(a="1")
    with shop.sql() as connection:
        connection.execute("UPDATE version SET body=zeroblob(64*1024*1024)")
    with shop.unlocked() as store, pytest.raises(InvalidError, match="larger than any"):
        store.get("app/a", "")


# the file


def test_a_file_that_is_no_store_is_named(shop: Workshop) -> None:
    shop.fill(a="1")
    shop.path.write_bytes(b"hello, world\n" * 1000)
    with pytest.raises(InvalidError, match="it is no SQLite file"):
        shop.unlock()


def test_another_program_s_database_is_named(shop: Workshop) -> None:
    shop.fill(a="1")
    with shop.sql() as connection:
        connection.execute("PRAGMA application_id=7")
    refused(shop, "is not a store of secret-agent")


def test_an_empty_file_is_named(shop: Workshop) -> None:
    shop.fill(a="1")
    shop.path.write_bytes(b"")
    with pytest.raises(InvalidError, match="is not a store of secret-agent"):
        shop.unlock()


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER t AFTER INSERT ON version BEGIN SELECT 1; END",
        "CREATE VIEW v AS SELECT 1",
        "CREATE INDEX i ON version (mark)",
        "CREATE TABLE more (x)",
        "ALTER TABLE version ADD COLUMN x",
        "DROP TABLE version",
    ],
)
def test_a_schema_that_is_not_ours_is_named(shop: Workshop, statement: str) -> None:
    shop.fill(a="1")
    with shop.sql() as connection:
        connection.execute(statement)
    refused(shop, "was altered: its schema is not ours")


@pytest.mark.slow
def test_a_file_cut_anywhere_is_refused_or_complete(shop: Workshop) -> None:
    shop.fill(a="1", b="2")
    whole = shop.path.read_bytes()
    for size in range(1, len(whole), 512):
        shop.path.write_bytes(whole[:size])
        with pytest.raises((InvalidError, UnavailableError)):
            shop.unlock()
    shop.path.write_bytes(whole)
    with shop.unlocked() as store:
        assert store.count() == 2


@pytest.mark.slow
def test_no_flipped_bit_anywhere_goes_unnoticed_in_what_is_served(shop: Workshop) -> None:
    """A flip ends in a named error, or hit bytes that mean nothing and all is served as it was."""
    shop.fill(a="1", b="2")
    whole = shop.path.read_bytes()
    outcomes = {"refused": 0, "item refused": 0, "served": 0}
    for at in range(0, len(whole), 37):
        shop.path.write_bytes(flip(whole, at))
        shop.path.with_name("store.db-wal").unlink(missing_ok=True)
        try:
            with shop.unlocked() as store:
                try:
                    assert [value_of(store, name) for name in ("app/a", "app/b")] == [b"1", b"2"]
                    assert {info.name for info in store.list()} == {"app/a", "app/b"}
                    outcomes["served"] += 1
                except InvalidError:
                    outcomes["item refused"] += 1
        except (InvalidError, DeniedError, UnavailableError):
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 0


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_nothing_is_left_open_after_a_refusal(shop: Workshop) -> None:
    shop.fill(a="1")
    before = open_files()
    for _ in range(5):
        with pytest.raises(DeniedError):
            shop.unlock(b"wrong")
    with shop.sql() as connection:
        connection.execute("DELETE FROM version")
    for _ in range(5):
        with pytest.raises(InvalidError):
            shop.unlock()
    assert open_files() == before


def test_errors_never_hold_a_value(shop: Workshop) -> None:
    shop.fill(a="s3cr3t-canary")
    key, _, _, body = shop.rows()[0]
    shop.set_cell(key, "body", flip(body))
    with shop.unlocked() as store:
        with pytest.raises(InvalidError) as caught:
            store.get("app/a", "")
        assert "s3cr3t" not in repr(caught.value) + str(caught.value.__context__)
    assert not isinstance(caught.value.__cause__, sqlite3.Error)
