"""After close no key is left in the process; on the disk there never was anything in the clear."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from secret_agent_client.errors import InvalidError
from unit.store.workshop import PASSPHRASE, Workshop, put

MARK = "canary-b41f"


@pytest.mark.slow
def test_after_close_no_key_is_in_any_page_of_the_process(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    scanned = subprocess.run(
        [sys.executable, "-m", "unit.store.self_scan", tmp_path],
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
        check=True,
        capture_output=True,
    )
    found = json.loads(scanned.stdout)
    assert found["open"]["data key"] >= 1  # so the scanner can find what is there
    assert found["control"]["data key"] >= 1
    passphrases = {name: found["closed"].pop(name) for name in ("passphrase", "other")}
    record_property("passphrase hits after close", sum(passphrases.values()))  # no promise: F12
    assert {name: hits for name, hits in found["closed"].items() if hits} == {}
    assert len(found["closed"]) > 20
    assert not [name for name, hits in found["open"].items() if hits and name.startswith("kek")]


def everything_on_disk(shop: Workshop) -> bytes:
    folder = shop.path.parent.parent
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_nothing_that_was_written_is_in_the_clear_in_any_file(shop: Workshop) -> None:
    with shop.created() as store:
        for number in range(50):
            store.put(
                f"{MARK}/name{number}",
                MARK + "stage",
                {MARK + "field": f"{MARK} value {number}".encode() * 50},
                type=MARK + "type",
                by=MARK + "author",
                note=MARK + "note",
            )
        store.remove(f"{MARK}/name1", MARK + "stage", purge=False)
        store.remove(f"{MARK}/name2", MARK + "stage", purge=True)
        store.anchor(1, MARK)
        found = everything_on_disk(shop)
        assert MARK.encode() not in found
        assert PASSPHRASE not in found
    assert MARK.encode() not in everything_on_disk(shop)


def test_a_purged_version_is_overwritten_in_the_file_and_in_the_log(shop: Workshop) -> None:
    with shop.created() as store:
        put(store, "app/keep", b"k" * 100)
        put(store, "app/go", os.urandom(60_000))
        put(store, "app/go", os.urandom(300))
    rows = {row[0]: row for row in shop.rows()}
    gone = [rows[shop.key_of("app/go", version)] for version in (1, 2)]
    with shop.unlocked() as store:
        assert all(row[3][:64] in everything_on_disk(shop) for row in gone)
        store.remove("app/go", "", purge=True)
        found = everything_on_disk(shop)
        for row in gone:
            assert row[1] not in found
            assert row[2] not in found
            for at in range(0, len(row[3]) - 32, 200):
                assert row[3][at : at + 32] not in found


def test_what_the_store_hands_out_does_not_show_itself(shop: Workshop) -> None:
    with shop.created() as store:
        put(store, "a", MARK.encode())
        record = store.get("a", "")
        assert MARK not in f"{record!r} {store!r} {vars(store)!r} {store._ledger!r}"
        with store._ledger.turn() as opened:
            assert repr(opened.keys).startswith("<secret_agent.store.keys.Keys object")
            assert MARK not in repr(opened)
        with pytest.raises(InvalidError) as caught:
            store.put("a", "", {"f": MARK.encode() * 100_000}, type="t", by="me")
        assert MARK not in repr(caught.value)
