"""The store's files are private, no symlinks, made whole or not at all, and have one user."""

import os
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from secret_agent.store import Store, files
from secret_agent_client.errors import InvalidError, NotFoundError, UnavailableError
from unit.store.workshop import PASSPHRASE, Workshop, put


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def everything(shop: Workshop) -> list[Path]:
    return sorted(
        path for folder in (shop.path.parent, shop.witness.parent) for path in folder.iterdir()
    )


def test_every_file_is_0600_and_every_folder_0700_whatever_the_umask(shop: Workshop) -> None:
    before = os.umask(0)
    try:
        with shop.created() as store:
            put(store, "a")
            found = {path.name: mode_of(path) for path in everything(shop)}
    finally:
        os.umask(before)
    assert set(found) == {"store.db", "store.db-wal", "store.db.lock", "store.witness"}
    assert set(found.values()) == {0o600}
    assert mode_of(shop.path.parent) == mode_of(shop.witness.parent) == 0o700


def test_a_closed_store_is_one_file_beside_its_lock(shop: Workshop) -> None:
    shop.fill(a="1")
    assert [path.name for path in everything(shop)] == [
        "store.db",
        "store.db.lock",
        "store.witness",
    ]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o610])
def test_a_store_open_to_others_is_refused_with_the_command_that_mends_it(
    shop: Workshop, mode: int
) -> None:
    shop.fill(a="1")
    shop.path.chmod(mode)
    with pytest.raises(InvalidError, match=f"is open to others \\(mode {mode:04o}\\)") as caught:
        shop.unlock()
    assert caught.value.remedy == f"chmod 600 {shop.path}"
    subprocess.run(["sh", "-c", str(caught.value.remedy)], check=True)
    shop.unlock().close()


def test_a_store_behind_a_symlink_is_refused(shop: Workshop) -> None:
    shop.fill(a="1")
    shop.path.rename(shop.path.with_name("real.db"))
    shop.path.symlink_to("real.db")
    with pytest.raises(InvalidError, match="is a symlink"):
        shop.unlock()
    with pytest.raises(InvalidError, match="is a symlink"):
        Store.slots(shop.path)


def test_a_store_that_is_no_file_is_refused(shop: Workshop) -> None:
    shop.path.mkdir(parents=True, mode=0o700)
    shop.path.parent.chmod(0o700)
    with pytest.raises(InvalidError, match="is no regular file"):
        shop.unlock()


def test_a_lock_file_that_is_a_symlink_is_refused(shop: Workshop) -> None:
    shop.fill(a="1")
    lock = shop.path.with_name("store.db.lock")
    lock.unlink()
    lock.symlink_to("elsewhere")
    with pytest.raises(UnavailableError, match=r"store\.db\.lock cannot be used"):
        shop.unlock()
    assert not shop.path.with_name("elsewhere").exists()


def test_a_lock_file_open_to_others_is_refused(shop: Workshop) -> None:
    shop.fill(a="1")
    lock = shop.path.with_name("store.db.lock")
    lock.chmod(0o666)
    with pytest.raises(InvalidError, match="is open to others") as caught:
        shop.unlock()
    assert caught.value.remedy == f"chmod 600 {lock}"


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o722])
def test_a_folder_that_others_can_write_is_refused(shop: Workshop, mode: int) -> None:
    shop.fill(a="1")
    shop.path.parent.chmod(mode)
    with pytest.raises(InvalidError, match="can be written by others") as caught:
        shop.unlock()
    assert caught.value.remedy == f"chmod 700 {shop.path.parent}"


@pytest.mark.root
def test_a_store_of_another_user_is_refused(shop: Workshop) -> None:
    shop.fill(a="1")
    os.chown(shop.path, 12345, -1)
    with pytest.raises(InvalidError, match="belongs to uid 12345, not to 0") as caught:
        shop.unlock()
    assert caught.value.remedy == f"sudo chown 0 {shop.path}"
    os.chown(shop.path, 0, -1)
    os.chown(shop.path.parent, 12345, -1)
    with pytest.raises(InvalidError, match="belongs to uid 12345"):
        shop.unlock()


def test_a_remedy_quotes_a_path_with_spaces(tmp_path: Path) -> None:
    shop = Workshop(tmp_path / "with spaces; and more")
    shop.fill(a="1")
    shop.path.chmod(0o644)
    with pytest.raises(InvalidError) as caught:
        shop.unlock()
    subprocess.run(["sh", "-c", str(caught.value.remedy)], check=True)
    assert mode_of(shop.path) == 0o600


def test_a_path_with_characters_of_a_uri_is_taken_as_it_is(tmp_path: Path) -> None:
    shop = Workshop(tmp_path / "a?mode=memory&b#c%20d")
    shop.fill(a="1")
    assert shop.path.exists()
    with shop.unlocked() as store:
        assert store.count() == 1


