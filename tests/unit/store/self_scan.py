"""A program that uses a store, closes it, and looks for its keys in all of its own memory.

    python -m unit.store.self_scan FOLDER      prints JSON: {"open": {NAME: hits}, "closed": {…}}

A key is kept here as two halves in objects of their own, never side by side, so that the scanner
finds no needle of its own making.
"""

import ctypes
import gc
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from secret_agent.store import Store, header, keys, opening, writing
from secret_agent.store.keys import random_key
from secret_agent.store.seal import wipe
from secret_agent_client.errors import DeniedError

CHUNK = 1 << 20
Needle = tuple[bytes, bytes]

needles: dict[str, Needle] = {}
kept: list[bytearray] = []
"""Every buffer that held a key, so that the allocator hides none that was not overwritten."""


def remember(name: str, key: bytearray) -> None:
    needles[name] = (bytes(key[:16]), bytes(key[16:32]))
    kept.append(key)


def regions() -> Iterator[tuple[int, int]]:
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, access, *_ = line.split()
        if access.startswith("rw"):
            start, _, end = span.partition("-")
            yield int(start, 16), int(end, 16)


def count_hits(memory: int, buffer: bytearray, needle: Needle) -> int:
    first, second = needle
    hits = 0
    for start, end in regions():
        at = start
        while at < end:
            try:
                size = os.preadv(memory, [memoryview(buffer)[: min(CHUNK, end - at)]], at)
            except OSError:  # a guard page
                break
            place = buffer.find(first, 0, size)
            while place >= 0:
                hits += buffer.startswith(second, place + 16, size)
                place = buffer.find(first, place + 1, size)
            if size < 64 or at + size >= end:
                break
            at += size - 32  # a key may lie across two chunks
    return hits


def scan() -> dict[str, int]:
    gc.collect()
    memory = os.open("/proc/self/mem", os.O_RDONLY)
    buffer = bytearray(CHUNK)
    found = {name: count_hits(memory, buffer, needle) for name, needle in needles.items()}
    wipe(buffer)
    os.close(memory)
    return found


def spy_on_keys() -> None:
    """Remember every key-encryption key and every derived key, in halves, as it passes by."""
    plain_stretch, plain_hkdf, plain_open = keys.stretch, keys.hkdf, header.open_slot

    def stretch(*args: object) -> bytearray:
        key = plain_stretch(*args)  # type: ignore[arg-type]  # passed on as they came
        remember(f"kek {len(needles)}", key)
        return key

    def hkdf(*args: object, **more: object) -> bytearray:
        key = plain_hkdf(*args, **more)  # type: ignore[arg-type]  # passed on as they came
        if len(key) == 32:
            remember(f"{bytes(more['info']).decode()} {len(needles)}", key)  # type: ignore[call-overload]  # bytes
        return key

    def open_slot(*args: object) -> bytearray:
        key = plain_open(*args)  # type: ignore[arg-type]  # passed on as they came
        remember(f"data key {len(needles)}", key)
        return key

    for module, name, spy in (
        (header, "stretch", stretch),
        (header, "hkdf", hkdf),
        (keys, "hkdf", hkdf),
        (opening, "open_slot", open_slot),
        (writing, "open_slot", open_slot),
    ):
        assert hasattr(module, name)
        setattr(module, name, spy)


def use(path: Path, passphrase: bytearray, other: bytearray, key: bytearray) -> Store:
    store = Store.create(path, passphrase, clock_wall=lambda: 0)
    for number in range(20):
        store.put(f"a/{number}", "", {"v": b"x" * number * 100}, type="t", by="me")
    store.change_passphrase(passphrase, other)
    store.enrol_key(key)
    store.close()
    try:
        Store.unlock(path, passphrase, clock_wall=lambda: 0)
    except DeniedError:
        pass
    else:
        raise AssertionError("the old passphrase still opens the store")
    Store.unlock_with_key(path, key, clock_wall=lambda: 0).close()
    store = Store.unlock(path, other, clock_wall=lambda: 0)
    store.list()
    store.get("a/3", "").fields["v"].wipe()
    return store


def main(folder: Path) -> None:
    spy_on_keys()
    passphrase, other, key = random_key(), random_key(), random_key()
    for name, each in (("passphrase", passphrase), ("other", other), ("keyring", key)):
        remember(name, each)
    store = use(folder / "store.db", passphrase, other, key)
    with store._ledger.turn() as opened:
        remember("data key", opened.keys.data_key)
    del opened
    for each in (passphrase, other, key):
        wipe(each)
    found = {"open": scan()}
    store.close()
    found["closed"] = scan()
    control = ctypes.create_string_buffer(b"".join(needles["data key"]))
    found["control"] = scan()
    del control
    print(json.dumps(found))


if __name__ == "__main__":
    with keys._for_tests_cheap():
        main(Path(sys.argv[1]))
