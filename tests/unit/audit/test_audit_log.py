"""What is answered is on disk and in the chain, which runs through full files and pruned ones."""

import os
from pathlib import Path

import pytest
import trio
import trio.testing

from secret_agent.audit.files import files_of
from secret_agent.audit.log import AuditLog
from secret_agent.audit.record import decode
from secret_agent.audit.verify import verify
from secret_agent.clock import Clock
from secret_agent_client.errors import UnavailableError
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


async def test_without_sync_nothing_is_synced(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_fd: int) -> None:
        raise AssertionError("synced")

    monkeypatch.setattr(os, "fdatasync", fail)
    await write(folder, 1, sync="none")
    assert verify(folder).records == 1