def test_a_missing_store_is_named(shop: Workshop) -> None:
    assert not Store.exists(shop.path)
    with pytest.raises(NotFoundError) as caught:
        shop.unlock()
    assert caught.value.message == f"there is no store at {shop.path}"
    assert caught.value.remedy == "secret-agent unlock"
    with pytest.raises(NotFoundError):
        Store.slots(shop.path)


def test_what_stands_in_the_place_of_a_store_is_never_overwritten(shop: Workshop) -> None:
    shop.path.parent.mkdir(mode=0o700)
    shop.path.symlink_to("nowhere")
    assert Store.exists(shop.path)
    with pytest.raises(InvalidError, match=r"there is a store at .* already"):
        shop.create()
    shop.path.unlink()
    shop.path.write_bytes(b"mine")
    with pytest.raises(InvalidError, match=r"there is a store at .* already"):
        shop.create()
    assert shop.path.read_bytes() == b"mine"


def test_a_draft_of_an_agent_that_died_is_cleared_away(shop: Workshop) -> None:
    shop.path.parent.mkdir(mode=0o700)
    for suffix in ("", "-wal", "-journal", "-shm"):
        shop.path.with_name("store.db.new" + suffix).write_bytes(b"half")
    shop.create().close()
    assert [path.name for path in everything(shop)] == [
        "store.db",
        "store.db.lock",
        "store.witness",
    ]


def test_a_second_name_of_a_store_is_cleared_away_when_it_is_opened(shop: Workshop) -> None:
    """An agent that died between putting a new store into its place and removing the draft."""
    shop.create().close()
    shop.path.with_name("store.db.new").hardlink_to(shop.path)
    shop.unlock().close()
    assert shop.path.stat().st_nlink == 1


def test_a_store_whose_making_fails_leaves_nothing(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.link", full)
    with pytest.raises(UnavailableError, match="cannot be made: no space left on device"):
        shop.create()
    assert [path.name for path in everything_in(shop.path.parent)] == ["store.db.lock"]
    monkeypatch.undo()
    shop.create().close()


def everything_in(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    with pytest.raises(UnavailableError, match="cannot be used: file exists"):
        Workshop(tmp_path).create()
    with pytest.raises(NotFoundError):
        Workshop(tmp_path).unlock()


def test_a_folder_that_vanishes_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="cannot be used: no such file"):
        files.check_folder(tmp_path / "gone")


def test_a_name_that_is_too_long_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="cannot be used: file name too long"):
        files.check_private(tmp_path / ("x" * 300))
    with pytest.raises(UnavailableError, match="cannot be used: file name too long"):
        files.make_private(tmp_path / ("x" * 300))


# one agent at a time


def test_a_second_agent_on_the_same_file_is_told_so(shop: Workshop) -> None:
    with shop.created() as store:
        for second in (shop.unlock, shop.create, lambda: Store.slots(shop.path)):
            with pytest.raises(UnavailableError) as caught:
                second()
            assert caught.value.message == "the store is in use by another agent"
            assert caught.value.remedy == "secret-agent status"
        put(store, "a")
    shop.unlock().close()


def test_a_second_process_on_the_same_file_is_told_so(shop: Workshop) -> None:
    other = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from secret_agent.store import Store
        from secret_agent_client.errors import UnavailableError
        try:
            Store.unlock(Path(sys.argv[1]), sys.argv[2].encode(), clock_wall=lambda: 0)
        except UnavailableError as error:
            print(error.message)
        """
    )
    with shop.created():
        found = subprocess.run(
            [sys.executable, "-c", other, shop.path, PASSPHRASE],
            env={"PYTHONPATH": os.pathsep.join(sys.path)},
            check=True,
            capture_output=True,
            text=True,
        )
    assert found.stdout == "the store is in use by another agent\n"


def test_a_disk_that_cannot_lock_files_is_named(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(37, "No locks available")

    shop.fill(a="1")
    monkeypatch.setattr("fcntl.flock", no_locks)
    with pytest.raises(UnavailableError, match="disk cannot lock files: no locks available"):
        shop.unlock()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read what permissions forbid")
def test_a_witness_that_cannot_be_read_is_named(shop: Workshop) -> None:
    shop.fill(a="1")
    shop.witness.chmod(0)
    with pytest.raises(UnavailableError, match="cannot be used: permission denied"):
        shop.unlock()


def test_a_program_that_reads_the_file_without_our_lock_is_kept_out(shop: Workshop) -> None:
    with shop.created() as store:
        put(store, "a")
        with shop.sql() as connection, pytest.raises(Exception, match="database is locked"):
            connection.execute("PRAGMA busy_timeout=0").connection.execute("SELECT * FROM version")


def test_a_program_that_holds_the_file_is_named(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secret_agent.store.sqlite.BUSY_S", 0.01)
    shop.fill(a="1")
    with shop.sql() as connection:
        connection.execute("BEGIN EXCLUSIVE")
        with pytest.raises(UnavailableError, match="another program has it open"):
            shop.unlock()
    shop.unlock().close()
