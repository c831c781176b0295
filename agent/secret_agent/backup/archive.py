"""Write and read backups: the store's versions as JSON lines inside an age file.  FORMAT.md.

    with open("backup.age", "wb") as out:
        write_backup(store, out, recipients=["age1…"], passphrase=None)
    for record in read_backup(source, identity=identity, passphrase=None): …

Rules that hold here: nothing in the clear is written anywhere; memory stays bounded whatever the
size; a record that was read belongs to a file that is whole up to there, so whoever must not take
half of a backup reads all of it first, or puts it inside of `Store.batch`.
"""

from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import BinaryIO

from secret_agent.backup.age import decrypt, encrypt
from secret_agent.backup.content import read_lines, write_lines
from secret_agent.backup.recipients import WORK_FACTOR
from secret_agent.store import Record, Store
from secret_agent_client.errors import UnavailableError

BackupRecord = Record


def write_backup(  # what, where to, for whom; all but two by keyword
    store: Store,
    out: BinaryIO,
    *,
    recipients: Sequence[str],
    passphrase: bytes | None,
    only: Container[tuple[str, str]] | None = None,
    work_factor: int = WORK_FACTOR,
) -> int:
    """Write every version that is not deleted; how many secrets, each stage of a name counted.

    `only`: the (name, stage) pairs to which to keep.  Raises InvalidError where a recipient is none
    or an item of the store was altered, UnavailableError where `out` refuses.
    """
    secrets = set()

    def counted() -> Iterator[Record]:
        for record in store.records(only):
            secrets.add((record.name, record.stage))
            yield record

    with _explained("written"):
        writer = encrypt(out, recipients=recipients, passphrase=passphrase, work_factor=work_factor)
        for line in write_lines(store.store_id, counted()):
            writer.write(line)
        writer.finish()
        out.flush()
    return len(secrets)


def read_backup(
    source: BinaryIO, *, identity: bytes | None, passphrase: bytes | None
) -> Iterator[BackupRecord]:
    """Every version in a backup, each secret's oldest first.

    Raises DeniedError for another key or passphrase; InvalidError where the file is malformed, cut
    or altered, which may come after records that were whole.
    """
    with _explained("read"):
        yield from read_lines(decrypt(source, identity=identity, passphrase=passphrase))


def newest_only(records: Iterable[BackupRecord]) -> Iterator[BackupRecord]:
    """Of each secret in each stage the last version alone: what to compare a living store with."""
    for _, versions in groupby(records, key=lambda record: (record.name, record.stage)):
        *_, newest = versions
        yield newest


@contextmanager
def _explained(done: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        why = (error.strerror or "unknown error").lower()
        raise UnavailableError(f"the backup cannot be {done}: {why}") from None
