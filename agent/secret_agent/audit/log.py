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

import fcntl
import os
import queue
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import trio

from secret_agent.audit.files import CURRENT, open_folder
from secret_agent.audit.reading import read
from secret_agent.audit.record import Prepared, chain, prepare, time_text
from secret_agent.audit.verify import Verified, verify
from secret_agent.audit.writer import Writer
from secret_agent.clock import Clock
from secret_agent_client.errors import UnavailableError

Sync = Literal["group", "none"]
MAX_FILE = 16 * 1024 * 1024  # bytes at which a new file is begun
MAX_FILES = 16  # full files that are kept
MAX_BATCH = 1024  # records of one write
END_S = 5.0  # for writing what waits when the log ends; a disk that hangs must not hang the agent


class _Waiting:
    """One record that waits for its batch."""

    __slots__ = ("done", "failure", "place", "record")

    def __init__(self, record: Prepared) -> None:
        self.record = record
        self.done = trio.Event()
        self.place = (0, "")
        self.failure: str | None = None


class _Batch:
    """Records chained and encoded: what one write holds, what the log notes of itself first."""

    def __init__(
        self,
        entries: list[_Waiting],
        notes: list[Prepared],
        *,
        head: tuple[int, str],
        wall_s: float,
    ) -> None:
        self.entries = entries
        self.notes = len(notes)
        self.failure: str | None = None
        self.lines: list[bytes] = []
        self._time = time_text(wall_s)
        self.head = head
        for note in notes:
            self._chain(note)
        for entry in entries:
            entry.place = self._chain(entry.record)
        self.data = b"\n".join(self.lines) + b"\n"

    def _chain(self, record: Prepared) -> tuple[int, str]:
        seq, prev = self.head
        chained = chain(record, seq=seq + 1, time=self._time, prev=prev)
        self.lines.append(chained.line)
        self.head = chained.seq, chained.digest
        return self.head

    def answer(self, failure: str | None) -> None:
        """Tell all who wait."""
        for entry in self.entries:
            entry.failure = failure
            entry.done.set()


