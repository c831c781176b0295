"""What cannot be written fails, and nothing of it stays; the log recovers by itself, without a gap.

Abuse case 57.
"""

import errno
import os
import resource
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from secret_agent.audit.files import files_of
from secret_agent.audit.log import AuditLog
from secret_agent.audit.logfile import LogFile
from secret_agent.audit.verify import verify
from secret_agent.clock import Clock
from secret_agent_client.errors import UnavailableError
from support.audit import failing, fields, running, write


class HandClock(Clock):
    """A clock that is moved by hand."""

    now = 100.0

    def boot(self) -> float:
        return self.now


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """A disk that is full at a size: RLIMIT_FSIZE makes write(2) fail with EFBIG."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


async def test_a_full_disk_fails_every_append_and_leaves_no_half_line(folder: Path) -> None:
    async with running(folder) as log:
        await log.append(fields(1))
        with file_size_limit(log.path.stat().st_size + 10):
            for _ in range(2):
                with pytest.raises(UnavailableError, match="audit log cannot be written"):
                    await log.append(fields(2))
            assert log.trouble
        assert (await log.append(fields(3)))[0] == 2
        assert not log.trouble
    verified = verify(folder)
    assert (verified.ok, verified.records) == (True, 2)


def names(folder: Path, pattern: str) -> list[str]:
    return sorted(path.name for path in folder.glob(pattern))


def replaced_by_nothing(path: Path) -> None:
    path.unlink()


def replaced_by_a_link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("target")


def replaced_by_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def replaced_by_another_file(path: Path) -> None:
    path.unlink()
    path.write_bytes(b"mine now\n")


@pytest.mark.parametrize(
    "harm",
    [replaced_by_nothing, replaced_by_a_link, replaced_by_a_folder, replaced_by_another_file],
)
async def test_a_log_that_was_removed_fails_once_and_recovers_without_a_gap(
    folder: Path, harm: Callable[[Path], None]
) -> None:
    """Abuse case 57: the descriptor still has every record; the name is made to mean them again."""
    async with running(folder) as log:
        await log.append(fields(1))
        harm(log.path)
        with pytest.raises(UnavailableError, match="removed or replaced"):
            await log.append(fields(2))
        assert (await log.append(fields(3)))[0] == 2
        assert not log.path.is_symlink()
    verified = verify(folder)
    assert (verified.ok, verified.records) == (True, 3)
    assert not (folder / "target").exists()
    assert names(folder, "audit.foreign-*") == (
        [] if harm is replaced_by_nothing else ["audit.foreign-1"]
    )
    assert "were written anew" in log.path.read_text()


async def test_a_log_that_comes_back_goes_on(folder: Path) -> None:
    async with running(folder) as log:
        await log.append(fields(1))
        log.path.rename(folder / "aside")
        with pytest.raises(UnavailableError):
            await log.append(fields(2))
        (folder / "aside").rename(log.path)
        await log.append(fields(3))
    assert verify(folder).records == 2


async def test_a_log_that_somebody_wrote_to_is_cleared_of_it_and_the_strange_part_kept(
    folder: Path,
) -> None:
    async with running(folder) as log:
        await log.append(fields(1))
        with log.path.open("ab") as file:
            file.write(b"a line of mine\n")
        with pytest.raises(UnavailableError, match="changed by somebody else"):
            await log.append(fields(2))
        await log.append(fields(3))
    verified = verify(folder)
    assert (verified.ok, verified.records) == (True, 3)
    assert b"a line of mine" in (folder / "audit.foreign-1").read_bytes()


async def test_a_log_that_was_cut_under_a_running_agent_shows_the_gap(folder: Path) -> None:
    async with running(folder) as log:
        for number in range(3):
            await log.append(fields(number))
        os.truncate(log.path, log.path.stat().st_size - 20)
        with pytest.raises(UnavailableError):
            await log.append(fields(3))
        assert (await log.append(fields(4)))[0] == 4
    bad = verify(folder).first_bad
    assert bad is not None
    assert bad.what == "removed: records 3 to 3 are missing"


async def test_a_sync_that_fails_is_a_failure_and_nothing_of_it_stays(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a failed sync the kernel calls the lost pages clean: the file is written anew."""
    async with running(folder) as log:
        await log.append(fields(1))
        inode = log.path.stat().st_ino
        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", failing)
            with pytest.raises(UnavailableError, match="Input/output error"):
                await log.append(fields(2))
        await log.append(fields(3))
        assert log.path.stat().st_ino != inode
    verified = verify(folder)
    assert (verified.ok, verified.records) == (True, 3)
    assert '"s2"' not in log.path.read_text()


