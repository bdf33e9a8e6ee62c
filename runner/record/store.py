"""The one writer of a run folder: images first, then the journal, everything durable on return.

Images are written by a few threads, each file with its own fsync, because disks take many syncs at
once. One more thread appends to the journal. It takes all records that wait, makes their folders
durable, and writes and syncs them together, so the price of a sync is shared by everything in
flight (group commit). Records of calls that are only being sent never wait for images.

Nothing is buffered beyond what the callers hold themselves: whoever bounds the bytes in flight
bounds the memory. After an I/O error the callers concerned get it, the journal is cut back to its
last durable record, images without a record are removed, and the store can be used again.
"""

from __future__ import annotations

import asyncio
import datetime
import errno
import os
import queue
import re
import socket
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from runner.record.atomic import fsync_folder, put, put_link, write_all
from runner.record.crash import crash_point
from runner.record.journal import Record, encode
from runner.record.lock import FolderLock
from runner.record.paths import RunPaths
from runner.record.rows import AttemptRecord, NoteRecord, OpenRecord, SentRecord
from runner.settings.errors import PrerequisiteError

_IMAGE_THREADS = 8
_NEW_JOURNAL = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC


@dataclass(slots=True)
class _Waiting:
    """A record on its way to the journal, and who waits for it."""

    line: bytes
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[None]
    files: Mapping[Path, bytes | Path]
    adopted: set[Path] = field(default_factory=set)
    written: list[Path] = field(default_factory=list)
    shards: set[Path] = field(default_factory=set)
    error: Exception | None = None


class RunStore:
    """Writes images and journal of one run. Made by :meth:`open`; one event loop uses it.

    Attributes:
        repairs: What :meth:`open` mended after a process that was killed, one sentence each.
    """

    def __init__(
        self, paths: RunPaths, plan_hash: str, lock: FolderLock, repairs: Sequence[str]
    ) -> None:
        self.repairs = tuple(repairs)
        self._paths = paths
        self._lock = lock
        self._opening = OpenRecord(
            at=_now(), plan_hash=plan_hash, host=socket.gethostname(), pid=os.getpid()
        )
        self._file: int | None = None
        self._size = 0
        self._broken: BaseException | None = None
        self._closed = False
        self._durable_shards: set[Path] = set()
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._images: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._writers = [
            threading.Thread(target=self._write_images, name=f"runner-images-{number}", daemon=True)
            for number in range(_IMAGE_THREADS)
        ]
        self._journalist = threading.Thread(target=self._run, name="runner-journal", daemon=True)
        for thread in (*self._writers, self._journalist):
            thread.start()

    @classmethod
    def open(cls, paths: RunPaths, plan_hash: str) -> RunStore:
        """Take a run folder for writing, and clean up after a process that was killed.

        The journal file is made with the first record, so a run that has nothing to do leaves none.

        Args:
            paths: The run folder, which must exist.
            plan_hash: Hash of the plan whose indices the records will use.

        Raises:
            PrerequisiteError: The folder is gone or cannot be written, or another live process
                writes it. Nothing was changed.
        """
        try:
            # Taking the lock writes and syncs a file: it proves that the folder can be written.
            lock = FolderLock(paths.lock)
        except OSError as error:
            raise _unwritable(paths.root, error) from None
        try:
            repairs = _prepare(paths, after_crash=lock.taken_over)
        except OSError as error:
            lock.release()
            raise _unwritable(paths.root, error) from None
        return cls(paths, plan_hash, lock, repairs)

    async def sent(self, record: SentRecord) -> None:
        """Journal a call that is about to leave; durable on return.

        Raises:
            OSError: The disk is full or gone; the call must not be sent.
        """
        await self._append(record)

    async def note(self, record: NoteRecord) -> None:
        """Journal a fact of a call in flight; durable on return.

        Raises:
            OSError: The disk is full or gone.
        """
        await self._append(record)

    async def commit(self, record: AttemptRecord, files: Mapping[str, bytes | Path]) -> None:
        """Write the images of an attempt, then its record; all durable on return.

        Args:
            record: The attempt.
            files: Name under ``images/`` to bytes, or to a file of another run that is linked. A
                row of the record whose file is not among them adopts one that is already there.

        Raises:
            OSError: The disk is full or gone, or a file to adopt is missing: neither the images
                nor the record were kept.
            ValueError: A name is not one of :func:`~runner.record.paths.image_name`.
        """
        await self._append(record, {self._paths.image(name): data for name, data in files.items()})

    async def keep_extras(self, file_name: str, extras: Mapping[str, bytes]) -> None:
        """Write further files of an image, such as partial ones, before its record.

        Raises:
            OSError: The disk is full or gone.
            ValueError: A name may lead anywhere.
        """
        for name, data in extras.items():
            path = self._paths.extra(file_name, name)
            path.parent.mkdir(exist_ok=True)
            await asyncio.to_thread(put, path, data)

    def close(self) -> None:
        """Finish what waits and release the folder. A second time, nothing happens."""
        if self._closed:
            return
        self._closed = True
        for _ in self._writers:
            self._images.put(None)
        for thread in self._writers:
            thread.join()
        self._queue.put(None)
        self._journalist.join()
        if self._file is not None:
            os.close(self._file)
        self._lock.release()

    async def _append(
        self, record: Record, files: Mapping[Path, bytes | Path] | None = None
    ) -> None:
        if self._closed:
            raise RuntimeError("the run store is closed")
        loop = asyncio.get_running_loop()
        item = _Waiting(encode(record), loop, loop.create_future(), files or {})
        if isinstance(record, AttemptRecord):
            named = {self._paths.image(row.file_name) for row in record.images}
            item.adopted = named.difference(item.files)
        (self._images if item.files or item.adopted else self._queue).put(item)
        await item.future

    def _write_images(self) -> None:
        """An image thread: whole attempts, one after the other."""
        while (item := self._images.get()) is not None:
            try:
                for path in item.adopted:
                    path.stat()
                    item.shards.add(path.parent)
                for path, data in item.files.items():
                    shard = path.parent
                    if shard not in self._durable_shards:
                        shard.mkdir(exist_ok=True)
                    if isinstance(data, Path):
                        put_link(path, data)
                    else:
                        put(path, data, "image")
                    item.written.append(path)
                    item.shards.add(shard)
            except Exception as error:
                item.error = error
            self._queue.put(item)

    def _run(self) -> None:
        """The journal thread: everything that waits is one group."""
        last = False
        while not last:
            group = [self._queue.get()]
            with suppress(queue.Empty):
                while True:
                    group.append(self._queue.get_nowait())
            last = None in group
            self._write_group([item for item in group if item is not None])

    def _write_group(self, group: list[_Waiting]) -> None:
        good = [item for item in group if item.error is None]
        try:
            if good:
                self._sync_folders({shard for item in good for shard in item.shards})
                self._write(b"".join(item.line for item in good))
        except Exception as error:
            for item in good:
                item.error = error
        for item in group:
            # After a failed cut the record may be there after all: then its image has to stay.
            if item.error is not None and self._broken is None:
                for path in item.written:
                    with suppress(OSError):
                        path.unlink()
        by_loop: dict[asyncio.AbstractEventLoop, list[_Waiting]] = {}
        for item in group:
            by_loop.setdefault(item.loop, []).append(item)
        for loop, items in by_loop.items():
            with suppress(RuntimeError):  # the loop was closed: nobody waits any more
                loop.call_soon_threadsafe(_wake, items)

    def _sync_folders(self, shards: set[Path]) -> None:
        for shard in shards:
            fsync_folder(shard)
        new = shards - self._durable_shards
        if new:
            fsync_folder(self._paths.images)
            self._durable_shards |= new

    def _write(self, lines: bytes) -> None:
        """Append to the journal, durably or not at all."""
        if self._broken is not None:
            raise self._broken
        if self._file is None:
            self._file = self._new_journal()
        if self._size == 0:
            lines = encode(self._opening) + lines
        try:
            crash_point("journal.before_write")
            write_all(self._file, lines, "journal.torn")
            crash_point("journal.before_fsync")
            os.fsync(self._file)
            crash_point("journal.after_fsync")
        except BaseException:
            self._cut_back(self._file)
            raise
        self._size += len(lines)

    def _cut_back(self, file: int) -> None:
        try:
            os.ftruncate(file, self._size)
            os.fsync(file)
        except OSError as error:
            self._broken = error

    def _new_journal(self) -> int:
        """Files are numbered, so that their order does not hang on a clock."""
        number = max((_number(path) for path in self._paths.journal_files()), default=0) + 1
        host = re.sub(r"[^A-Za-z0-9]+", "-", self._opening.host)
        stamp = re.sub(r"[^0-9]", "", self._opening.at[:19])
        path = self._paths.journal / f"{number:04d}-{host}-{self._opening.pid}-{stamp}.jsonl"
        file = os.open(path, _NEW_JOURNAL, 0o666)
        try:
            fsync_folder(self._paths.journal)
        except BaseException:
            os.close(file)
            path.unlink()
            raise
        return file


