"""Whatever is done to the log afterwards is found, and named for what it is."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from secret_agent.audit.files import files_of
from secret_agent.audit.verify import verify
from support.audit import encode, fields, running, write

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


def rewritten(line: bytes, **more: str) -> bytes:
    """The record with another content and a digest that fits it."""
    said = json.loads(line)
    prev = more.get("prev", said["prev"])
    return encode(said["seq"], 0.0, prev, fields(99)).line + b"\n"


@pytest.mark.parametrize(
    ("change", "what", "seq"),
    [
        (lambda all_: [all_[0].replace(b'"s0"', b'"s9"'), *all_[1:]], "edited", 1),
        (lambda all_: [*all_[:4], *all_[5:]], "removed: records 5 to 5", 6),
        (
            lambda all_: [*all_[:4], all_[5], all_[4], *all_[6:]],
            "reordered: it stands before record 5",
            6,
        ),
        (lambda all_: [*all_[:4], all_[9], *all_[4:9], *all_[10:]], "reordered: ", 10),
        (lambda all_: [*all_[:4], all_[3], *all_[4:]], "duplicated: it stands where", 4),
        (lambda all_: [*all_[:4], all_[1], *all_[5:]], "duplicated: it stands where", 2),
        (lambda all_: [*all_[:4], all_[8], *all_[4:]], "duplicated: it stands where", 9),
        (lambda all_: [*all_[:4], *all_[7:]], "removed: records 5 to 7", 8),
        (lambda all_: [*all_[:4], rewritten(all_[4]), *all_[5:]], "rewritten: it does not", 6),
        (lambda all_: [rewritten(all_[0], prev="1" * 64), *all_[1:]], "rewritten: it does not", 2),
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


@pytest.mark.slow
@given(st.data())
def test_no_changed_byte_goes_unseen(written: Path, data: st.DataObject) -> None:
    """And it is found in the very line; at a line's end, in that line or the one it ran into."""
    original = (written / "audit.jsonl").read_bytes()
    at = data.draw(st.integers(0, len(original) - 1))
    changed = bytearray(original)
    changed[at] ^= data.draw(st.integers(1, 255))
    place = written.parent / "changed"
    place.mkdir(exist_ok=True)
    (place / "audit.jsonl").write_bytes(changed)
    bad = verify(place).first_bad
    assert bad is not None
    assert bad.line == original.count(b"\n", 0, at) + 1
    assert bad.what.startswith(("edited", "torn"))


@pytest.mark.slow
@given(st.permutations(range(COUNT)), st.lists(st.integers(0, COUNT - 1), max_size=3))
def test_any_other_order_is_seen_at_the_first_record_out_of_place(
    written: Path, order: list[int], again: list[int]
) -> None:
    original = (written / "audit.jsonl").read_bytes().splitlines(keepends=True)
    place = written.parent / "changed"
    place.mkdir(exist_ok=True)
    told = [*order, *again]
    (place / "audit.jsonl").write_bytes(b"".join(original[at] for at in told))
    bad = verify(place).first_bad
    wrong = [at for at, which in enumerate(told) if at != which]
    assert (bad is None) == (not wrong)
    if bad is not None and told[0] == 0:
        assert bad.line == wrong[0] + 1


def test_tampering_is_found_across_files(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    trio.run(lambda: write(tmp_path, 30, max_file=2000))
    paths = files_of(tmp_path)
    assert len(paths) > 4
    kept = paths[2].read_bytes()
    for change, what, file in (
        (b"", "removed: records", paths[3].name),
        (kept[:-1], "torn: ", paths[2].name),
        (kept[: kept.rindex(b"\n", 0, -1) + 1], "removed: records", paths[3].name),
        (kept + kept.splitlines(keepends=True)[-1], "duplicated: ", paths[2].name),
    ):
        paths[2].write_bytes(change)
        bad = verify(tmp_path).first_bad
        assert bad is not None
        assert bad.what.startswith(what)
        assert bad.file == file
    paths[2].unlink()
    bad = verify(tmp_path).first_bad
    assert bad is not None
    assert (bad.file, bad.line) == (paths[3].name, 1)
    paths[2].write_bytes(kept)
    assert verify(tmp_path).ok


async def test_files_that_no_rule_removed_are_missed(folder: Path) -> None:
    """Pruning says how far it went: what is gone behind that is gone by somebody's hand."""
    await write(folder, 40, max_file=1500, max_files=4)
    paths = files_of(folder)
    assert verify(folder).ok
    paths[0].unlink()
    bad = verify(folder).first_bad
    assert bad is not None
    assert bad.what.startswith("removed: the records before")


async def test_an_anchor_that_was_pruned_by_rule_is_not_missed(folder: Path) -> None:
    async with running(folder, max_file=1500, max_files=1) as log:
        first = await log.append(fields(0))
        for number in range(30):
            await log.append(fields(number))
        assert log.verify(anchors=(first,)).ok
        assert not log.verify(anchors=((log.head[0] - 1, "0" * 64),)).ok


def test_a_log_that_is_gone_shows_against_an_anchor(tmp_path: Path) -> None:
    bad = verify(tmp_path, anchors=[(3, "0" * 64)]).first_bad
    assert bad is not None
    assert (bad.file, bad.seq) == ("audit.jsonl", 1)
    assert bad.what == "truncated: the log once reached record 3"


def test_two_who_remember_different_records_are_both_heard(log: Path) -> None:
    """The agent's own head must not hide what the store remembers of the same number."""
    head = verify(log).head
    for anchors in ([(COUNT, head), (COUNT, "0" * 64)], [(COUNT, "0" * 64), (COUNT, head)]):
        bad = verify(log, anchors=anchors).first_bad
        assert bad is not None
        assert bad.what.startswith("rewritten")
