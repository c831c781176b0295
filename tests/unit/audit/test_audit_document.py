"""The worked example of AUDIT.md is what the code writes."""

import re
from datetime import UTC, datetime
from pathlib import Path

from secret_agent.audit.record import FIELDS, GENESIS
from support.audit import encode
from support.holders import holder

DOCUMENT = Path(__file__).resolve().parents[3] / "agent" / "AUDIT.md"
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC).timestamp()


def test_the_worked_example_is_what_the_code_writes() -> None:
    first = encode(1, AT, GENESIS, {"event": "agent", "action": "start", "outcome": "done"})
    second = encode(
        2,
        AT,
        first.digest,
        {
            "event": "decision",
            "action": "read",
            "outcome": "allow",
            "secret": "payments/db",
            "version": 3,
            "fields": ("password",),
            "rule": "builtin-own-processes",
            "policy": "p",
            "lease": "l-00112233aabbccdd",
            "channel": "stdout",
            "holder": holder(),
        },
    )
    block = re.search(r"```\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert block is not None
    assert block[1].splitlines() == [first.line.decode(), second.line.decode()]


def test_every_field_is_told() -> None:
    text = DOCUMENT.read_text()
    assert {field for field in FIELDS if f"`{field}`" not in text} == set()
