"""What the store keeps: versions, fields, metadata, deletion and its undoing, batches, limits."""

import pytest

from secret_agent.store import SecretInfo, Store, VersionInfo
from secret_agent_client.errors import InvalidError, NotFoundError
from secret_agent_client.value import SecretValue
from unit.store.workshop import NOW, Workshop, put, value_of


def versions_of(store: Store, name: str, stage: str = "") -> list[int]:
    return [info.version for info in store.history(name, stage)]


# writing and reading


def test_what_was_put_is_there_with_all_its_metadata_after_reopening(shop: Workshop) -> None:
    with shop.created() as store:
        info = store.put(
            "payments/db", "prod", {"username": b"app", "password": b"\0\xff"},
            type="login", by="uid 1000 bash", note="né", expires_at=NOW + 5, rotate_due=NOW + 9,
        )  # fmt: skip
    assert info == VersionInfo(1, NOW, "uid 1000 bash", "né", False, ("username", "password"))
    with shop.unlocked() as store:
        record = store.get("payments/db", "prod")
        assert store.history("payments/db", "prod") == [info]
        assert store.describe("payments/db", "prod") == SecretInfo(
            name="payments/db", stage="prod", type="login", version=1, versions=1,
            created_at=NOW, updated_at=NOW, field_names=("username", "password"),
            note="né", expires_at=NOW + 5, rotate_due=NOW + 9,
        )  # fmt: skip
    assert list(record.fields) == ["username", "password"]
    assert record.fields["password"] == SecretValue(b"\0\xff")
    assert (record.version, record.type) == (1, "login")
    assert (record.by, record.note) == ("uid 1000 bash", "né")
    assert (record.created_at, record.expires_at, record.rotate_due) == (NOW, NOW + 5, NOW + 9)


def test_each_put_is_a_version_and_the_newest_is_read(shop: Workshop) -> None:
    with shop.created() as store:
        for number in (1, 2, 3):
            shop.now = NOW + number
            assert put(store, "a", b"%d" % number) == number
        assert value_of(store, "a") == b"3"
        assert [value_of(store, "a", version=each) for each in (1, 2)] == [b"1", b"2"]
        assert versions_of(store, "a") == [3, 2, 1]
        info = store.describe("a", "")
        assert (info.version, info.versions) == (3, 3)
        assert (info.created_at, info.updated_at) == (NOW + 1, NOW + 3)


def test_stages_are_secrets_of_their_own(shop: Workshop) -> None:
    with shop.created() as store:
        put(store, "a", b"none")
        put(store, "a", b"prod", stage="prod")
        put(store, "b", b"dev", stage="dev")
        assert value_of(store, "a") == b"none"
        assert value_of(store, "a", "prod") == b"prod"
        assert [info.stage for info in store.stages("a")] == ["", "prod"]
        assert store.stages("c") == []
        assert store.count() == 3
        assert [(i.name, i.stage) for i in store.list()] == [("a", ""), ("a", "prod"), ("b", "dev")]
        with pytest.raises(NotFoundError, match="there is no secret a in stage dev"):
            store.get("a", "dev")


