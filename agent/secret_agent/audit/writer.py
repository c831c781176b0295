"""The side of the log that blocks: puts batches on disk, rotates, prunes, mends.  One thread calls
it, one batch at a time; `notes` may be read by another while no batch is under way.

What the log does to itself is told in the chain: it becomes a note, which is recorded with the next
batch.  A file is pruned only after the record that says so is on disk, so that a crash in between
leaves a file too many and never a gap that nothing explains.
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from secret_agent.audit.files import files_of, first_seq, full_files, last_line
from secret_agent.audit.logfile import LogFile
from secret_agent.audit.record import GENESIS, decode, digest_of
from secret_agent.clock import Clock
from secret_agent_client.errors import InvalidError
from secret_agent_client.private_file import quoted

RETRY_S = 0.25  # between two attempts to mend a file, each of which may copy all of it


@dataclass(frozen=True, slots=True)
class Note:
    """What the log did to itself, as a record's fields; and the file that goes once it is
    recorded.
    """

    fields: Mapping[str, Any]
    doomed: Path | None = None


class Writer:
    """The files of one folder.  `trouble`: why the last batch could not be written, or None."""

    def __init__(
        self, folder: Path, *, clock: Clock, sync: bool, max_file: int, max_files: int
    ) -> None:
        self.notes: list[Note] = []
        self.trouble: str | None = None
        self.pruned = 0  # the number of the last record that is not kept any more
        self._folder = folder
        self._clock = clock
        self._sync = sync
        self._max_file, self._max_files = max_file, max_files
        self._mend_at = 0.0  # boot time
        self._file = LogFile(folder)

    def begin(self) -> tuple[int, str]:
        """Take up the chain where the last good line ends: its number and digest.

        Raises InvalidError where that line was altered, OSError.
        """
        aside = self._file.cut_torn_tail()
        if aside is not None:
            self._note_repair(f"what a crash left half written was moved to {aside.name}")
        files = files_of(self._folder)
        self.pruned = (first_seq(files[0]) or 1) - 1
        last, path = self._file.last_line(), self._file.path
        if not last and len(files) > 1:
            path = files[-2]
            last = _last_of(path)
        return _taken_up(last, path) if last else (0, GENESIS)

    def put(self, data: bytes, notes: int) -> str | None:
        """Write a batch that holds the first so many notes; why it could not be, or None."""
        try:
            self._put(data)
        except OSError as error:
            self.trouble = error.strerror or "I/O error"
        else:
            self.trouble = None
            done, self.notes = self.notes[:notes], self.notes[notes:]
            for note in done:
                self._remove(note)
        return self.trouble

    def close(self) -> None:
        self._file.close()

    def _put(self, data: bytes) -> None:
        if self.trouble is not None:
            self._mend()
        if self._file.size and self._file.size + len(data) > self._max_file:
            self._file.rotate()
            self._plan_pruning()
        self._file.append(data, sync=self._sync)

    def _mend(self) -> None:
        now = self._clock.boot()
        if now < self._mend_at:
            raise OSError(0, self.trouble)
        self._mend_at = now + RETRY_S
        told = self._file.mend()
        self._mend_at = 0.0
        if told is not None:
            self._note_repair(told)

    def _plan_pruning(self) -> None:
        """Note which full files are too many: they go once that is recorded."""
        full = [*full_files(self._folder), self._file.path]
        planned = {note.doomed for note in self.notes}
        for path, following in pairwise(full[: max(0, len(full) - self._max_files)]):
            first = first_seq(following)
            if first is not None and path not in planned:
                fields = _own("prune") | {
                    "pruned": first - 1,
                    "because": f"only {self._max_files} full files are kept",
                }
                self.notes.append(Note(fields, path))

    def _remove(self, note: Note) -> None:
        if note.doomed is not None:
            with suppress(OSError):  # it is planned again at the next rotation
                note.doomed.unlink(missing_ok=True)
                self.pruned = max(self.pruned, note.fields["pruned"])

    def _note_repair(self, what: str) -> None:
        self.notes.append(Note(_own("repair") | {"because": what}))


def _own(action: str) -> dict[str, Any]:
    return {"event": "audit", "action": action, "outcome": "done"}


def _last_of(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        return last_line(descriptor, os.fstat(descriptor).st_size)
    finally:
        os.close(descriptor)


def _taken_up(line: bytes, path: Path) -> tuple[int, str]:
    line = line.removesuffix(b"\n")
    record, digests = decode(line), digest_of(line)
    if record is None or digests is None or digests[0] != digests[1]:
        raise InvalidError(
            f"the last record of {path} was altered",
            remedy=f"mv {quoted(str(path))} {quoted(f'{path}.altered')}",
        )
    return record["seq"], digests[0]