async def test_half_a_line_that_cannot_be_cut_off_is_not_built_upon(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write

    def half(descriptor: int, data: Any) -> int:
        real(descriptor, bytes(data)[:20])
        raise OSError(errno.ENOSPC, "No space left on device")

    async with running(folder) as log:
        await log.append(fields(1))
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", half)
            patch.setattr(os, "ftruncate", failing)
            with pytest.raises(UnavailableError, match="No space left"):
                await log.append(fields(2))
        await log.append(fields(3))
    verified = verify(folder)
    assert (verified.ok, verified.records) == (True, 3)


async def test_a_rotation_that_fails_is_tried_again_and_closes_nothing_of_others(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A descriptor closed twice would close whatever has its number by then."""
    async with running(folder, max_file=1) as log:
        await log.append(fields(1))
        for broken in ("open", "rename"):
            with monkeypatch.context() as patch:
                patch.setattr(*{"open": (os, "open"), "rename": (Path, "rename")}[broken], failing)
                for _ in range(2):
                    with pytest.raises(UnavailableError):
                        await log.append(fields(3))
        await log.append(fields(4))
    verified = verify(folder)
    assert verified.ok
    assert len(files_of(folder)) == 2


async def test_mending_that_fails_leaves_what_there_is_and_is_tried_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = HandClock()
    async with running(folder, clock=clock) as log:
        await log.append(fields(1))
        log.path.unlink()
        for broken in ("fsync", "pread"):
            with monkeypatch.context() as patch:
                patch.setattr(os, broken, failing if broken == "fsync" else lambda *_: b"")
                for _ in range(2):
                    clock.now += 1
                    with pytest.raises(UnavailableError):
                        await log.append(fields(2))
        clock.now += 1
        await log.append(fields(3))
    verified = verify(folder)
    assert (verified.ok, verified.records) == (True, 3)


async def test_mending_is_not_tried_at_every_request(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each attempt may copy the whole file, on a disk that has trouble already."""
    clock, tried = HandClock(), []

    def counted(_self: LogFile) -> str | None:
        tried.append(clock.now)
        raise OSError(errno.EIO, "Input/output error")

    async with running(folder, clock=clock) as log:
        await log.append(fields(1))
        log.path.unlink()
        with monkeypatch.context() as patch:
            patch.setattr(LogFile, "mend", counted)
            for step in (0.0, 0.0, 0.1, 0.1, 0.1):
                clock.now += step
                with pytest.raises(UnavailableError):
                    await log.append(fields(2))
        assert len(tried) == 2
        clock.now += 1
        await log.append(fields(3))
    assert verify(folder).ok


async def test_a_bug_in_the_writing_thread_fails_the_request_and_not_the_log(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_self: LogFile, _data: bytes, *, sync: bool) -> None:
        raise ZeroDivisionError

    async with running(folder) as log:
        with monkeypatch.context() as patch:
            patch.setattr(LogFile, "append", broken)
            with pytest.raises(UnavailableError, match="a bug, ZeroDivisionError"):
                await log.append(fields(1))
        await log.append(fields(2))
    assert verify(folder).records == 1


@pytest.mark.parametrize("loop_is_over", [False, True])
def test_a_disk_that_hangs_does_not_hang_the_end(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, loop_is_over: bool
) -> None:
    monkeypatch.setattr("secret_agent.audit.log.END_S", 0.05)
    hangs, begun = threading.Event(), threading.Event()
    failures = []

    def hang(_fd: int) -> None:
        begun.set()
        hangs.wait(30)

    monkeypatch.setattr(os, "fdatasync", hang)
    log = AuditLog.open(folder, clock=Clock())

    async def one(number: int) -> None:
        with pytest.raises(UnavailableError, match="it ended before") as caught:
            await log.append(fields(number))
        failures.append(caught.value)

    async def main() -> None:
        async with trio.open_nursery() as outer, trio.open_nursery() as nursery:
            await nursery.start(log.run)
            outer.start_soon(one, 1)
            await trio.to_thread.run_sync(begun.wait)
            outer.start_soon(one, 2)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        if not loop_is_over:
            hangs.set()
            await trio.to_thread.run_sync(join)

    trio.run(main)
    assert len(failures) == 2
    hangs.set()
    join()
    log.close()


def join() -> None:
    for thread in threading.enumerate():
        if thread.name == "audit":
            thread.join(30)


async def test_a_log_that_cannot_be_read_is_unavailable(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await write(folder, 1)
    log = AuditLog.open(folder, clock=Clock())
    monkeypatch.setattr("secret_agent.audit.reading.open_all", failing)
    monkeypatch.setattr("secret_agent.audit.verify.open_all", failing)
    for use in (log.read, log.verify):
        with pytest.raises(UnavailableError, match="audit log cannot be read: Input/output"):
            use()
    log.close()
