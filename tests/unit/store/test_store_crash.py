"""Whatever is killed at whatever moment: what was acknowledged is there, and the store is whole.

Three ways to die: SIGKILL at a random moment; the kernel's SIGXFSZ inside of a chosen write(2); and
a power failure that leaves only a part of the log.
"""

import os
import random
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from secret_agent_client.errors import DeniedError
from unit.store.workshop import PASSPHRASE, Workshop, put, value_of
from unit.store.writer import NEW, open_either

pytestmark = pytest.mark.slow

KILLS = 12
DEADLINE_S = 20.0


def writer(shop: Workshop, *argv: str) -> "subprocess.Popen[bytes]":
    folder = shop.path.parent.parent
    return subprocess.Popen(
        [sys.executable, "-m", "unit.store.writer", folder, *argv],
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        bufsize=0,
    )


def kill_soon(process: "subprocess.Popen[bytes]", moment: random.Random) -> list[bytes]:
    """Wait until it is at work, kill it within milliseconds; the lines it managed to say."""
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    end = time.monotonic() + moment.uniform(0.0, 0.03)
    lines = b""
    while (left := end - time.monotonic()) > 0:
        if select.select([process.stdout], [], [], left)[0]:
            lines += os.read(process.stdout.fileno(), 65536)
    process.send_signal(signal.SIGKILL)
    lines += process.stdout.read()
    process.stdout.close()
    assert process.wait(DEADLINE_S) == -signal.SIGKILL
    return lines.splitlines()


@pytest.fixture
def moment() -> random.Random:
    return random.Random(20260101)  # noqa: S311  # moments, not keys


def test_every_acknowledged_write_survives_sigkill(shop: Workshop, moment: random.Random) -> None:
    shop.fill(a="1")
    acknowledged = 1
    for _ in range(KILLS):
        said = kill_soon(writer(shop, "put", "100000"), moment)
        if said:
            acknowledged = int(said[-1].split()[1])
        with shop.unlocked() as store:  # verifies the tally and the witness
            newest = store.describe("app/a", "").version
            assert newest in (acknowledged, acknowledged + 1)  # the last may not have been said
            assert [info.version for info in store.history("app/a", "")] == [*range(newest, 0, -1)]
            for version in (1, acknowledged, newest):
                assert value_of(store, "app/a", version=version) == b"%d" % version
            assert store.damage() == ()
        acknowledged = newest
    assert acknowledged > KILLS


def test_a_killed_change_of_passphrase_leaves_the_old_or_the_new_one(
    shop: Workshop, moment: random.Random
) -> None:
    shop.fill(a="1")
    for _ in range(KILLS):
        said = kill_soon(writer(shop, "passwd", "100000"), moment)
        store = open_either(shop)
        assert value_of(store, "app/a") == b"1"
        store.close()
        if not said:
            continue
        last = said[-1]
        other = {NEW: PASSPHRASE, PASSPHRASE: NEW}[last]
        # In force is the last one that was acknowledged, or the one that was under way.
        opening = [each for each in (last, other) if opens(shop, each)]
        assert len(opening) == 1


def opens(shop: Workshop, passphrase: bytes) -> bool:
    try:
        shop.unlock(passphrase).close()
    except DeniedError:
        return False
    return True


def put_back(shop: Workshop) -> None:
    folder = shop.path.parent.parent
    shutil.rmtree(folder)
    shutil.copytree(folder.with_name("saved"), folder)


def died_at(shop: Workshop, limit: int, verb: str) -> bool:
    """Let a writer die at a limit; whether it died before it said that it was done."""
    process = writer(shop, "die-at", str(limit), verb)
    said, _ = process.communicate(timeout=DEADLINE_S)
    assert process.returncode in (0, -signal.SIGXFSZ)
    assert (said == b"done\n") or process.returncode == -signal.SIGXFSZ
    return said != b"done\n"


LIMITS = [0, 32, 4096, 4152, 8272, 12000, 12392, 16512, 24752, 40000]