def _wake(items: list[_Waiting]) -> None:
    for item in items:
        if item.future.cancelled():
            continue
        if item.error is None:
            item.future.set_result(None)
        else:
            item.future.set_exception(item.error)


def _prepare(paths: RunPaths, *, after_crash: bool) -> list[str]:
    """Make and check the folders, and clean up after a killed process; what was done, in words."""
    for folder in (paths.journal, paths.images):
        folder.mkdir(exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
    fsync_folder(paths.root)
    repairs: list[str] = []
    if after_crash:
        for path in paths.temp_files():
            path.unlink()
        for file in paths.journal_files()[-1:]:
            if cut := _cut_torn_tail(file):
                repairs.append(f"{file.name}: a half-written record of {cut:,} bytes was removed")
    return repairs


def _unwritable(root: Path, error: OSError) -> PrerequisiteError:
    return PrerequisiteError(
        f"cannot write to the run folder {root} ({error.strerror}: {error.filename}): "
        "make room or access there, or choose another folder with hydra.run.dir=…"
    )


def _cut_torn_tail(file: Path) -> int:
    """Remove what follows the last newline: a record that was never confirmed to anyone.

    Returns:
        The bytes that were removed.
    """
    with file.open("r+b") as journal:
        size = at = journal.seek(0, os.SEEK_END)
        while at > 0:
            start = max(0, at - 65536)
            journal.seek(start)
            newline = journal.read(at - start).rfind(b"\n")
            if newline >= 0:
                at = start + newline + 1
                break
            at = start
        if at < size:
            journal.truncate(at)
            journal.flush()
            os.fsync(journal.fileno())
    return size - at


def _number(path: Path) -> int:
    return int(path.name.partition("-")[0])


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
