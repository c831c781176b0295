"""What is answered is on disk and in the chain; what cannot be written fails, and the log recovers
without a gap.
"""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from secret_agent.audit.files import files_of
from secret_agent.audit.log import AuditLog
from secret_agent.audit.verify import verify
from secret_agent.clock import Clock
from secret_agent_client.errors import InvalidError, UnavailableError
from support.audit import fields, running, write


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    return tmp_path


async def test_an_answered_record_is_in_the_file(folder: Path) -> None:
    async with running(folder) as log:
        seq, digest = await log.append(fields(1))
        assert (seq, digest) == log.head
        assert log.records == 1
        assert digest in log.path.read_text()
        assert log.path.stat().st_mode & 0o777 == 0o600


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


async def test_the_oldest_files_go_and_the_chain_says_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secret_agent.audit.log.MAX_FILES", 2)
    await write(folder, 60, max_file=1500)
    paths = files_of(folder)
    assert len(paths) <= 4
    assert paths[0].name != "audit-000001.jsonl"
    assert verify(folder).ok


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """A disk that is full at a size: RLIMIT_FSIZE makes write(2) fail with EFBIG."""
    import signal

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
            assert log.trouble is not None
        assert (await log.append(fields(3)))[0] == 2
        assert log.trouble is None
    verified = verify(folder)
    assert (verified.ok, verified.records) == (True, 2)


async def test_a_log_that_was_removed_fails_once_and_is_begun_anew(folder: Path) -> None:
    async with running(folder) as log:
        await log.append(fields(1))
        log.path.unlink()
        with pytest.raises(UnavailableError):
            await log.append(fields(2))
        assert (await log.append(fields(3)))[0] == 2
    bad = verify(folder).first_bad
    assert bad is not None
    assert "the records before 2 are missing" in bad.what


async def test_a_log_that_was_replaced_by_a_link_is_not_followed(folder: Path) -> None:
    target = folder / "target"
    async with running(folder) as log:
        await log.append(fields(1))
        log.path.unlink()
        log.path.symlink_to(target)
        for _ in range(2):
            with pytest.raises(UnavailableError):
                await log.append(fields(2))
        assert not target.exists()


async def test_a_sync_that_fails_is_a_failure(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(folder) as log:
        await log.append(fields(1))

        def fail(_fd: int) -> None:
            raise OSError(5, "Input/output error")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", fail)
            with pytest.raises(UnavailableError, match="Input/output error"):
                await log.append(fields(2))
        await log.append(fields(3))
    assert verify(folder).records == 2


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
    assert "audit.torn-1" in (folder / "audit.jsonl").read_text()


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


async def test_a_log_that_is_no_file_is_refused(folder: Path) -> None:
    os.mkfifo(folder / "audit.jsonl", 0o600)
    with pytest.raises((InvalidError, UnavailableError)):
        AuditLog.open(folder, clock=Clock())


async def test_records_are_read_back_by_page_and_by_what_they_are_about(folder: Path) -> None:
    await write(folder, 30, max_file=2000)
    async with running(folder) as log:
        first = log.read(limit=10)
        assert [each["seq"] for each in first] == list(range(1, 11))
        assert [each["seq"] for each in log.read(after=28)] == [29, 30]
        assert [each["secret"] for each in log.read(secret="s1?")] == [
            f"s{n}" for n in range(10, 20)
        ]
        assert log.read(since=2**40) == []
        assert len(log.read(since=0)) == 30
        assert log.read(holder=1) == []
