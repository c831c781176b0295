"""A full, failing or read-only disk is named, loses nothing, and is recovered from."""

import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from secret_agent.store import Store
from secret_agent_client.errors import UnavailableError
from unit.store.workshop import PASSPHRASE, Workshop, put, value_of

BIG = os.urandom(100_000)


@contextmanager
def full(store: Store, *, pages_left: int = 0) -> Iterator[None]:
    """Let the file not grow by more than so many pages."""
    with store._ledger.turn() as opened:
        sqlite = opened.database._sqlite
        (pages,) = sqlite.execute("PRAGMA page_count").fetchone()
        sqlite.execute(f"PRAGMA max_page_count={pages + pages_left}")
        yield
        sqlite.execute("PRAGMA max_page_count=1000000")


def put_several(store: Store) -> None:
    with store.batch():
        put(store, "app/small")
        store.remove("app/b", "", purge=True)
        put(store, "app/a", BIG)


WRITES: dict[str, Callable[[Store], object]] = {
    "put": lambda store: put(store, "app/a", BIG),
    "put new": lambda store: put(store, "app/new", BIG),
    "batch": put_several,
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
@pytest.mark.parametrize("pages_left", [0, 1, 5, 20])
def test_a_write_to_a_full_disk_has_not_happened(
    shop: Workshop, write: Callable[[Store], object], pages_left: int
) -> None:
    shop.fill(a="1", b="2")
    with shop.unlocked() as store:
        before = (store.generation, store.count(), store.list())
        with full(store, pages_left=pages_left):
            for _ in range(3):
                with pytest.raises(UnavailableError) as caught:
                    write(store)
            assert "the disk is full; what was acknowledged is safe" in caught.value.message
            assert (store.generation, store.count(), store.list()) == before
            assert value_of(store, "app/a") == b"1"
        write(store)
        assert value_of(store, "app/a", version=1) == b"1"
    with shop.unlocked() as store:
        assert store.generation == before[0] + 1
        assert store.damage() == ()


@contextmanager
def file_limit(size: int) -> Iterator[None]:
    """Let write(2) fail past a size of any file: EFBIG, because Python ignores SIGXFSZ."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("limit", [0, 100, 4096, 8_000, 30_000, 90_000])
def test_a_write_that_fails_at_any_size_has_not_happened(shop: Workshop, limit: int) -> None:
    shop.fill(a="1", b="2")
    with shop.unlocked() as store:
        before = store.generation
        with file_limit(limit), pytest.raises(UnavailableError) as caught:
            put(store, "app/a", BIG)
        assert "the store" in caught.value.message
        assert store.generation == before
        assert value_of(store, "app/a") == b"1"
        assert put(store, "app/a", BIG) == 2
    with shop.unlocked() as store:
        assert value_of(store, "app/a") == BIG
        assert store.damage() == ()


def test_a_store_that_cannot_be_written_whole_is_not_made(shop: Workshop) -> None:
    with file_limit(6000), pytest.raises(UnavailableError):
        shop.create()
    assert [path.name for path in shop.path.parent.iterdir()] == ["store.db.lock"]
    shop.create().close()


def test_a_change_of_passphrase_on_a_full_disk_keeps_the_old_one(shop: Workshop) -> None:
    shop.fill(a="1")
    with shop.unlocked() as store:
        with file_limit(100), pytest.raises(UnavailableError):
            store.change_passphrase(PASSPHRASE, b"new")
        store.prove_passphrase(PASSPHRASE)
    shop.unlock().close()


def test_a_purge_that_cannot_be_overwritten_yet_says_that_it_is_durable(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.fill(a="1", b="2")
    with shop.unlocked() as store:
        monkeypatch.setattr("secret_agent.store.sqlite.Database.scrub", _refuse)
        with pytest.raises(UnavailableError, match="the change is made and durable, but"):
            store.remove("app/a", "", purge=True)
        assert store.count() == 1
    with shop.unlocked() as store:
        assert store.count() == 1


def _refuse(_: object) -> None:
    raise UnavailableError("the disk refused")


def read_only(shop: Workshop) -> None:
    """What is promised on a disk that can only be read."""
    with shop.unlocked() as store:
        assert value_of(store, "app/a") == b"1"
        assert store.count() == 1
        for write in (
            lambda: put(store, "app/a", b"2"),
            lambda: store.remove("app/a", "", purge=True),
            lambda: store.change_passphrase(PASSPHRASE, b"new"),
            lambda: store.anchor(1, "a"),
        ):
            with pytest.raises(UnavailableError, match="cannot be written: the disk is read-only"):
                write()
        assert value_of(store, "app/a") == b"1"
    assert Store.slots(shop.path) == {"passphrase"}


@pytest.fixture
def forbidden(shop: Workshop) -> Iterator[Workshop]:
    """A store whose files and folder this user may only read."""
    shop.fill(a="1")
    shop.path.chmod(0o400)
    shop.path.parent.chmod(0o500)
    yield shop
    shop.path.parent.chmod(0o700)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write what permissions forbid")
def test_a_store_that_may_only_be_read_is_read(forbidden: Workshop) -> None:
    read_only(forbidden)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write what permissions forbid")
def test_a_store_that_may_only_be_read_needs_no_lock_file(forbidden: Workshop) -> None:
    forbidden.path.parent.chmod(0o700)
    forbidden.path.with_name("store.db.lock").unlink()
    forbidden.path.parent.chmod(0o500)
    read_only(forbidden)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write what permissions forbid")
def test_a_store_is_not_made_where_nothing_may_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UnavailableError, match="cannot be used: permission denied"):
        Workshop(tmp_path).create()
    tmp_path.chmod(0o700)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k,mode=0700", "tmpfs", folder], check=True
    )
    yield folder
    subprocess.run(["umount", folder], check=True)


def fill_up(store: Store) -> int:
    for number in range(1000):
        try:
            put(store, "app/a", os.urandom(5000))
        except UnavailableError as error:
            assert "disk" in error.message  # noqa: PT017  # which of many writes fails is the disk's affair
            return number
    pytest.fail("the disk never filled up")


@pytest.mark.root
def test_a_real_full_disk_loses_nothing(small_disk: Path) -> None:
    shop = Workshop(small_disk)
    with shop.created() as store:
        written = fill_up(store)
        assert written > 3
        assert store.describe("app/a", "").version == written
        assert len(value_of(store, "app/a")) == 5000
    with shop.unlocked() as store:
        assert store.describe("app/a", "").version == written
        assert store.damage() == ()
        store.remove("app/a", "", 1, purge=False)


@pytest.mark.root
def test_a_real_read_only_disk_is_read(small_disk: Path) -> None:
    shop = Workshop(small_disk)
    shop.fill(a="1")
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    read_only(shop)


@pytest.mark.root
def test_a_store_not_closed_in_order_on_a_read_only_disk_is_named(small_disk: Path) -> None:
    shop = Workshop(small_disk)
    with closing(shop.create()) as store:
        put(store, "app/a", b"1")
        saved = {path.name: path.read_bytes() for path in shop.path.parent.iterdir()}
    for name, content in saved.items():
        shop.path.with_name(name).write_bytes(content)
        shop.path.with_name(name).chmod(0o600)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(UnavailableError, match="was not closed in order and its disk is read-only"):
        shop.unlock()
    subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
    with shop.unlocked() as store:
        assert value_of(store, "app/a") == b"1"
