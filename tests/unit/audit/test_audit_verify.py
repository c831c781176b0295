"""Whatever is done to the log afterwards is found, and named for what it is."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from secret_agent.audit.verify import verify
from support.audit import write

COUNT = 12


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audit")
    folder.chmod(0o700)
    trio.run(write, folder, COUNT)
    return folder


@pytest.fixture
def log(written: Path, tmp_path: Path) -> Path:
    shutil.copytree(written, tmp_path / "log")
    return tmp_path / "log"


def lines(folder: Path) -> list[bytes]:
    return (folder / "audit.jsonl").read_bytes().splitlines(keepends=True)


def rewrite(folder: Path, change: Callable[[list[bytes]], list[bytes]]) -> None:
    (folder / "audit.jsonl").write_bytes(b"".join(change(lines(folder))))


def test_an_untouched_log_is_whole(log: Path) -> None:
    verified = verify(log, anchors=[(COUNT, verify(log).head)])
    assert (verified.ok, verified.records) == (True, COUNT)


def test_an_empty_folder_is_a_log_without_records(tmp_path: Path) -> None:
    assert verify(tmp_path).records == 0
    assert verify(tmp_path).ok


@pytest.mark.parametrize(
    ("change", "what", "seq"),
    [
        (lambda all_: [all_[0].replace(b'"s0"', b'"s9"'), *all_[1:]], "edited", 1),
        (lambda all_: [*all_[:4], *all_[5:]], "removed: records 5 to 5", 6),
        (lambda all_: [*all_[:4], all_[5], all_[4], *all_[6:]], "removed: records 5 to 5", 6),
        (lambda all_: [*all_[:4], all_[3], *all_[4:]], "reordered or duplicated", 4),
        (lambda all_: [*all_[:4], all_[1], *all_[5:]], "reordered or duplicated", 2),
        (lambda all_: all_[3:], "the records before 4 are missing", 4),
        (lambda all_: [*all_[:-1], all_[-1][:-9]], "torn", None),
        (lambda all_: [*all_[:4], b"hello\n", *all_[4:]], "edited: the line is no record", None),
    ],
)
def test_each_tampering_is_named(
    log: Path, change: Callable[[list[bytes]], list[bytes]], what: str, seq: int | None
) -> None:
    rewrite(log, change)
    bad = verify(log).first_bad
    assert bad is not None
    assert what in bad.what
    assert bad.seq == seq
    assert bad.as_json()["file"] == "audit.jsonl"


def test_a_cut_end_shows_against_an_anchor_and_only_then(log: Path) -> None:
    head = verify(log).head
    rewrite(log, lambda all_: all_[:-3])
    assert verify(log).ok
    bad = verify(log, anchors=[(COUNT, head)]).first_bad
    assert bad is not None
    assert bad.what == f"truncated: the log once reached record {COUNT}"


def test_a_log_written_anew_shows_against_an_anchor_and_only_then(
    log: Path, tmp_path: Path
) -> None:
    head = verify(log).head
    forged = tmp_path / "forged"
    forged.mkdir(mode=0o700)
    trio.run(write, forged, COUNT + 3)
    assert verify(forged).ok
    bad = verify(forged, anchors=[(COUNT, head)]).first_bad
    assert bad is not None
    assert bad.what.startswith("rewritten")


@given(st.data())
def test_no_changed_byte_goes_unseen(written: Path, data: st.DataObject) -> None:
    original = (written / "audit.jsonl").read_bytes()
    at = data.draw(st.integers(0, len(original) - 1))
    bit = data.draw(st.integers(0, 7))
    changed = bytearray(original)
    changed[at] ^= 1 << bit
    place = written.parent / "changed"
    place.mkdir(exist_ok=True)
    (place / "audit.jsonl").write_bytes(changed)
    assert not verify(place).ok
