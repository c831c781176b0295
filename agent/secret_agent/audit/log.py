"""Append to the audit log: all who wait share one write and one sync; who is answered has its
record on disk.

One thread writes, woken through a queue and answering through trio's token, which costs less than
a thread from trio's
pool for each batch.  A record gets its place in the chain when its batch is written, so a batch
that fails leaves no gap: the
next begins where the last good one ended.  While writing fails every append fails; each tries
anew, so that the log
recovers by itself when the disk does.
"""

import json
import queue
import threading
from collections.abc import Mapping
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


class AuditLog:
    """The log of one agent.  `append` may be called once `run` has started."""

    def __init__(self, folder: Path, *, clock: Clock, sync: Sync, max_file: int) -> None:
        self.folder = folder
        self.path = folder / CURRENT
        self.trouble: str | None = None
        self._clock = clock
        self._sync = sync == "group"
        self._max_file = max_file
        self._seq, self._digest = 0, GENESIS
        self._file: LogFile | None = None
        self._waiting: list[_Waiting] = []
        self._wake = trio.Event()
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
        self._wake.set()
        await entry.done.wait()
        if entry.failure is not None:
            raise UnavailableError(
                f"the audit log cannot be written: {entry.failure}", remedy="secret-agent doctor"
            )
        return entry.place

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write batches until cancelled; what waits then is written before the end."""
        jobs: queue.SimpleQueue[tuple[list[_Waiting], trio.Event] | None] = queue.SimpleQueue()
        token = trio.lowlevel.current_trio_token()
        thread = threading.Thread(target=self._work, args=(jobs, token), daemon=True)
        thread.start()
        task_status.started()
        try:
            while True:
                await self._wake.wait()
                await self._write_waiting(jobs)
        finally:
            with trio.CancelScope(shield=True):
                await self._write_waiting(jobs)
            jobs.put(None)
            thread.join()

    def read(self, **criteria: Any) -> list[dict[str, Any]]:
        """Records, oldest first; see reading.read."""
        return read(self.folder, **criteria)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    async def _write_waiting(
        self, jobs: "queue.SimpleQueue[tuple[list[_Waiting], trio.Event] | None]"
    ) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
            written = trio.Event()
            jobs.put((batch, written))
            await written.wait()
            for entry in batch:
                entry.done.set()
        self._wake = trio.Event()

    def _work(
        self,
        jobs: "queue.SimpleQueue[tuple[list[_Waiting], trio.Event] | None]",
        token: trio.lowlevel.TrioToken,
    ) -> None:
        while (job := jobs.get()) is not None:
            batch, written = job
            self._write(batch)
            token.run_sync_soon(written.set)

    def _write(self, batch: list[_Waiting]) -> None:
        """Chain and write a batch; in the thread."""
        wall_s = self._clock.wall()
        seq, digest = self._seq, self._digest
        lines = []
        for fields in [*self._notes, *(entry.fields for entry in batch)]:
            record = encode(seq + 1, wall_s, digest, fields)
            seq, digest = record.seq, record.digest
            lines.append(record.line)
        places = range(seq - len(batch) + 1, seq + 1)
        try:
            self._put(b"\n".join(lines) + b"\n")
        except (OSError, InvalidError) as error:
            self._fail(batch, error)
            return
        self._seq, self._digest, self._notes = seq, digest, []
        self.trouble = None
        for entry, place, line in zip(batch, places, lines[-len(batch) :], strict=True):
            entry.place = (place, _digest_in(line))

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

    def _fail(self, batch: list[_Waiting], error: OSError | InvalidError) -> None:
        reason = error.message if isinstance(error, InvalidError) else error.strerror or "I/O error"
        self.trouble = reason
        for entry in batch:
            entry.failure = reason
        # After a failed sync what the kernel holds of the file cannot be trusted: begin with a new
        # descriptor.
        self.close()

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
            last = self._file.last_line()
        if not last:
            last = self._last_of_full_files()
        if last:
            self._take_up(last.rstrip(b"\n"))

    def _last_of_full_files(self) -> bytes:
        full = files_of(self.folder)[:-1]
        return full[-1].read_bytes().splitlines(keepends=True)[-1] if full else b""

    def _take_up(self, line: bytes) -> None:
        record, digests = decode(line), digest_of(line)
        if record is None or digests is None or digests[0] != digests[1]:
            raise InvalidError(
                f"the last record of {self.path} was altered",
                remedy=f"mv {self.path} {self.path}.altered",
            )
        self._seq, self._digest = record["seq"], digests[0]


def _digest_in(line: bytes) -> str:
    return line[-66:-2].decode()
