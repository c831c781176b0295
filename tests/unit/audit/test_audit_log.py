"""What is answered is on disk and in the chain; what cannot be written fails, and the log recovers
without a gap.
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
from secret_agent.audit.logfile import TAIL, LogFile
from secret_agent.audit.record import decode
from secret_agent.audit.verify import verify
from secret_agent.clock import Clock
from secret_agent_client.errors import InvalidError, UnavailableError
from support.audit import fields, running, write


async def test_an_answered_record_is_in_the_file(folder: Path) -> None:
    async with running(folder) as log:
        seq, digest = await log.append(fields(1))
        assert (seq, digest) == log.head
        assert log.records == 1
        assert digest in log.path.read_text()
        assert log.path.stat().st_mode & 0o777 == 0o600


async def test_who_listens_hears_each_line_once_it_is_on_disk(folder: Path) -> None:
    heard: list[bytes] = []

    def listen(line: bytes) -> None:
        assert line + b"\n" in (folder / "audit.jsonl").read_bytes()
        heard.append(line)

    async with running(folder) as log:
        log.told = listen
        for number in range(2):
            await log.append(fields(number))
    assert b"\n".join(heard) + b"\n" == (folder / "audit.jsonl").read_bytes()


async def test_records_that_come_together_share_the_chain_and_keep_their_order(
    folder: Path,
) -> None:
    places = []
    async with running(folder) as log:

        async def one(number: int) -> None:
            places.append(await log.append(fields(number)))

        async with trio.open_nursery() as nursery:
            for number in range(200):
                nursery.start_soon(one, number)
    assert sorted(seq for seq, _ in places) == list(range(1, 201))
    verified = verify(folder)
    assert (verified.ok, verified.records) == (True, 200)


async def test_the_chain_goes_on_after_a_restart(folder: Path) -> None:
    await write(folder, 3)
    assert (await write(folder, 2))[-1][0] == 5
    assert verify(folder).records == 5


async def test_what_still_waits_at_the_end_is_written(folder: Path) -> None:
    log = AuditLog.open(folder, clock=Clock())
    async with trio.open_nursery() as nursery:
        await nursery.start(log.run)
        nursery.start_soon(log.append, fields(1))
        nursery.start_soon(log.append, fields(2))
        await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    log.close()
    verified = verify(folder)
    assert (verified.ok, verified.records) == (True, 2)


async def test_full_files_are_closed_and_the_chain_runs_through(folder: Path) -> None:
    places = await write(folder, 40, max_file=2000)
    names = [path.name for path in files_of(folder)]
    assert names[0] == "audit-000001.jsonl"
    assert names[-1] == "audit.jsonl"
    assert len(names) > 3
    verified = verify(folder)
    assert (verified.ok, verified.records, verified.head) == (True, 40, places[-1][1])
    assert (await write(folder, 1, max_file=2000))[0][0] == 41


async def test_the_oldest_files_go_and_the_chain_says_so(folder: Path) -> None:
    async with running(folder, max_file=1500, max_files=2) as log:
        for number in range(60):
            await log.append(fields(number))
        assert log.records < 60
    paths = files_of(folder)
    assert len(paths) == 3
    assert paths[0].name != "audit-000001.jsonl"
    verified = verify(folder)
    assert verified.ok
    async with running(folder, max_file=1500, max_files=2) as log:
        assert log.records == verified.records


async def test_a_file_is_pruned_only_after_the_chain_has_said_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash in between leaves a file too many, and no gap that nothing explains."""
    removed: list[str] = []
    real = Path.unlink

    def unlink(path: Path, *, missing_ok: bool = False) -> None:
        if path.name.startswith("audit-"):
            text = b"".join(each.read_bytes() for each in files_of(folder))
            last = decode(path.read_bytes().splitlines()[-1])
            assert last is not None
            assert b'"pruned":%d' % last["seq"] in text
            removed.append(path.name)
        real(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink)
    await write(folder, 30, max_file=1500, max_files=1)
    assert removed[0] == "audit-000001.jsonl"


