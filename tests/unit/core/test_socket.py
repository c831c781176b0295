"""The socket is bound by one agent, private from its first moment, and only a dead one is
replaced.
"""

import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from secret_agent.server.socket import (
    AgentRunsError,
    adopt,
    bind,
    check_folder,
    identity_of,
    unlink_socket,
)
from secret_agent_client.errors import InvalidError, UnavailableError


@pytest.fixture
def place(tmp_path: Path) -> Path:
    folder = tmp_path / "r"
    folder.mkdir(mode=0o700)
    return folder / "a.sock"


def test_the_socket_is_private_whatever_the_umask(place: Path) -> None:
    before = os.umask(0)
    try:
        listener, lock = bind(place)
    finally:
        os.umask(before)
    with listener:
        assert stat.S_IMODE(place.lstat().st_mode) == 0o600
    os.close(lock)


def test_a_second_bind_finds_the_first(place: Path) -> None:
    listener, lock = bind(place)
    with listener, pytest.raises(AgentRunsError) as caught:
        bind(place)
    assert caught.value.remedy == "secret-agent status"
    os.close(lock)


def test_a_dead_socket_is_replaced(place: Path) -> None:
    listener, lock = bind(place)
    listener.close()
    os.close(lock)
    assert place.exists()
    listener, lock = bind(place)
    listener.close()
    os.close(lock)


def test_what_answers_without_the_lock_is_left_alone(place: Path) -> None:
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.bind(str(place))
        stranger.listen()
        with pytest.raises(AgentRunsError, match="holds no lock"):
            bind(place)
        assert place.exists()


@pytest.mark.parametrize("kind", ["file", "directory", "fifo", "dangling"])
def test_what_is_no_socket_is_refused_and_kept(place: Path, kind: str) -> None:
    """Abuse case 47: something else stands where the socket belongs."""
    if kind == "file":
        place.write_text("x")
    elif kind == "directory":
        place.mkdir()
    elif kind == "fifo":
        os.mkfifo(place)
    else:
        place.symlink_to(place.parent / "nowhere")
    with pytest.raises(InvalidError, match="not a socket of ours"):
        bind(place)
    assert os.path.lexists(place)


def test_a_lock_file_that_is_a_symlink_is_not_followed(place: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    Path(f"{place}.lock").symlink_to(target)
    with pytest.raises(UnavailableError, match="cannot be opened"):
        bind(place)
    assert not target.exists()


def test_a_path_too_long_for_a_socket_says_so(tmp_path: Path) -> None:
    with pytest.raises(InvalidError, match="more than 107 bytes"):
        bind(tmp_path / ("x" * 120))


def test_a_folder_open_to_others_is_refused_with_the_mend(tmp_path: Path) -> None:
    folder = tmp_path / "wide"
    folder.mkdir()
    folder.chmod(0o755)
    with pytest.raises(InvalidError, match="open to others") as caught:
        check_folder(folder)
    assert caught.value.remedy == f"chmod 700 {folder}"


def test_a_folder_that_is_a_symlink_or_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(InvalidError, match="not a directory"):
        check_folder(tmp_path / "link")
    (tmp_path / "file").write_text("")
    with pytest.raises((InvalidError, UnavailableError)):
        check_folder(tmp_path / "file")


def test_a_missing_folder_is_made_private(tmp_path: Path) -> None:
    check_folder(tmp_path / "one" / "two")
    assert stat.S_IMODE((tmp_path / "one" / "two").stat().st_mode) == 0o700


def test_a_folder_that_cannot_be_made_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UnavailableError):
        check_folder(tmp_path / "file" / "below")


def test_a_listening_socket_is_adopted_with_its_path(place: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(place))
    listener.listen()
    adopted, path = adopt(os.dup(listener.fileno()))
    with listener, adopted:
        assert path == str(place)


def _not_listening(path: Path) -> int:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))
        return os.dup(bound.fileno())


def _abstract(_path: Path) -> int:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(f"\0sa-test-{os.getpid()}")
        bound.listen()
        return os.dup(bound.fileno())


def _internet(_path: Path) -> int:
    with socket.socket(socket.AF_INET) as bound:
        bound.bind(("127.0.0.1", 0))
        bound.listen()
        return os.dup(bound.fileno())


def _file(path: Path) -> int:
    return os.open(path, os.O_CREAT | os.O_RDWR)


@pytest.mark.parametrize("make", [_not_listening, _abstract, _internet, _file])
def test_any_other_descriptor_is_refused_and_closed(
    place: Path, make: Callable[[Path], int]
) -> None:
    descriptor = make(place)
    with pytest.raises(InvalidError):
        adopt(descriptor)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_only_the_very_socket_is_unlinked(place: Path) -> None:
    listener, lock = bind(place)
    identity = identity_of(str(place))
    unlink_socket(str(place), (0, 0))
    assert place.exists()
    unlink_socket(str(place), identity)
    assert not place.exists()
    unlink_socket(str(place), identity)
    assert identity_of(str(place)) is None
    listener.close()
    os.close(lock)
