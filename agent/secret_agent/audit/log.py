"""Append to the audit log: all who wait share one write and one sync; who is answered has its
record on disk.

Records are chained in the trio thread, at the end of the turn in which they came, so that all
requests of one turn are one batch; one thread does nothing but write and sync.  (A thread that also
encodes fights with the loop for the interpreter: measured, a third of the throughput.)  While a
batch is being written the next one gathers.

A record gets its place in the chain when its batch is written, so a batch that fails leaves no gap:
the next begins where the last good one ended.  While writing fails every append fails; each tries
anew, so that the log recovers by itself when the disk does.
"""

import json
import queue
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import trio

from secret_agent.audit.files import CURRENT, LogFile, files_of, sync_folder
from secret_agent.audit.reading import read
from secret_agent.audit.record import GENESIS, decode, digest_of, encode
from secret_agent.clock import Clock
from secret_agent_client.errors import InvalidError, UnavailableError

Sync = Literal["group", "none"]
MAX_FILE = 16 * 1024 * 1024  # bytes at which a new file is begun
MAX_FILES = 16  # full files that are kept
MAX_BATCH = 1024  # records of one write


class _Waiting:
    """One record that waits for its batch."""

    __slots__ = ("done", "failure", "fields", "place")

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self.fields = fields
        self.done = trio.Event()
        self.place = (0, "")
        self.failure: str | None = None


class _Batch:
    """Records chained and encoded: what one write holds."""

    def __init__(
        self,
        entries: list[_Waiting],
        notes: list[dict[str, Any]],
        seq: int,
        prev: str,
        wall_s: float,
    ) -> None:
        self.entries = entries
        self.notes = len(notes)
        self.failure: str | None = None
        lines = []
        for fields in notes:
            record = encode(seq + 1, wall_s, prev, fields)
            seq, prev = record.seq, record.digest
            lines.append(record.line)
        for entry in entries:
            record = encode(seq + 1, wall_s, prev, entry.fields)
            entry.place = seq, prev = record.seq, record.digest
            lines.append(record.line)
        self.seq, self.digest = seq, prev
        self.lines = lines
        self.data = b"\n".join(lines) + b"\n"

    def answer(self) -> None:
        """Tell all who wait."""
        for entry in self.entries:
            entry.failure = self.failure
            entry.done.set()


