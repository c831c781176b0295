"""A client's descriptor is ours from the first moment, waited for in bounds, and given back."""

import io
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from secret_agent.backup import descriptor as module
from secret_agent.backup.descriptor import PIECE, Descriptor
from secret_agent_client.errors import UnavailableError


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for end in (reader, writer):
        try:
            os.close(end)
        except OSError:
            continue


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STALL_S", 0.02)


def test_it_is_a_copy_that_outlives_the_number_it_was_given(tmp_path: Path) -> None:
    """A thread that is late must not write into what has the number by then."""
    path, other = tmp_path / "out", tmp_path / "other"
    given = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    with Descriptor(given) as out:
        os.close(given)
        taken = os.open(other, os.O_WRONLY | os.O_CREAT, 0o600)
        assert taken == given
        assert out.write(b"x" * (PIECE + 1)) == PIECE + 1
        os.close(taken)
    assert (path.stat().st_size, other.stat().st_size) == (PIECE + 1, 0)


def test_it_is_closed_with_the_block_or_when_nobody_has_it(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    with Descriptor(writer) as out:
        out.write(b"x")
    out.close()
    forgotten = Descriptor(writer)
    os.close(writer)
    del forgotten
    assert os.read(reader, 10) == b"x"
    assert os.read(reader, 10) == b"", "no copy of the writing end is left"


def test_it_is_not_inherited(pipe: tuple[int, int]) -> None:
    with Descriptor(pipe[0]) as source:
        assert not os.get_inheritable(source._fd)


def test_what_is_no_descriptor_is_refused() -> None:
    with pytest.raises(UnavailableError, match="the descriptor cannot be used: Bad file"):
        Descriptor(10**6)


def fill(out: Descriptor) -> int:
    """Write until that fails or takes nothing; how many bytes it took."""
    written = 0
    while taken := out.write(b"x" * 1_000_000):
        written += taken
    return written


def test_a_pipe_that_nobody_reads_is_given_up(pipe: tuple[int, int], impatient: None) -> None:
    reader, writer = pipe
    told = r"nothing is taken at the other end for 0\.02 s"
    with Descriptor(writer) as out, pytest.raises(UnavailableError, match=told):
        fill(out)
    assert len(os.read(reader, PIECE)) == PIECE


def test_a_pipe_into_which_nothing_comes_is_given_up(
    pipe: tuple[int, int], impatient: None
) -> None:
    reader, writer = pipe
    os.write(writer, b"some")
    with Descriptor(reader) as source:
        assert source.read(10) == b"some"
        with pytest.raises(UnavailableError, match="nothing comes at the other end"):
            source.read(10)


def test_what_comes_in_pieces_is_read_as_a_file_is(pipe: tuple[int, int]) -> None:
    reader, writer = pipe

    def feed() -> None:
        for _ in range(50):
            os.write(writer, b"line\n")
        os.close(writer)

    feeding = threading.Thread(target=feed)
    feeding.start()
    with io.BufferedReader(Descriptor(reader)) as source:
        assert source.readline() == b"line\n"
        assert source.read() == b"line\n" * 49
    feeding.join()


@pytest.fixture
def shared() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A descriptor that its client has made non-blocking: the flag is ours as well."""
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        yield near, far


def test_where_another_writer_was_quicker_nothing_is_taken(
    shared: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    near, far = shared
    with Descriptor(near.fileno()) as own:
        with monkeypatch.context() as patch:
            patch.setattr(own, "_await", lambda *_: None)
            fill(own)
            assert own.write(b"x") == 0
        far.recv(1 << 20)
        assert own.write(b"y") == 1


def test_where_another_reader_was_quicker_it_waits_again(
    shared: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    near, far = shared
    waited: list[str] = []

    def wait(_event: int, what: str) -> None:
        if waited:
            far.send(b"x")
        waited.append(what)

    with Descriptor(near.fileno()) as own:
        monkeypatch.setattr(own, "_await", wait)
        assert own.read(10) == b"x"
    assert waited == ["comes", "comes"]


def test_a_full_disk_or_a_folder_is_an_error_of_the_system(tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    with Descriptor(folder) as source, pytest.raises(IsADirectoryError):
        source.read(1)
    os.close(folder)
    full = os.open("/dev/full", os.O_WRONLY)
    with Descriptor(full) as out, pytest.raises(OSError, match="No space"):
        out.write(b"x")
    os.close(full)
