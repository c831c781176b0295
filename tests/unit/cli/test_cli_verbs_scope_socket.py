"""A scope's socket is 0600 from its first moment, in a place that is ours, and replaces nothing."""

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from secret_agent_client.errors import DeniedError, InvalidError, UnavailableError
from secret_agent_client.scope_socket import MAX_PATH, bind_scope, remove_socket


@contextmanager
def _umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.mark.parametrize("umask", [0, 0o022, 0o777])
@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
def test_the_mode_is_what_was_asked_for_whatever_the_umask(
    tmp_path: Path, umask: int, mode: int
) -> None:
    path = tmp_path / "s"
    with _umask(umask), bind_scope(str(path), mode=mode):
        pass
    wanted = mode if mode != 0o600 else mode & ~umask  # narrower than asked is what umask is for
    assert _mode(path) == wanted


def test_bind_itself_never_makes_it_wider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    bind = socket.socket.bind

    def looking(self: socket.socket, path: str) -> None:
        bind(self, path)
        seen.append(_mode(Path(path)))

    monkeypatch.setattr(socket.socket, "bind", looking)
    with _umask(0), bind_scope(str(tmp_path / "s"), mode=0o666):
        assert seen == [0o600]


def test_it_listens_and_does_not_reach_children(tmp_path: Path) -> None:
    with bind_scope(str(tmp_path / "s")) as listener:
        assert not os.get_inheritable(listener.fileno())
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(str(tmp_path / "s"))


def test_a_dead_socket_of_ours_is_replaced_and_a_living_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "s"
    bind_scope(str(path)).close()
    with bind_scope(str(path)), pytest.raises(UnavailableError, match="served at that socket"):
        bind_scope(str(path))
    assert path.is_socket()


@pytest.mark.parametrize("what", ["file", "folder", "link", "dangling", "fifo"])
def test_what_is_no_socket_of_ours_stays(tmp_path: Path, what: str) -> None:
    path = tmp_path / "s"
    if what == "file":
        path.write_text("kept")
    elif what == "folder":
        path.mkdir()
    elif what == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to(tmp_path / ("nowhere" if what == "dangling" else "."))
    before = path.lstat()
    with pytest.raises(InvalidError, match="not a socket of yours"):
        bind_scope(str(path))
    remove_socket(str(path))
    assert path.lstat().st_ino == before.st_ino


def test_a_directory_where_others_could_put_things_is_refused_with_the_mend(
    tmp_path: Path,
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o770)
    with pytest.raises(InvalidError) as caught:
        bind_scope(str(shared / "s"))
    assert caught.value.remedy == f"chmod go-w {shared}"
    shared.chmod(0o1777)
    bind_scope(str(shared / "s")).close()
    assert list(tmp_path.iterdir()) == [shared]


@pytest.mark.parametrize("path", ["", "a\0b", "x" * (MAX_PATH + 1)])
def test_a_path_that_cannot_be_a_sockets_is_refused(path: str) -> None:
    with pytest.raises(InvalidError, match="1 to 107 bytes"):
        bind_scope(path)


def test_a_directory_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidError, match="no such file or directory"):
        bind_scope(str(tmp_path / "nowhere" / "s"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may give a socket away")
def test_another_uid_needs_root_or_a_mode_that_lets_it_in(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with pytest.raises(DeniedError, match="only root can give") as caught:
        bind_scope(str(path), uid=os.geteuid() + 1)
    assert "--mode 0666" in str(caught.value.remedy)
    assert not path.exists()
    bind_scope(str(path), uid=os.geteuid() + 1, mode=0o666).close()
    assert _mode(path) == 0o666


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a socket away")
def test_root_gives_the_socket_to_the_uid(tmp_path: Path) -> None:
    with bind_scope(str(tmp_path / "s"), uid=12345):
        known = (tmp_path / "s").lstat()
    assert (known.st_uid, stat.S_IMODE(known.st_mode)) == (12345, 0o600)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    os.chown(other, 12345, -1)
    with pytest.raises(InvalidError, match="belongs to another user"):
        bind_scope(str(other / "s"))