class AuditLog:
    """The log of one agent.  `append` may be called once `run` has started."""

    def __init__(self, folder: Path, *, clock: Clock, sync: Sync, max_file: int) -> None:
        self.folder = folder
        self.path = folder / CURRENT
        self.trouble: str | None = None
        self.told: Callable[[bytes], None] | None = None  # hears each line that is on disk
        self._clock = clock
        self._sync = sync == "group"
        self._max_file = max_file
        self._seq, self._digest = 0, GENESIS
        self._file: LogFile | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._waiting: list[_Waiting] = []
        self._busy = False  # a batch is being made or written
        self._jobs: queue.SimpleQueue[_Batch | None] = queue.SimpleQueue()
        self._notes: list[dict[str, Any]] = []

    @classmethod
    def open(
        cls, folder: Path, *, clock: Clock, sync: Sync = "group", max_file: int = MAX_FILE
    ) -> "AuditLog":
        """Find the end of the chain.  Raises InvalidError (not ours, last record damaged),
        UnavailableError.
        """
        log = cls(folder, clock=clock, sync=sync, max_file=max_file)
        try:
            log._begin()
        except OSError as error:
            raise UnavailableError(f"the audit log cannot be opened: {error.strerror}") from None
        return log

    @property
    def head(self) -> tuple[int, str]:
        """(sequence number, digest) of the last record that is on disk."""
        return self._seq, self._digest

    @property
    def records(self) -> int:
        return self._seq

    async def append(self, fields: Mapping[str, Any]) -> tuple[int, str]:
        """(sequence number, digest) of the record, once it is durable.  Raises UnavailableError."""
        entry = _Waiting(fields)
        self._waiting.append(entry)
        self._schedule()
        await entry.done.wait()
        if entry.failure is not None:
            raise UnavailableError(
                f"the audit log cannot be written: {entry.failure}", remedy="secret-agent doctor"
            )
        return entry.place

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write until cancelled; what waits at the end is written."""
        self._token = trio.lowlevel.current_trio_token()
        thread = threading.Thread(target=self._work, args=(self._token,), daemon=True)
        thread.start()
        task_status.started()
        self._schedule()
        try:
            await trio.sleep_forever()
        finally:
            self._jobs.put(None)
            thread.join()
            self._write_last()

    def read(self, **criteria: Any) -> list[dict[str, Any]]:
        """Records, oldest first; see reading.read."""
        return read(self.folder, **criteria)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _schedule(self) -> None:
        """Have a batch made at the end of this turn, unless one is being made or written."""
        if not self._busy and self._token is not None and self._waiting:
            self._busy = True
            self._token.run_sync_soon(self._submit)

    def _submit(self) -> None:
        self._jobs.put(self._next_batch())

    def _next_batch(self) -> "_Batch":
        """Chain what waits, behind the last record that is on disk."""
        waiting, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
        return _Batch(waiting, self._notes, self._seq, self._digest, self._clock.wall())

    def _work(self, token: trio.lowlevel.TrioToken) -> None:
        """The thread: writes one batch at a time."""
        while (batch := self._jobs.get()) is not None:
            batch.failure = self._try_to_put(batch.data)
            token.run_sync_soon(self._written, batch)

    def _written(self, batch: "_Batch") -> None:
        """A batch was written or was not: move the head, answer, go on."""
        self._busy = False
        self.trouble = batch.failure
        if batch.failure is None:
            self._seq, self._digest = batch.seq, batch.digest
            self._notes = self._notes[batch.notes :]
        if batch.failure is None and self.told is not None:
            for line in batch.lines:
                self.told(line)
        batch.answer()
        self._schedule()

    def _write_last(self) -> None:
        """After the thread has ended: what it wrote but could not tell any more, and what still
        waits.
        """
        self._seq, self._digest = self._end_on_disk()
        if self._waiting or self._notes:
            batch = self._next_batch()
            batch.failure = self._try_to_put(batch.data)
            self._written(batch)

    def _try_to_put(self, data: bytes) -> str | None:
        """Why the data could not be written, or None."""
        try:
            self._put(data)
        except (OSError, InvalidError) as error:
            # After a failed sync what the kernel holds of the file cannot be trusted: the next
            # attempt begins with a new descriptor.
            self.close()
            if isinstance(error, InvalidError):
                return error.message
            return error.strerror or "I/O error"
        return None

    def _put(self, data: bytes) -> None:
        if self._file is None:
            self._file = LogFile(self.folder)
            sync_folder(self.folder)
        if self._file.size and self._file.size + len(data) > self._max_file:
            self._file.rotate()
            self._prune()
        self._file.append(data, sync=self._sync)

    def _prune(self) -> None:
        """Remove the oldest full files; the chain itself says up to where, in the next batch."""
        full = files_of(self.folder)[:-1]
        for path in full[:-MAX_FILES]:
            last = json.loads(path.read_bytes().splitlines()[-1])
            self._notes.append(
                {
                    "event": "audit",
                    "action": "prune",
                    "outcome": "done",
                    "because": f"the oldest file is removed, up to record {last['seq']}",
                }
            )
            path.unlink()

    def _begin(self) -> None:
        """Take up the chain where the last good line ends, a torn one moved aside."""
        self._file = LogFile(self.folder)
        last = self._file.last_line()
        if last and not last.endswith(b"\n"):
            aside = self._file.cut_torn_line(last)
            self._notes.append(
                {
                    "event": "audit",
                    "action": "repair",
                    "outcome": "done",
                    "because": f"a line that a crash left half written was moved to {aside.name}",
                }
            )
        self._seq, self._digest = self._end_on_disk()

    def _end_on_disk(self) -> tuple[int, str]:
        """(sequence number, digest) of the last record.  Raises InvalidError where it was
        altered.
        """
        last = self._file.last_line() if self._file is not None else b""
        if not last:
            last = self._last_of_full_files()
        return self._taken_up(last.rstrip(b"\n")) if last else (0, GENESIS)

    def _last_of_full_files(self) -> bytes:
        full = files_of(self.folder)[:-1]
        return full[-1].read_bytes().splitlines(keepends=True)[-1] if full else b""

    def _taken_up(self, line: bytes) -> tuple[int, str]:
        record, digests = decode(line), digest_of(line)
        if record is None or digests is None or digests[0] != digests[1]:
            raise InvalidError(
                f"the last record of {self.path} was altered",
                remedy=f"mv {self.path} {self.path}.altered",
            )
        return record["seq"], digests[0]