@pytest.mark.parametrize("verb", ["put", "passwd", "purge"])
def test_dying_inside_of_any_write_leaves_the_store_before_or_after_it(
    tmp_path: Path, verb: str
) -> None:
    shop = Workshop(tmp_path / "shop")
    shop.fill(a="1", b="2")
    folder = shop.path.parent.parent
    shutil.copytree(folder, folder.with_name("saved"))
    outcomes = set()
    for limit in LIMITS:
        died = died_at(shop, limit, verb)
        with_new = opens(shop, NEW)
        store = open_either(shop)
        after = {
            "put": len(store.history("app/a", "")) == 2,
            "passwd": with_new,
            "purge": store.count() == 1,
        }[verb]
        assert value_of(store, "app/a", version=1) == b"1"
        assert store.damage() == ()
        store.close()
        assert died or after
        outcomes.add((died, after))
        put_back(shop)
    assert {(True, False), (False, True)} <= outcomes


def test_dying_while_a_store_is_made_leaves_a_store_or_none(tmp_path: Path) -> None:
    outcomes = set()
    for limit in LIMITS:
        shop = Workshop(tmp_path / str(limit))
        died = died_at(shop, limit, "create")
        whole = shop.path.exists()
        with shop.unlocked() if whole else shop.created() as store:
            assert put(store, "a") == 1
        assert died or whole
        outcomes.add((died, whole))
    assert {(True, False), (False, True)} <= outcomes


def test_a_write_is_synced_before_it_is_acknowledged(shop: Workshop) -> None:
    with shop.created() as store, store._ledger.turn() as opened:
        asked = ("journal_mode", "synchronous", "secure_delete", "temp_store", "mmap_size")
        sqlite = opened.database._sqlite
        found = {name: sqlite.execute(f"PRAGMA {name}").fetchone()[0] for name in asked}
    assert found == {
        "journal_mode": b"wal",
        "synchronous": 2,
        "secure_delete": 1,
        "temp_store": 2,
        "mmap_size": 0,
    }


def test_a_power_failure_that_leaves_a_part_of_the_log_leaves_a_store_of_some_moment(
    tmp_path: Path,
) -> None:
    shop = Workshop(tmp_path / "shop")
    shop.fill(a="0")
    store = shop.unlock()
    sizes = {}
    log = shop.path.with_name("store.db-wal")
    for number in range(1, 6):
        put(store, "app/a", b"%d" % number)
        sizes[log.stat().st_size] = number
    saved_file, saved_log = shop.path.read_bytes(), log.read_bytes()
    store.close()
    found = set()
    for end in sorted({*range(0, len(saved_log), 1500), *sizes}):
        shop.witness.unlink()  # it lies on the disk that failed
        shop.path.write_bytes(saved_file)
        log.write_bytes(saved_log[:end])
        log.chmod(0o600)
        acknowledged = max([number for size, number in sizes.items() if size <= end], default=0)
        with shop.unlocked() as store:
            version = store.describe("app/a", "").version
            assert version == acknowledged + 1
            assert value_of(store, "app/a") == b"%d" % acknowledged
            assert store.damage() == ()
        found.add(acknowledged)
    assert found == {0, 1, 2, 3, 4, 5}


def test_a_power_failure_that_leaves_garbage_in_the_log_is_no_harm(tmp_path: Path) -> None:
    shop = Workshop(tmp_path / "shop")
    shop.fill(a="0")
    store = shop.unlock()
    log = shop.path.with_name("store.db-wal")
    put(store, "app/a", b"1")
    whole = log.stat().st_size
    put(store, "app/a", b"2")
    saved_file, saved_log = shop.path.read_bytes(), log.read_bytes()
    store.close()
    for at in range(whole, len(saved_log), 700):
        shop.witness.unlink()
        shop.path.write_bytes(saved_file)
        log.write_bytes(saved_log[:at] + b"\xa5" * (len(saved_log) - at))
        log.chmod(0o600)
        with shop.unlocked() as store:
            assert value_of(store, "app/a") == b"1"
