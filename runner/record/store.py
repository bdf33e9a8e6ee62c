"""The one writer of a run folder: images first, then the journal, everything durable on return.

The writing itself is done by a process of its own, see :mod:`runner.record.writer`; here records
are encoded, handed over, and waited for. Nothing is buffered beyond what the callers hold
themselves: whoever bounds the bytes in flight bounds the memory. After an I/O error the callers
concerned get it, the journal is cut back to its last durable record, images without a record are
removed, and the store can be used again.
"""

from __future__ import annotations

import asyncio
import datetime
import errno
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import runner
from runner.record.atomic import fsync_folder, put
from runner.record.journal import Record, encode
from runner.record.lock import FolderLock
from runner.record.paths import RunPaths, check_image_name
from runner.record.rows import AttemptRecord, NoteRecord, OpenRecord, SentRecord
from runner.record.writer import LANES, Opening, Order, error_from, frame, pack
from runner.settings.errors import PrerequisiteError

Start = Callable[[Sequence[socket.socket], int], Callable[[], object]]
"""Starts a writer on ends of socket pairs, with a lock's file to hold; returns what waits for its
end."""

_CODE = "import sys; sys.path.insert(0, sys.argv[1]); from runner.record.writer import main; main()"
_PACKAGES = str(Path(runner.__file__).parents[1])
_ON_THE_WAY = 1_000_000
"""Bytes that a socket shall hold; the kernel has its own limit."""


def start_process(lanes: Sequence[socket.socket], lock: int) -> Callable[[], object]:
    """Start the writer as a process, which holds the folder's lock for as long as it writes."""
    files = [lane.fileno() for lane in lanes]
    child = subprocess.Popen(
        # Without site: it needs the standard library and this package alone, and starts at once.
        [sys.executable, "-S", "-P", "-c", _CODE, _PACKAGES, *map(str, files)],
        pass_fds=[*files, lock],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        # Ctrl-C in a terminal reaches a whole group, and a run that stops has more to write.
        process_group=0,
    )
    for lane in lanes:
        lane.close()
    return child.wait


class RunStore:
    """Writes images and journal of one run. Made by :meth:`open`; one event loop uses it.

    Attributes:
        repairs: What :meth:`open` mended after a process that was killed, one sentence each.
    """

    def __init__(
        self,
        paths: RunPaths,
        lock: FolderLock,
        repairs: Sequence[str],
        lanes: _Lanes,
        ended: Callable[[], object],
    ) -> None:
        self.repairs = tuple(repairs)
        self._paths = paths
        self._lock = lock
        self._lanes = lanes
        self._ended = ended
        self._closed = False

    @classmethod
    async def open(cls, paths: RunPaths, plan_hash: str, start: Start = start_process) -> RunStore:
        """Take a run folder for writing, and clean up after a process that was killed.

        The journal file is made with the first record, so a run that has nothing to do leaves none.

        Args:
            paths: The run folder, which must exist.
            plan_hash: Hash of the plan whose indices the records will use.
            start: How the writer is started.

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
        lanes = _Lanes()
        pairs = [socket.socketpair() for _ in range(LANES)]
        try:
            ended = start([theirs for _, theirs in pairs], lock.file)
            for ours, _ in pairs:
                await lanes.add(ours)
        except BaseException:
            for ours, _ in pairs:
                ours.close()
            lock.release()
            raise
        lanes.tell(_opening(paths, plan_hash))
        return cls(paths, lock, repairs, lanes, ended)

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
        adopted = [row.file_name for row in record.images if row.file_name not in files]
        for name in (*files, *adopted):
            check_image_name(name)
        await self._append(record, files, adopted)

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

    async def close(self) -> None:
        """Finish what waits and release the folder. A second time, nothing happens."""
        if self._closed:
            return
        self._closed = True
        self._lanes.end()
        await asyncio.to_thread(self._ended)
        await self._lanes.gone.wait()
        self._lock.release()

    def _append(
        self,
        record: Record,
        files: Mapping[str, bytes | Path] | None = None,
        adopted: Sequence[str] = (),
    ) -> Awaitable[None]:
        if self._closed:
            raise RuntimeError("the run store is closed")
        return self._lanes.order(encode(record), files or {}, adopted)


class _Lanes(asyncio.Protocol):
    """The sockets to the writer: orders go, answers come.

    Attributes:
        gone: The writer has ended.
    """

    def __init__(self) -> None:
        self.gone = asyncio.Event()
        self._transports: list[asyncio.WriteTransport] = []
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._number = 0
        self._records: list[Order] = []
        self._rest = b""

    async def add(self, lane: socket.socket) -> None:
        """Take a connected socket."""
        lane.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _ON_THE_WAY)
        loop = asyncio.get_running_loop()
        # Only the first lane ends after the last answer, and answers: the others are silent.
        protocol = asyncio.Protocol() if self._transports else self
        transport, _ = await loop.create_unix_connection(lambda: protocol, sock=lane)
        self._transports.append(transport)

    def tell(self, opening: Opening) -> None:
        """What the writer must know first."""
        self._transports[0].write(pack(asdict(opening)))

    def order(
        self, line: bytes, files: Mapping[str, bytes | Path], adopted: Sequence[str]
    ) -> asyncio.Future[None]:
        """Hand an order over; the future ends when it is durable, or with the error."""
        if self.gone.is_set():
            raise _ended_early()
        loop = asyncio.get_running_loop()
        self._number += 1
        order = Order(self._number, line, files, adopted)
        if files or adopted:
            lane = min(self._transports[1:], key=lambda lane: lane.get_write_buffer_size())
            lane.write(frame([order]))
        else:
            if not self._records:
                loop.call_soon(self._send_records)
            self._records.append(order)
        self._waiting[order.number] = future = loop.create_future()
        return future

    def _send_records(self) -> None:
        """Those of one round of the event loop go together."""
        if self._records and not self.gone.is_set():
            self._transports[0].write(frame(self._records))
        self._records = []

    def end(self) -> None:
        """There is nothing more to order."""
        self._send_records()
        for lane in self._transports:
            if not lane.is_closing():
                lane.write_eof()

    def data_received(self, data: bytes) -> None:
        """Answers."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            for number, *told in json.loads(line):
                future = self._waiting.pop(number)
                if future.cancelled():
                    continue
                if told:
                    future.set_exception(error_from(told))
                else:
                    future.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        """The writer closes the lane when everything is answered, and when it dies."""
        self.gone.set()
        for future in self._waiting.values():
            if not future.cancelled():
                future.set_exception(_ended_early())
        self._waiting.clear()


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


def _opening(paths: RunPaths, plan_hash: str) -> Opening:
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
    host, pid = socket.gethostname(), os.getpid()
    record = OpenRecord(at=now, plan_hash=plan_hash, host=host, pid=pid)
    stamp = re.sub(r"[^0-9]", "", now[:19])
    journal = f"{re.sub(r'[^A-Za-z0-9]+', '-', host)}-{pid}-{stamp}"
    return Opening(str(paths.root), journal, encode(record).decode("ascii"))


def _ended_early() -> OSError:
    return OSError(errno.EPIPE, "the process that writes the run folder has ended")
