"""What a crash left is mended and told; what somebody changed is not built upon; what is not ours
alone is refused with the mend.
"""

import os
from pathlib import Path

import pytest

from secret_agent.audit.log import AuditLog
from secret_agent.audit.logfile import TAIL
from secret_agent.audit.verify import verify
from secret_agent.clock import Clock
from secret_agent_client.errors import InvalidError, UnavailableError
from support.audit import running, write


async def test_two_agents_do_not_write_one_log(folder: Path) -> None:
    async with running(folder):
        with pytest.raises(UnavailableError, match="another agent"):
            AuditLog.open(folder, clock=Clock())
    await write(folder, 1)


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
