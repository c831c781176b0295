"""After a lock the agent's memory holds no key of its store; how many copies of values and of the
passphrase Python has left there is told, and not promised.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from secret_agent.keyring_key import KEY_SIZE
from secret_agent.store import Store, header, keys
from support.agent import PASSPHRASE, Agent
from support.process_memory import copies_in

pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root reads the agent's memory"),
]

Told = Callable[[str, object], None]


def keys_of(store: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Every key that opening a copy of the store makes, by its use."""
    found: dict[str, bytes] = {}
    plain_stretch, plain_hkdf = keys.stretch, keys.hkdf

    def stretch(*args: object) -> bytearray:
        key = plain_stretch(*args)  # type: ignore[arg-type]  # passed on as they came
        found["kek"] = bytes(key)
        return key

    def hkdf(*args: object, **more: object) -> bytearray:
        key = plain_hkdf(*args, **more)  # type: ignore[arg-type]  # passed on as they came
        if len(key) == KEY_SIZE:
            found[bytes(more["info"]).decode()] = bytes(key)  # type: ignore[call-overload]  # bytes
        return key

    with monkeypatch.context() as patch:
        patch.setattr(header, "stretch", stretch)
        patch.setattr(header, "hkdf", hkdf)
        patch.setattr(keys, "hkdf", hkdf)
        opened = Store.unlock(store, PASSPHRASE, clock_wall=lambda: 0)
    with opened._ledger.turn() as parts:
        found["data key"] = bytes(parts.keys.data_key)
    opened.close()
    return found


def copy_of(agent: Agent, folder: Path) -> Path:
    """The store as it is now; the agent goes on with its own."""
    folder.mkdir(mode=0o700)
    for part in agent.path.glob("store.db*"):
        shutil.copy2(part, folder)
    return folder / "store.db"


def work(agent: Agent, value: bytes) -> None:
    """Whatever may leave a key behind: values read, written, refused; the passphrase proved."""
    with agent.connect() as peer:
        peer.hello()
        for number in range(50):
            peer.call("set", {"name": f"one/n{number}", "fields": {"value": value}})
            peer.call("get", {"name": f"one/n{number}"})
        peer.call("passwd", {"old": PASSPHRASE, "new": PASSPHRASE})
        peer.call("unlock", {"passphrase": PASSPHRASE})
        assert peer.refused("unlock", {"passphrase": b"wrong"})["code"] == "denied"
        for verb in ("ls", "status", "leases", "doctor", "audit-verify"):
            peer.call(verb)
        for number in range(50):
            peer.call("get", {"name": f"one/n{number}"})


def test_after_a_lock_no_key_of_the_store_is_in_the_agent(
    unlocked: Agent,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Told,
    capsys: pytest.CaptureFixture[str],
) -> None:
    value = unlocked.plant()
    work(unlocked, value)
    known = keys_of(copy_of(unlocked, tmp_path / "copy"), monkeypatch)
    assert len(known) >= 8
    # Their ends: of a buffer that was freed the allocator overwrites the beginning.
    found = {"value": value[-12:], "passphrase": PASSPHRASE[-12:]}
    before = copies_in(unlocked.pid, found)
    opened = copies_in(unlocked.pid, known)
    assert opened["data key"] >= 1, "the scanner finds what is there"
    assert opened["kek"] == 0, "it is needed for a moment only"

    unlocked.call("lock")
    closed = copies_in(unlocked.pid, known)
    assert {name: count for name, count in closed.items() if count} == {}
    after = copies_in(unlocked.pid, found)
    for name in found:
        told = f"copies of the {name}: {before[name]} before the lock, {after[name]} after it"
        record_property(told, after[name])
        with capsys.disabled():
            print(f"\n{told}")

    unlocked.unlock()
    assert unlocked.call("get", {"name": "one/n1"})["fields"]["value"] == value


def test_a_session_that_could_not_be_opened_leaves_no_key(
    unlocked: Agent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = keys_of(copy_of(unlocked, tmp_path / "copy"), monkeypatch)
    older = copy_of(unlocked, tmp_path / "older")
    work(unlocked, unlocked.plant())
    unlocked.call("lock")
    for part in unlocked.path.glob("store.db*"):
        part.unlink()
    shutil.copy2(older, unlocked.path)  # whole in itself, and refused once its keys are known
    with unlocked.connect() as peer:
        peer.hello()
        for passphrase in (b"wrong", PASSPHRASE):
            assert "error" in peer.ask("unlock", {"passphrase": passphrase})
    assert not any(copies_in(unlocked.pid, known).values())
