"""Records come back a page at a time, chosen by place, time, secret and holder, while others write
and rotate.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import trio

from secret_agent.audit import reading
from secret_agent.audit.files import files_of
from secret_agent.audit.reading import read
from secret_agent.audit.record import GENESIS
from support.audit import encode, fields, running, write
from support.holders import holder

COUNT = 60


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records 1 to 60 of secrets s0 to s59, in several files."""
    folder = tmp_path_factory.mktemp("audit")
    folder.chmod(0o700)
    trio.run(lambda: write(folder, COUNT, max_file=4000))
    assert len(files_of(folder)) > 3
    return folder


def numbers(records: list[dict[str, Any]]) -> list[int]:
    return [record["seq"] for record in records]


@pytest.mark.parametrize("near", [1, 64 * 1024])
def test_any_page_is_what_the_whole_holds_there(
    log: Path, near: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_NEAR", near)
    for after in range(-1, COUNT + 2):
        wanted = [seq for seq in range(1, COUNT + 1) if seq > after]
        assert numbers(read(log, after=after, limit=7)) == wanted[:7]
        assert numbers(read(log, after=after, until=40, limit=7)) == [
            seq for seq in wanted[:7] if seq <= 40
        ]


def test_secrets_are_chosen_by_glob_and_holders_by_pid(tmp_path: Path) -> None:
    records: list[dict[str, Any]] = [
        {"secret": "pay/db", "holder": holder(7)},
        {"secret": "pay/db", "holder": holder(8), "stage": "dev"},
        {"secret": "pay/x/y"},
        {"holder": holder(77), "reason": '"secret":"pay/db","holder":{"pid":7}'},
        {},
    ]
    prev, lines = GENESIS, []
    for seq, more in enumerate(records, start=1):
        made = encode(seq, 1000.0 * seq, prev, {**fields(0), "secret": None, **more})
        prev = made.digest
        lines.append(made.line + b"\n")
    (tmp_path / "audit.jsonl").write_bytes(b"".join(lines))
    assert numbers(read(tmp_path, secret="pay/*")) == [1, 2]
    assert numbers(read(tmp_path, secret="pay/**")) == [1, 2, 3]
    assert numbers(read(tmp_path, holder=7)) == [1]
    assert numbers(read(tmp_path, holder=1)) == []
    assert numbers(read(tmp_path, since=2001)) == [3, 4, 5]
    assert numbers(read(tmp_path, since=2000, secret="pay/*")) == [2]
    assert read(tmp_path, since=2**50) == []


def test_what_is_no_record_is_passed_over(log: Path, tmp_path: Path) -> None:
    lines = (log / "audit.jsonl").read_bytes().splitlines(keepends=True)
    junk = [b"\n", b"{}\n", b'{"seq":99,"time":"9"\n', b"\xff\n", b"[" * 5000 + b"\n"]
    (tmp_path / "audit.jsonl").write_bytes(b"".join([*junk, *lines, *junk, lines[-1][:40]]))
    assert numbers(read(tmp_path)) == [json.loads(line)["seq"] for line in lines]
    assert numbers(read(tmp_path, after=COUNT - 1)) == [COUNT]


def test_junk_in_the_middle_ends_a_search_by_halves_and_not_the_reading(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_NEAR", 1)
    lines = b"".join(path.read_bytes() for path in files_of(log)).splitlines(keepends=True)
    (tmp_path / "audit.jsonl").write_bytes(b"\n".join(lines))
    assert numbers(read(tmp_path, after=50)) == list(range(51, COUNT + 1))


async def test_a_file_that_is_rotated_while_it_is_listed_is_read_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The current file is opened first and met again under its new name."""
    await write(folder, 3)
    real = Path.glob
    current = folder / "audit.jsonl"

    def rotating(path: Path, pattern: str) -> Any:
        if current.exists():
            current.rename(folder / "audit-000001.jsonl")
        return real(path, pattern)

    monkeypatch.setattr(Path, "glob", rotating)
    assert numbers(read(folder)) == [1, 2, 3]


async def test_a_file_that_is_pruned_after_it_was_listed_is_passed_over(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await write(folder, 2)
    gone = folder / "audit-000001.jsonl"
    monkeypatch.setattr("secret_agent.audit.files.full_files", lambda _folder: [gone])
    assert numbers(read(folder)) == [1, 2]


async def test_what_is_not_on_disk_yet_is_not_shown(folder: Path) -> None:
    async with running(folder) as log:
        await log.append(fields(1))
        made = encode(2, 0.0, log.head[1], fields(2))
        with log.path.open("ab") as file:
            file.write(made.line + b"\n" + made.line[:9])
        assert numbers(log.read()) == [1]
        assert log.verify().ok
        assert log.verify().records == 1
        log.path.write_bytes(log.path.read_bytes()[: -len(made.line) - 10])


def test_a_link_in_the_place_of_a_file_is_not_followed(log: Path, tmp_path: Path) -> None:
    (tmp_path / "audit.jsonl").symlink_to(log / "audit.jsonl")
    (tmp_path / "audit-000001.jsonl").mkdir()
    assert read(tmp_path) == []


@pytest.mark.parametrize("name", ["audit.jsonl", "audit-000001.jsonl"])
def test_a_file_that_cannot_be_read_is_an_error(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def refused(path: Any, *more: Any) -> int:
        if Path(path).name == name:
            raise PermissionError(13, "Permission denied")
        return real(path, *more)

    for each in ("audit.jsonl", "audit-000001.jsonl"):
        (tmp_path / each).touch()
    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(PermissionError):
        read(tmp_path)
