"""A run's folder is private, its agent's alone, and gone with whatever it was made for."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from secret_agent import workdirs
from secret_agent.holder import open_pidfd
from secret_agent.leases.ending import Opener
from secret_agent.model import ProcessKey
from secret_agent.workdirs import Workdirs, is_tmpfs
from secret_agent_client.errors import DeniedError, UnavailableError

ONE, TWO = ProcessKey(100, 7), ProcessKey(200, 7)


class FakeWatcher:
    """Watches nothing; its test tells it who is gone."""

    def __init__(self) -> None:
        self.watched: dict[ProcessKey, Callable[[ProcessKey], None]] = {}
        self.gone: set[ProcessKey] = set()

    def watch(
        self,
        key: ProcessKey,
        callback: Callable[[ProcessKey], None],
        *,
        opener: Opener = open_pidfd,
    ) -> None:
        if key in self.gone:
            raise DeniedError("the process is gone")
        assert key not in self.watched
        self.watched[key] = callback

    def unwatch(self, key: ProcessKey, callback: Callable[[ProcessKey], None]) -> None:
        del self.watched[key]

    def end(self, key: ProcessKey) -> None:
        self.gone.add(key)
        self.watched.pop(key)(key)


@pytest.fixture
def watcher() -> FakeWatcher:
    return FakeWatcher()


@pytest.fixture
def parent(tmp_path: Path) -> Path:
    return tmp_path / "run"


@pytest.fixture
def made(parent: Path, watcher: FakeWatcher) -> Workdirs:
    return Workdirs(parent, watcher)


def test_a_folder_is_private_and_its_name_cannot_be_guessed(made: Workdirs, parent: Path) -> None:
    before = os.umask(0)
    try:
        first, second = made.make(ONE), made.make(ONE)
    finally:
        os.umask(before)
    assert first != second
    for path in (parent, first, second):
        assert stat.S_IMODE(path.lstat().st_mode) == 0o700
    assert len(first.name) == 32


def test_it_goes_with_its_process_and_no_other_s(made: Workdirs, watcher: FakeWatcher) -> None:
    mine, also_mine, other = made.make(ONE), made.make(ONE), made.make(TWO)
    (mine / "secret").write_bytes(b"x")
    (mine / "folder").mkdir()
    watcher.end(ONE)
    assert not mine.exists()
    assert not also_mine.exists()
    assert other.exists()
    assert list(watcher.watched) == [TWO]


def test_all_go_at_once_and_nothing_stays_watched(made: Workdirs, watcher: FakeWatcher) -> None:
    paths = [made.make(ONE), made.make(TWO)]
    made.remove_all()
    made.remove_all()
    assert not any(path.exists() for path in paths)
    assert watcher.watched == {}
    assert made.make(ONE).exists()


def test_removal_follows_no_link(made: Workdirs, watcher: FakeWatcher, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_bytes(b"x")
    path = made.make(ONE)
    (path / "link").symlink_to(outside)
    replaced = made.make(ONE)
    replaced.rmdir()
    replaced.symlink_to(outside)
    watcher.end(ONE)
    assert (outside / "kept").exists()
    assert not path.exists()


def test_a_process_that_is_gone_gets_none(made: Workdirs, watcher: FakeWatcher) -> None:
    watcher.gone.add(ONE)
    with pytest.raises(DeniedError):
        made.make(ONE)
    made.remove_all()


def test_their_number_is_bounded(
    made: Workdirs, watcher: FakeWatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workdirs, "MAX_WORKDIRS", 2)
    made.make(ONE)
    made.make(TWO)
    with pytest.raises(DeniedError, match="there are 2 folders of runs already"):
        made.make(TWO)
    watcher.end(ONE)
    made.make(TWO)


def test_what_could_not_be_made_is_not_counted_nor_watched(
    made: Workdirs, watcher: FakeWatcher, parent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workdirs, "MAX_WORKDIRS", 2)
    parent.write_bytes(b"a file in its place")
    for _ in range(3):
        with pytest.raises(UnavailableError, match="no folder can be made for files"):
            made.make(ONE)
    assert watcher.watched == {}
    parent.unlink()
    kept = made.make(ONE)
    parent.chmod(0o500)
    if os.geteuid() != 0:  # whom no mode keeps out
        with pytest.raises(UnavailableError):
            made.make(ONE)
    parent.chmod(0o700)
    assert kept.exists()
    assert ONE in watcher.watched


@pytest.mark.parametrize("harm", ["link", "open"])
def test_a_folder_above_that_is_not_ours_alone_is_refused(
    made: Workdirs, parent: Path, tmp_path: Path, harm: str
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    if harm == "link":
        parent.symlink_to(elsewhere)
    else:
        parent.mkdir()
        parent.chmod(0o755)
    with pytest.raises(UnavailableError) as caught:
        made.make(ONE)
    assert caught.value.remedy == f"ls -ld {parent}"
    assert list(elsewhere.iterdir()) == []
    made.clean_up()


def test_what_a_dead_agent_left_is_removed(parent: Path, watcher: FakeWatcher) -> None:
    dead = Workdirs(parent, FakeWatcher())
    left = dead.make(ONE)
    (left / "secret").write_bytes(b"x")
    assert dead._lock is not None
    os.close(dead._lock)  # as the kernel does when a process ends
    fresh = Workdirs(parent, watcher)
    fresh.clean_up()
    assert not left.exists()
    assert fresh.make(ONE).exists()


def test_a_living_agent_s_are_left_alone(parent: Path, watcher: FakeWatcher) -> None:
    """Two agents whose sockets lie in one folder share the folder above."""
    living = Workdirs(parent, FakeWatcher())
    kept = living.make(ONE)
    other = Workdirs(parent, watcher)
    other.clean_up()
    assert kept.exists()
    path = other.make(TWO)
    living.clean_up()
    assert path.exists()


def test_where_nothing_was_left_nothing_happens(made: Workdirs, parent: Path) -> None:
    made.clean_up()
    assert not parent.exists()


def test_a_folder_above_that_was_removed_is_made_again(
    made: Workdirs, parent: Path, watcher: FakeWatcher
) -> None:
    made.make(ONE).rmdir()
    parent.rmdir()
    path = made.make(ONE)
    assert path.exists()
    other = Workdirs(parent, watcher)
    other.clean_up()
    assert path.exists(), "the new one is held as the old one was"


@pytest.mark.parametrize(
    ("mounts", "told"),
    [
        ([("/", "ext4"), ("/run", "tmpfs")], True),
        ([("/", "ext4"), ("/run", "tmpfs"), ("/run/user", "ext4")], False),
        ([("/", "ext4"), ("/run/us", "tmpfs")], False),
        ([("/", "tmpfs"), ("/run", "ext4"), ("/run", "ramfs")], True),
        ([("/", "ext4"), ("/run/user/a\\040b\\134c", "tmpfs")], True),
    ],
)
def test_what_lives_in_memory_is_told_by_the_mount_above(
    mounts: list[tuple[str, str]], *, told: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(
        "".join(f"1 2 0:1 / {place} rw shared:1 - {kind} none rw\n" for place, kind in mounts)
    )
    monkeypatch.setattr(workdirs, "MOUNTS", table)
    place = "/run/user/a b\\c/x" if "040" in mounts[-1][0] else "/run/user/1000/x"
    assert is_tmpfs(Path(place)) == told


def test_where_the_mounts_cannot_be_read_nothing_is_promised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workdirs, "MOUNTS", tmp_path / "none")
    assert not is_tmpfs(tmp_path)


def test_this_machine_s_own_mounts_are_read() -> None:
    assert not is_tmpfs(Path("/proc/sys"))