class AuditLog:
    """The log of one agent.  `append` may be called once `run` has started."""

    def __init__(self, folder: Path, *, clock: Clock, lock: int, writer: Writer) -> None:
        self.folder = folder
        self.path = folder / CURRENT
        self.trouble: str | None = None
        self.told: Callable[[bytes], None] | None = None  # hears each line that is on disk
        self.head = writer.begin()
        """(sequence number, digest) of the last record that is on disk."""
        self._clock = clock
        self._lock = lock
        self._writer = writer
        self._token: trio.lowlevel.TrioToken | None = None
        self._waiting: list[_Waiting] = []
        self._batch: _Batch | None = None  # is being written
        self._is_busy = False  # a batch is about to be made, or is being written
        self._idle = trio.Event()
        self._jobs: queue.SimpleQueue[_Batch | None] = queue.SimpleQueue()

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        clock: Clock,
        sync: Sync = "group",
        max_file: int = MAX_FILE,
        max_files: int = MAX_FILES,
    ) -> "AuditLog":
        """Find the end of the chain.

        Raises InvalidError (not ours alone, last record altered), UnavailableError (the disk, or
        another agent that writes here).
        """
        try:
            with ExitStack() as undo:
                lock = _lock(folder)
                undo.callback(os.close, lock)
                writer = Writer(
                    folder,
                    clock=clock,
                    sync=sync == "group",
                    max_file=max_file,
                    max_files=max_files,
                )
                undo.callback(writer.close)
                log = cls(folder, clock=clock, lock=lock, writer=writer)
                undo.pop_all()
                return log
        except OSError as error:
            raise UnavailableError(f"the audit log cannot be opened: {error.strerror}") from None

    @property
    def records(self) -> int:
        """How many records are kept."""
        return self.head[0] - self._writer.pruned

    async def append(self, fields: Mapping[str, Any]) -> tuple[int, str]:
        """(sequence number, digest) of the record, once it is durable.  Raises UnavailableError."""
        entry = _Waiting(prepare(fields))
        if self._token is None:
            raise _unavailable("it is closed")
        self._waiting.append(entry)
        self._schedule()
        await entry.done.wait()
        if entry.failure is not None:
            raise _unavailable(entry.failure)
        return entry.place

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write until cancelled; what waits at the end is written."""
        self._token = trio.lowlevel.current_trio_token()
        # A daemon: a disk that hangs must not keep the process from ending.
        threading.Thread(target=self._work, args=(self._token,), name="audit", daemon=True).start()
        task_status.started()
        try:
            await trio.sleep_forever()
        finally:
            with trio.move_on_after(END_S, shield=True):
                await self._drain()
            self._token = None
            self._jobs.put(None)
            self._give_up()

    def read(self, **criteria: Any) -> list[dict[str, Any]]:
        """Records that are on disk, oldest first; see reading.read.  Blocking.

        Raises UnavailableError.
        """
        try:
            return read(self.folder, until=self.head[0], **criteria)
        except OSError as error:
            raise _unavailable(error.strerror or "I/O error", to="read") from None

    def verify(self, *, anchors: Iterable[tuple[int, str]] = ()) -> Verified:
        """Walk the chain as far as it is on disk, against its head and these.  Blocking.

        Raises UnavailableError.
        """
        head = self.head
        try:
            return verify(self.folder, anchors=(*anchors, head), until=head[0])
        except OSError as error:
            raise _unavailable(error.strerror or "I/O error", to="read") from None

    def close(self) -> None:
        """Let go of the files and of the folder's lock."""
        if self._lock >= 0:
            self._writer.close()
            os.close(self._lock)
            self._lock = -1

    def _schedule(self) -> None:
        """Have a batch made at the end of this turn, unless one is being made or written."""
        if not self._is_busy and self._token is not None and self._waiting:
            self._is_busy = True
            self._token.run_sync_soon(self._submit)

    def _submit(self) -> None:
        """Chain what waits behind the last record that is on disk, and hand it to the thread."""
        waiting, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
        notes = [prepare(note.fields) for note in self._writer.notes]
        self._batch = _Batch(waiting, notes, head=self.head, wall_s=self._clock.wall())
        self._jobs.put(self._batch)

    def _work(self, token: trio.lowlevel.TrioToken) -> None:
        """The thread: writes one batch at a time."""
        while (batch := self._jobs.get()) is not None:
            try:
                batch.failure = self._writer.put(batch.data, batch.notes)
            except Exception as error:  # noqa: BLE001  # if the thread died, all would wait for ever
                batch.failure = f"a bug, {type(error).__name__}"
            try:
                token.run_sync_soon(self._written, batch)
            except trio.RunFinishedError:  # the disk hung, and the agent ended without us
                return

    def _written(self, batch: _Batch) -> None:
        """A batch was written or was not: move the head, answer, go on."""
        self._is_busy, self._batch = False, None
        self.trouble = batch.failure
        if batch.failure is None:
            self.head = batch.head
            if self.told is not None:
                for line in batch.lines:
                    self.told(line)
        batch.answer(batch.failure)
        self._idle.set()
        self._schedule()

    async def _drain(self) -> None:
        """Write what waits, and what the log still has to say of itself."""
        await trio.lowlevel.checkpoint()  # who was cancelled in the same turn puts its record first
        while self._is_busy or self._waiting:
            await self._until_written()
        if self._writer.notes:
            self._is_busy = True
            self._submit()
            await self._until_written()

    async def _until_written(self) -> None:
        self._idle = trio.Event()
        await self._idle.wait()

    def _give_up(self) -> None:
        """Nobody waits for a disk that hangs."""
        if self._batch is not None:
            self._batch.answer("it ended before the record was written")
        for entry in self._waiting:
            entry.failure = "it ended before the record was written"
            entry.done.set()


def _lock(folder: Path) -> int:
    """A descriptor of the folder, locked: two writers would tear the chain apart."""
    descriptor = open_folder(folder)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise UnavailableError(
            "another agent writes the audit log of this folder", remedy="secret-agent status"
        ) from None
    return descriptor


def _unavailable(why: str, *, to: str = "written") -> UnavailableError:
    return UnavailableError(f"the audit log cannot be {to}: {why}", remedy="secret-agent doctor")
