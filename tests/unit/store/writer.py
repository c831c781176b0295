"""A program that writes to a store and says so, for tests that kill it.

    python -m unit.store.writer FOLDER put N          writes; a line "put I" once write I is done
    python -m unit.store.writer FOLDER passwd N       changes the passphrase to and fro
    python -m unit.store.writer FOLDER die-at N VERB  one write that the kernel ends: see `die_at`

A line is written with one write(2) after the call returned, so whoever reads it knows that the
write was acknowledged.
"""

import os
import resource
import signal
import sys
from contextlib import closing
from pathlib import Path

from secret_agent.store import Store, keys
from secret_agent_client.errors import DeniedError
from unit.store.workshop import PASSPHRASE, Workshop, put

NEW = b"new passphrase"


def say(line: str) -> None:
    os.write(1, line.encode() + b"\n")


def put_many(shop: Workshop, count: int) -> None:
    with shop.unlocked() as store:
        start = len(store.history("app/a", ""))
        say("ready")
        for number in range(start + 1, start + count + 1):
            put(store, "app/a", b"%d" % number)
            say(f"put {number}")


def change_many(shop: Workshop, count: int) -> None:
    with closing(open_either(shop)) as store:
        say("ready")
        for _ in range(count):
            for old, new in ((PASSPHRASE, NEW), (NEW, PASSPHRASE)):
                try:
                    store.change_passphrase(old, new)
                except DeniedError:  # the previous writer died with the other one in force
                    continue
                say(new.decode())


def open_either(shop: Workshop) -> Store:
    """Open with whichever passphrase is in force."""
    try:
        return shop.unlock(PASSPHRASE)
    except DeniedError:
        return shop.unlock(NEW)


def die_at(shop: Workshop, limit: int, verb: str) -> None:
    """Write once, the kernel killing us at the first write past `limit` bytes of any file.

    SIGXFSZ comes inside of write(2), so each limit is another place in the course of the write.
    """
    if verb == "create":
        limit_files(limit)
        shop.create().close()
        say("done")
        return
    with shop.unlocked() as store:
        limit_files(limit)
        if verb == "put":
            put(store, "app/a", b"x" * 5000)
        elif verb == "purge":
            store.remove("app/b", "", purge=True)
        else:
            store.change_passphrase(PASSPHRASE, NEW)
        say("done")


def limit_files(limit: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))


def main(argv: list[str]) -> None:
    shop = Workshop(Path(argv[0]))
    with keys._for_tests_cheap():
        if argv[1] == "put":
            put_many(shop, int(argv[2]))
        elif argv[1] == "passwd":
            change_many(shop, int(argv[2]))
        else:
            die_at(shop, int(argv[2]), argv[3])


if __name__ == "__main__":
    main(sys.argv[1:])
