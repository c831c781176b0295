"""The audit log's vectors are verified as their table expects; another verifier can use them."""

import json
import shutil
from pathlib import Path

import pytest

from secret_agent.audit.verify import Verified, verify
from support.tree import ROOT

VECTORS = ROOT / "tests" / "vectors" / "audit"
OUTCOMES = {
    "ok", "edited", "removed", "reordered", "duplicated", "rewritten", "torn", "truncated",
}  # fmt: skip  # a closed set


def rows() -> list[list[str]]:
    lines = (VECTORS / "expect.txt").read_text().splitlines()
    return [line.split() for line in lines if not line.startswith("#")]


def outcome(found: Verified) -> list[str]:
    if found.first_bad is None:
        return ["ok", "-"]
    return [found.first_bad.what.partition(":")[0], str(found.first_bad.line)]


def anchor() -> tuple[int, str]:
    last = json.loads((VECTORS / "whole.jsonl").read_bytes().splitlines()[-1])
    return last["seq"], last["digest"]


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_a_vector_is_verified_as_expected(row: list[str], tmp_path: Path) -> None:
    name, *expected = row
    shutil.copy(VECTORS / f"{name}.jsonl", tmp_path / "audit.jsonl")
    assert outcome(verify(tmp_path)) + outcome(verify(tmp_path, anchors=[anchor()])) == expected


def test_every_vector_has_its_row_and_every_outcome_its_vector() -> None:
    assert sorted(row[0] for row in rows()) == sorted(path.stem for path in VECTORS.glob("*.jsonl"))
    assert {word for row in rows() for word in (row[1], row[3])} == OUTCOMES