async def test_a_pruned_file_that_could_not_be_removed_is_no_gap(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", lambda _path, **_more: None)
        await write(folder, 20, max_file=1500, max_files=1)
    assert verify(folder).ok
    await write(folder, 20, max_file=1500, max_files=1)
    assert len(files_of(folder)) <= 3
    assert verify(folder).ok


class HandClock(Clock):
    """A clock that is moved by hand."""

    now = 100.0

    def boot(self) -> float:
        return self.now


def failing(*_args: Any, **_more: Any) -> None:
    raise OSError(errno.EIO, "Input/output error")


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


async def test_a_field_without_a_place_fails_its_own_caller_and_nobody_else(folder: Path) -> None:
    async with running(folder) as log:
        with pytest.raises(AssertionError):
            await log.append({**fields(1), "value": b"x"})
        with pytest.raises(AssertionError):
            await log.append({**fields(1), "reason": b"x"})
        assert (await log.append(fields(2)))[0] == 1


async def test_after_its_end_it_refuses(folder: Path) -> None:
    log = AuditLog.open(folder, clock=Clock())
    with pytest.raises(UnavailableError, match="closed"):
        await log.append(fields(1))
    async with trio.open_nursery() as nursery:
        await nursery.start(log.run)
        nursery.cancel_scope.cancel()
    with pytest.raises(UnavailableError, match="closed"):
        await log.append(fields(1))
    log.close()
    log.close()


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


async def test_two_agents_do_not_write_one_log(folder: Path) -> None:
    async with running(folder):
        with pytest.raises(UnavailableError, match="another agent"):
            AuditLog.open(folder, clock=Clock())
    await write(folder, 1)


async def test_without_sync_nothing_is_synced(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_fd: int) -> None:
        raise AssertionError("synced")

    monkeypatch.setattr(os, "fdatasync", fail)
    await write(folder, 1, sync="none")
    assert verify(folder).records == 1


async def test_a_line_torn_by_a_crash_is_moved_aside_and_told(folder: Path) -> None:
    await write(folder, 2)
    with (folder / "audit.jsonl").open("ab") as file:
        file.write(b'{"event":"deci')
    await write(folder, 1)
    verified = verify(folder)
    assert (verified.ok, verified.records) == (True, 4)
    assert (folder / "audit.torn-1").read_bytes() == b'{"event":"deci'
    with (folder / "audit.jsonl").open("ab") as file:
        file.write(b"again")
    await write(folder, 1)
    assert (folder / "audit.torn-2").read_bytes() == b"again"
    assert "audit.torn-1" in (folder / "audit.jsonl").read_text()


async def test_pages_that_a_power_cut_left_empty_are_moved_aside_and_told(folder: Path) -> None:
    """The file had grown, its end was there, and the middle of the batch was not."""
    await write(folder, 3)
    path = folder / "audit.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1][:30] + bytes(90) + b"\n" + lines[2])
    assert (await write(folder, 1))[0][0] == 3  # record 1, the repair, this one
    assert verify(folder).ok
    assert (folder / "audit.torn-1").read_bytes().endswith(lines[2])


async def test_the_chain_goes_on_where_the_last_file_is_empty(folder: Path) -> None:
    await write(folder, 3)
    (folder / "audit.jsonl").rename(folder / "audit-000001.jsonl")
    assert (await write(folder, 1))[0][0] == 4
    assert verify(folder).ok


async def test_a_line_that_is_longer_than_any_of_ours_is_not_taken_for_torn(folder: Path) -> None:
    (folder / "audit.jsonl").touch(0o600)
    with (folder / "audit.jsonl").open("wb") as file:
        file.write(b"x" * (TAIL + 1))
    with pytest.raises(InvalidError, match="was altered"):
        AuditLog.open(folder, clock=Clock())


async def test_a_damaged_last_record_is_not_built_upon(folder: Path) -> None:
    await write(folder, 2)
    path = folder / "audit.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"s1"', b'"s9"'))
    with pytest.raises(InvalidError, match="was altered") as caught:
        AuditLog.open(folder, clock=Clock())
    assert caught.value.remedy is not None


async def test_a_log_open_to_others_is_refused_with_the_mend(folder: Path) -> None:
    path = folder / "audit.jsonl"
    path.touch()
    path.chmod(0o644)
    with pytest.raises(InvalidError) as caught:
        AuditLog.open(folder, clock=Clock())
    assert caught.value.remedy == f"chmod 600 {path}"


def test_a_folder_open_to_others_is_refused_with_the_mend(folder: Path) -> None:
    folder.chmod(0o755)
    with pytest.raises(InvalidError) as caught:
        AuditLog.open(folder, clock=Clock())
    assert caught.value.remedy == f"chmod 700 {folder}"


async def test_a_folder_of_another_user_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(InvalidError) as caught:
        AuditLog.open(folder, clock=Clock())
    assert caught.value.remedy == f"ls -ld {folder}"


async def test_without_a_folder_it_is_unavailable(folder: Path) -> None:
    with pytest.raises(UnavailableError, match="cannot be opened"):
        AuditLog.open(folder / "none", clock=Clock())


async def test_a_log_that_is_no_file_is_refused(folder: Path) -> None:
    os.mkfifo(folder / "audit.jsonl", 0o600)
    with pytest.raises((InvalidError, UnavailableError)):
        AuditLog.open(folder, clock=Clock())
