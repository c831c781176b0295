"""Files with values are written whole, 0600, and never through what somebody put in the way."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from secret_agent_client.errors import InvalidError, UnavailableError
from secret_agent_client.private_file import quoted, read_regular, replacing, write_private


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", [0, 0o022, 0o777])
def test_a_new_file_has_exactly_the_mode_asked_for_whatever_the_umask(
    tmp_path: Path, umask: int
) -> None:
    before = os.umask(umask)
    try:
        write_private(str(tmp_path / "a"), b"canary")
        write_private(str(tmp_path / "b"), b"canary", mode=0o640)
    finally:
        os.umask(before)
    assert (_mode(tmp_path / "a"), _mode(tmp_path / "b")) == (0o600, 0o640)
    assert (tmp_path / "a").read_bytes() == b"canary"


def test_a_file_of_ours_is_replaced_by_a_new_inode(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_private(str(path), b"old")
    with path.open("rb") as reader:
        write_private(str(path), b"new")
        assert reader.read() == b"old"  # who had it open still sees all of the old content
    assert path.read_bytes() == b"new"


def _symlink(path: Path) -> None:
    (path.parent / "elsewhere").write_bytes(b"kept")
    path.symlink_to(path.parent / "elsewhere")


def _dangling(path: Path) -> None:
    path.symlink_to(path.parent / "nowhere")


def _hard_link(path: Path) -> None:
    (path.parent / "elsewhere").write_bytes(b"kept")
    (path.parent / "elsewhere").chmod(0o600)
    path.hardlink_to(path.parent / "elsewhere")


def _wide(path: Path) -> None:
    path.write_bytes(b"kept")
    path.chmod(0o644)


def _setuid(path: Path) -> None:
    path.write_bytes(b"kept")
    path.chmod(0o4600)


def _fifo(path: Path) -> None:
    os.mkfifo(path, 0o600)


def _folder(path: Path) -> None:
    path.mkdir(0o700)


@pytest.mark.parametrize(
    ("obstacle", "message"),
    [
        (_symlink, "is a symbolic link"),
        (_dangling, "is a symbolic link"),
        (_hard_link, "has other names"),
        (_wide, "is open wider than 0600"),
        (_setuid, "is open wider than 0600"),
        (_fifo, "is not a regular file"),
        (_folder, "is not a regular file"),
    ],
)
def test_what_stands_in_the_way_is_refused_and_left_as_it_was(
    tmp_path: Path, obstacle: Callable[[Path], None], message: str
) -> None:
    path = tmp_path / "out"
    obstacle(path)
    before = sorted(p.name for p in tmp_path.iterdir())
    with pytest.raises(InvalidError, match=message):
        write_private(str(path), b"canary")
    assert sorted(p.name for p in tmp_path.iterdir()) == before
    if (tmp_path / "elsewhere").exists():
        assert (tmp_path / "elsewhere").read_bytes() == b"kept"


def test_a_wider_file_is_replaced_where_that_width_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "out"
    _wide(path)
    write_private(str(path), b"new", mode=0o644)
    assert path.read_bytes() == b"new"


def test_a_directory_that_everybody_writes_is_refused_with_the_mend(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    with pytest.raises(InvalidError) as caught:
        write_private(str(shared / "out"), b"canary")
    assert caught.value.remedy == f"chmod o-w {shared}"
    shared.chmod(0o1777)  # sticky: others can make files there, not exchange ours
    write_private(str(shared / "out"), b"canary")


@pytest.mark.parametrize("path", ["/proc/self/environ", "/proc/self/out", "nowhere/out"])
def test_a_place_where_nothing_can_be_made_is_a_clear_error(path: str) -> None:
    with pytest.raises((InvalidError, UnavailableError), match="the file to be written"):
        write_private(path, b"canary")


@pytest.mark.parametrize("path", ["", ".", "/", "a/", "a/.."])
def test_a_path_without_a_name_is_refused(path: str) -> None:
    with pytest.raises(InvalidError, match="no name of its own"):
        write_private(path, b"canary")


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "out"
    write_private(str(path), b"old")
    with pytest.raises(ZeroDivisionError), replacing(str(path)) as descriptor:
        os.write(descriptor, bytes(1 // 0))
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_full_disk_is_unavailable_and_leaves_nothing(tmp_path: Path) -> None:
    with (
        pytest.raises(UnavailableError, match="no space left on device"),
        replacing(str(tmp_path / "out")),
    ):
        raise OSError(28, "ignored: it could hold anything")
    assert list(tmp_path.iterdir()) == []


def test_only_regular_files_of_a_bounded_size_are_read(tmp_path: Path) -> None:
    path = tmp_path / "in"
    path.write_bytes(b"12345")
    data, known = read_regular(str(path), most=5)
    assert (data, known.st_size) == (b"12345", 5)
    with pytest.raises(InvalidError, match="more than 4 bytes"):
        read_regular(str(path), most=4)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(InvalidError, match="not a regular file"):
        read_regular(str(tmp_path / "fifo"), most=5)
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(OSError, match="symbolic"):
        read_regular(str(tmp_path / "link"), most=5)


def test_a_path_in_a_remedy_can_be_pasted() -> None:
    assert [quoted(p) for p in ("/a/b-c.d", "", "a b", "it's")] == [
        "/a/b-c.d",
        "''",
        "'a b'",
        "'it'\\''s'",
    ]
