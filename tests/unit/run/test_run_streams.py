"""What flows: nothing lost or reordered, bounded by its reader, shown in time, never blocking."""

import os
import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from secret_agent_client.masking import LET_GO_S, Masker
from secret_agent_client.run_streams import HIGH_WATER, PIPE_WRITE, Keys, Output

SECRET = b"hunter2-hunter2"


class Pipe:
    """Both ends of a pipe; neither blocks."""

    def __init__(self) -> None:
        self.read_end, self.write_end = os.pipe()
        os.set_blocking(self.read_end, False)
        os.set_blocking(self.write_end, False)
        self._open = {self.read_end, self.write_end}

    def write(self, data: bytes) -> None:
        assert os.write(self.write_end, data) == len(data)

    def read(self) -> bytes:
        try:
            return os.read(self.read_end, 1 << 20)
        except BlockingIOError:
            return b""

    def close(self, end: int) -> None:
        self._open.discard(end)
        os.close(end)

    def close_all(self) -> None:
        for end in list(self._open):
            self.close(end)


@pytest.fixture
def child() -> Iterator[Pipe]:
    """What the child writes to; an Output closes its read end."""
    pipe = Pipe()
    yield pipe
    pipe._open.discard(pipe.read_end)
    pipe.close_all()


@pytest.fixture
def ours() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.close_all()


@pytest.fixture
def output(child: Pipe, ours: Pipe) -> Iterator[Output]:
    made = Output(child.read_end, ours.write_end, Masker([SECRET]))
    yield made
    made.close()


def test_what_is_read_is_masked_and_written(output: Output, child: Pipe, ours: Pipe) -> None:
    child.write(b"<" + SECRET + b">")
    assert output.on_readable(0)
    assert output.wants_write
    output.on_writable()
    assert ours.read() == b"<*****>"
    output.on_writable()
    assert ours.read() == b""


def test_nothing_to_read_is_no_end(output: Output) -> None:
    assert not output.on_readable(0)
    assert output.is_open


def test_the_end_shows_what_was_held(output: Output, child: Pipe, ours: Pipe) -> None:
    child.write(SECRET[:-1])
    output.on_readable(0)
    assert ours.read() == b""
    child.close(child.write_end)
    output.on_readable(1)
    assert output.wants_write
    output.on_writable()
    assert ours.read() == SECRET[:-1]


def test_a_short_beginning_is_shown_after_a_silence(
    output: Output, child: Pipe, ours: Pipe
) -> None:
    child.write(b"hunt")
    output.on_readable(100.0)
    assert output.deadline == 100.0 + LET_GO_S
    output.on_time(100.0 + LET_GO_S / 2)
    assert not output.wants_write
    output.on_time(100.0 + LET_GO_S)
    output.on_writable()
    assert ours.read() == b"hunt"
    assert output.deadline is None


def test_what_comes_meanwhile_begins_the_silence_anew(output: Output, child: Pipe) -> None:
    child.write(b"hu")
    output.on_readable(100.0)
    child.write(b"nt")
    output.on_readable(100.05)
    assert output.deadline == 100.05 + LET_GO_S
    child.write(b"!")
    output.on_readable(100.1)
    assert output.deadline is None


def test_a_slow_reader_stops_the_reading_and_the_clock(output: Output, child: Pipe) -> None:
    while output.wants_read:
        child.write(b"x" * 65000)
        output.on_readable(0)
    output._quiet_since = 0.0
    assert output.deadline is None
    assert len(output._waiting) < HIGH_WATER + 65000
    output.on_writable()
    assert output.wants_write


def test_a_write_is_no_larger_than_what_poll_vouches_for(
    output: Output, child: Pipe, ours: Pipe
) -> None:
    child.write(b"x" * (3 * PIPE_WRITE))
    output.on_readable(0)
    output.on_writable()
    assert len(ours.read()) == PIPE_WRITE


def test_a_pipe_that_is_full_is_waited_for(output: Output, child: Pipe, ours: Pipe) -> None:
    while select.select([], [ours.write_end], [], 0)[1]:
        os.write(ours.write_end, b"y" * 4096)
    child.write(b"more")
    output.on_readable(0)
    output.on_writable()
    assert output.wants_write
    assert output.is_open
    while ours.read():
        pass
    output.on_writable()
    assert ours.read() == b"more"


def test_a_reader_that_is_gone_closes_the_childs_pipe(
    output: Output, child: Pipe, ours: Pipe
) -> None:
    ours.close(ours.read_end)
    child.write(b"data")
    output.on_readable(0)
    output.on_writable()
    assert not output.is_open
    assert not output.wants_write
    output.close()
    with pytest.raises(BrokenPipeError):
        os.write(child.write_end, b"x")


def test_a_pty_is_read_on_though_nobody_reads_us(child: Pipe, ours: Pipe) -> None:
    output = Output(child.read_end, ours.write_end, Masker([SECRET]), drops_unread=True)
    ours.close(ours.read_end)
    child.write(b"data")
    output.on_readable(0)
    output.on_writable()
    assert output.wants_read
    child.write(b"more")
    assert output.on_readable(0)
    assert not output.wants_write
    output.finish()
    assert not output.wants_write
    output.close()
    output.close()


def test_without_a_masker_bytes_pass(child: Pipe, ours: Pipe) -> None:
    output = Output(child.read_end, ours.write_end, None)
    child.write(SECRET)
    output.on_readable(0)
    output.on_time(99)
    output.on_writable()
    assert ours.read() == SECRET
    output.finish()
    output.close()


def test_a_file_takes_everything_at_once(child: Pipe, tmp_path: Path) -> None:
    sink = os.open(tmp_path / "out", os.O_RDWR | os.O_CREAT)
    output = Output(child.read_end, sink, None)
    child.write(b"x" * 60000)
    output.on_readable(0)
    output.on_writable()
    assert os.fstat(sink).st_size == 60000
    output.close()
    os.close(sink)


class TestKeys:
    def test_what_is_typed_goes_on_whole(self, child: Pipe, ours: Pipe) -> None:
        keys = Keys(child.read_end, ours.write_end)
        child.write(b"typed")
        keys.on_readable(0)
        assert keys.wants_write
        keys.on_writable()
        assert ours.read() == b"typed"
        assert keys.wants_read
        os.close(child.read_end)

    def test_a_pty_that_is_full_is_waited_for(self, child: Pipe, ours: Pipe) -> None:
        while select.select([], [ours.write_end], [], 0)[1]:
            os.write(ours.write_end, b"y" * 4096)
        keys = Keys(child.read_end, ours.write_end)
        child.write(b"typed")
        keys.on_readable(0)
        keys.on_writable()
        assert keys.wants_write
        os.close(child.read_end)

    def test_a_terminal_that_is_gone_is_read_no_more(self, child: Pipe, ours: Pipe) -> None:
        keys = Keys(child.read_end, ours.write_end)
        child.close(child.write_end)
        keys.on_readable(0)
        assert not keys.wants_read
        os.close(child.read_end)
        keys = Keys(child.read_end, ours.write_end)
        keys.on_readable(0)
        assert not keys.is_open