@pytest.mark.parametrize("size", [0, 1, 4096, 512 * 1024])
def test_values_of_any_bytes_up_to_the_limit_come_back(shop: Workshop, size: int) -> None:
    value = (bytes(range(256)) * (size // 256 + 1))[:size]
    with shop.created() as store:
        put(store, "big", value)
    with shop.unlocked() as store:
        assert value_of(store, "big") == value


def test_merge_puts_the_given_fields_over_those_that_are_there(shop: Workshop) -> None:
    with shop.created() as store:
        store.put("a", "", {"user": b"u", "password": b"1"}, type="t", by="me", note="kept")
        store.put("a", "", {"password": b"2", "url": b"w"}, type="t", by="you", merge=True)
        record = store.get("a", "")
        found = {name: value.reveal() for name, value in record.fields.items()}
        assert found == {"user": b"u", "password": b"2", "url": b"w"}
        assert (record.note, record.by) == ("kept", "you")
        store.put("a", "", {}, type="t", by="me", note="", merge=True)
        assert store.get("a", "").note == ""
        store.put("a", "", {"only": b"x"}, type="t", by="me")
        assert list(store.get("a", "").fields) == ["only"]
        assert store.get("a", "").note is None


def test_merge_never_brings_back_what_was_deleted(shop: Workshop) -> None:
    with shop.created() as store:
        store.put("a", "", {"old": b"o"}, type="t", by="me", note="old")
        store.remove("a", "", purge=False)
        store.put("a", "", {"new": b"n"}, type="t", by="me", merge=True)
        assert list(store.get("a", "").fields) == ["new"]
        assert store.get("a", "").note is None


def test_create_only_refuses_what_is_there_and_not_what_was_deleted(shop: Workshop) -> None:
    with shop.created() as store:
        put(store, "a", create_only=True)
        with pytest.raises(InvalidError, match="a is there already"):
            put(store, "a", create_only=True)
        store.remove("a", "", purge=False)
        assert put(store, "a", create_only=True) == 2


# deleting


def test_a_deleted_secret_is_gone_until_it_is_restored(shop: Workshop) -> None:
    with shop.created() as store:
        put(store, "a", b"1", note="n", expires_at=7)
        put(store, "a", b"2")
        assert store.remove("a", "", purge=False) == [1, 2]
        assert (store.count(), store.list()) == (0, [])
        for reading in (lambda: store.get("a", ""), lambda: store.describe("a", "")):
            with pytest.raises(NotFoundError, match="there is no secret a"):
                reading()
        with pytest.raises(NotFoundError) as caught:
            store.get("a", "", 1)
        assert caught.value.message == "version 1 of a was deleted"
        assert caught.value.remedy == "secret-agent restore a --version 1"
        assert [info.deleted for info in store.history("a", "")] == [True, True]
        info = store.restore("a", "", 1)
        assert (info.version, info.by, info.note) == (3, "me", "n")
        assert value_of(store, "a") == b"1"
        assert store.get("a", "").expires_at == 7
        assert [info.deleted for info in store.history("a", "")] == [False, True, True]
        assert store.count() == 1


def test_restore_names_who_restored_where_it_is_told(shop: Workshop) -> None:
    with shop.created() as store:
        put(store, "a")
        assert store.restore("a", "", 1, by="you").by == "you"


def test_deleting_one_version_leaves_the_others(shop: Workshop) -> None:
    with shop.created() as store:
        for value in (b"1", b"2", b"3"):
            put(store, "a", value)
        assert store.remove("a", "", 3, purge=False) == [3]
        assert value_of(store, "a") == b"2"
        assert store.describe("a", "").versions == 2
        assert store.count() == 1
        assert put(store, "a", b"4") == 4
        with pytest.raises(NotFoundError, match="a has no version 3"):
            store.remove("a", "", 3, purge=False)


def test_purging_removes_what_was_deleted_too(shop: Workshop) -> None:
    with shop.created() as store:
        put(store, "a", b"1")
        put(store, "b", b"2")
        store.remove("a", "", purge=False)
        assert store.remove("a", "", purge=True) == [1]
        with pytest.raises(NotFoundError):
            store.history("a", "")
        with pytest.raises(NotFoundError, match="a has no version 1"):
            store.restore("a", "", 1)
        assert store.count() == 1
    assert len(shop.rows()) == 1


def test_the_number_of_a_purged_version_is_not_given_again(shop: Workshop) -> None:
    with shop.created() as store:
        for value in (b"1", b"2", b"3"):
            put(store, "a", value)
        store.remove("a", "", 3, purge=True)
        store.remove("a", "", 2, purge=True)
        assert value_of(store, "a") == b"1"
        assert put(store, "a", b"4") == 4
        store.remove("a", "", purge=True)
        assert put(store, "a") == 1  # of the whole secret nothing is left, not even its numbers


def test_purging_the_only_version_that_is_not_deleted_loses_the_secret(shop: Workshop) -> None:
    with shop.created() as store:
        put(store, "a", b"1")
        put(store, "a", b"2")
        store.remove("a", "", 1, purge=False)
        store.remove("a", "", 2, purge=True)
        assert (store.count(), store.list()) == (0, [])
        assert put(store, "a", b"3") == 3
        assert store.count() == 1


@pytest.mark.parametrize("purge", [True, False])
def test_deleting_what_is_not_there_is_an_error_and_changes_nothing(
    shop: Workshop,
    purge: bool,  # noqa: FBT001  # a parameter of the test
) -> None:
    with shop.created() as store:
        before = store.generation
        with pytest.raises(NotFoundError, match="there is no secret a"):
            store.remove("a", "", purge=purge)
        put(store, "a")
        with pytest.raises(NotFoundError, match="a has no version 2"):
            store.remove("a", "", 2, purge=purge)
        assert store.generation == before + 1


def test_a_not_found_error_says_what_to_type(shop: Workshop) -> None:
    with shop.created() as store:
        with pytest.raises(NotFoundError) as caught:
            store.get("a", "")
        assert caught.value.remedy == "secret-agent ls"
        put(store, "a")
        with pytest.raises(NotFoundError) as caught:
            store.get("a", "", 9)
        assert caught.value.remedy == "secret-agent history a"
