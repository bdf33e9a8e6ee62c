"""The process that writes a run folder: image first, then journal, both durable when it answers.

It is a process of its own, because what it does are many small system calls. Threads beside a busy
event loop wait for the interpreter's lock after each of them, and the loop waits for the threads:
here that halved the images per second. It knows only bytes and file names, needs the standard
library alone (so it starts in 50 ms), and outlives a killed parent for as long as it takes to write
down what it was handed.

Orders come over several sockets, its lanes: records alone over the first, those with images over
the others, so that nothing waits for an image and many images are on their way at once. A thread
reads each lane and writes its images, each file with its own fsync, because disks take many syncs
at once. One more thread appends to the journal. It takes all records that wait, makes their folders
durable, and writes and syncs them together, so the price of a sync is shared by everything in
flight (group commit). Answers go back over the first lane, a line of JSON for each group.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runner.record import crash
from runner.record.atomic import fsync_folder, put, put_link, write_all
from runner.record.crash import crash_point
from runner.record.paths import RunPaths

LANES = 9
"""Sockets between a run and its writer."""

_NEW_JOURNAL = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
_SIZES = struct.Struct("!II")


@dataclass(frozen=True, slots=True)
class Opening:
    """What a writer is told first.

    Attributes:
        root: The run folder, as the run names it: both were started in the same place.
        journal: End of the journal file's name.
        line: First line of the journal file.
    """

    root: str
    journal: str
    line: str


@dataclass(slots=True)
class Order:
    """A record for the journal, and the files that must be on disk before it.

    Attributes:
        number: Names the order in its answer.
        line: The record.
        files: Name under ``images/`` to what to write there, or to a file of another run to link.
        adopted: Names of files that are there already.
    """

    number: int
    line: bytes | memoryview
    files: Mapping[str, bytes | memoryview | Path] = field(default_factory=dict)
    adopted: Sequence[str] = ()
    written: list[Path] = field(default_factory=list)
    shards: set[Path] = field(default_factory=set)
    error: Exception | None = None


Answers = Callable[[Sequence[tuple[int, OSError | None]]], None]
"""Takes the numbers of orders that are durable, or failed and left nothing."""


class Writer:
    """Writes what it is ordered to.

    Args:
        opening: What is written where.
        answer: Called on the journal's thread.
    """

    def __init__(self, opening: Opening, answer: Answers) -> None:
        self._paths = RunPaths(Path(opening.root))
        self._opening = opening
        self._answer = answer
        self._file: int | None = None
        self._size = 0
        self._broken: BaseException | None = None
        self._durable_shards: set[Path] = set()
        self._queue: queue.SimpleQueue[Order | None] = queue.SimpleQueue()
        self._journalist = threading.Thread(target=self._write_journal, name="journal", daemon=True)
        self._journalist.start()

    def take(self, order: Order) -> None:
        """Write the files of an order; its record follows in its time, and then the answer.

        May be called on several threads at once.
        """
        try:
            for path in map(self._paths.image, order.adopted):
                path.stat()
                order.shards.add(path.parent)
            for name, data in order.files.items():
                path = self._paths.image(name)
                shard = path.parent
                if shard not in self._durable_shards:
                    shard.mkdir(exist_ok=True)
                if isinstance(data, Path):
                    put_link(path, data)
                else:
                    put(path, data, "image")
                order.written.append(path)
                order.shards.add(shard)
        except Exception as error:
            order.error = error
        self._queue.put(order)

    def close(self) -> None:
        """Finish everything that was taken."""
        self._queue.put(None)
        self._journalist.join()
        if self._file is not None:
            os.close(self._file)

    def _write_journal(self) -> None:
        """The journal thread: everything that waits is one group."""
        last = False
        while not last:
            group = [self._queue.get()]
            with suppress(queue.Empty):
                while True:
                    group.append(self._queue.get_nowait())
            last = None in group
            self._write_group([order for order in group if order is not None])

    def _write_group(self, group: list[Order]) -> None:
        good = [order for order in group if order.error is None]
        try:
            if good:
                self._sync_folders({shard for order in good for shard in order.shards})
                self._write(b"".join(order.line for order in good))
        except Exception as error:
            for order in good:
                order.error = error
        for order in group:
            # After a failed cut the record may be there after all: then its image has to stay.
            if order.error is not None and self._broken is None:
                for path in order.written:
                    with suppress(OSError):
                        path.unlink()
        if group:
            self._answer([(order.number, _as_os_error(order.error)) for order in group])

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
            lines = self._opening.line.encode("ascii") + lines
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
        path = self._paths.journal / f"{number:04d}-{self._opening.journal}.jsonl"
        file = os.open(path, _NEW_JOURNAL, 0o666)
        try:
            fsync_folder(self._paths.journal)
        except BaseException:
            os.close(file)
            path.unlink()
            raise
        return file


def pack(head: object, *body: bytes | memoryview) -> bytes:
    """A message for the socket: the sizes of head and body, the head as JSON, the body."""
    text = json.dumps(head).encode()
    return b"".join([_SIZES.pack(len(text), sum(map(len, body))), text, *body])


def frame(orders: Sequence[Order]) -> bytes:
    """Orders as a message; its body are the records, each with its files behind it."""
    heads: list[object] = []
    body: list[bytes | memoryview] = []
    for order in orders:
        sizes: dict[str, int | str] = {}
        body.append(order.line)
        for name, data in order.files.items():
            if isinstance(data, Path):
                sizes[name] = str(data)
            else:
                sizes[name] = len(data)
                body.append(data)
        heads.append([order.number, len(order.line), sizes, order.adopted])
    return pack(heads, *body)


def serve(lanes: Sequence[socket.socket]) -> None:
    """Carry out what comes over sockets until their other ends are closed, or die.

    Args:
        lanes: The sockets, over the first of which an :class:`Opening` comes before anything else;
            closed at the end.
    """

    def answer(ended: Sequence[tuple[int, OSError | None]]) -> None:
        told = [[number, *(_told(error) if error else ())] for number, error in ended]
        with suppress(OSError):  # nobody is left who could care
            lanes[0].sendall(json.dumps(told).encode() + b"\n")

    with ExitStack() as stack:
        for lane in lanes:
            stack.enter_context(lane)
        if (told := _next(lanes[0])) is None:
            return
        writer = Writer(Opening(**told[0]), answer)
        threads = [
            threading.Thread(target=_work_off, args=(lane, writer), name="images", daemon=True)
            for lane in lanes[1:]
        ]
        for thread in threads:
            thread.start()
        _work_off(lanes[0], writer)
        for thread in threads:
            thread.join()
        writer.close()


def _work_off(lane: socket.socket, writer: Writer) -> None:
    while (told := _next(lane)) is not None:
        for order in _orders(*told):
            writer.take(order)


def error_from(told: Sequence[Any]) -> OSError:
    """The error that an answer tells of."""
    number, text, name = told
    return OSError(number, text, name) if number is not None else OSError(text)


def _told(error: OSError) -> tuple[int | None, str, str | None]:
    name = None if error.filename is None else os.fspath(error.filename)
    return error.errno, error.strerror or str(error), name


def _as_os_error(error: Exception | None) -> OSError | None:
    if error is None or isinstance(error, OSError):
        return error
    return OSError(f"{type(error).__name__}: {error}")


def _next(pipe: socket.socket) -> tuple[Any, memoryview] | None:
    """Head and body of the next message; ``None``: the other end is gone.

    A message that is cut off was confirmed to nobody.
    """
    sizes = _take(pipe, _SIZES.size)
    if sizes is None:
        return None
    head_size, size = _SIZES.unpack(sizes)
    data = _take(pipe, head_size + size)
    return None if data is None else (json.loads(bytes(data[:head_size])), data[head_size:])


def _orders(heads: Any, body: memoryview) -> Iterator[Order]:
    for number, size, sizes, adopted in heads:
        line, body = body[:size], body[size:]
        files: dict[str, memoryview | Path] = {}
        for name, what in sizes.items():
            if isinstance(what, str):
                files[name] = Path(what)
            else:
                files[name], body = body[:what], body[what:]
        yield Order(number, line, files, adopted)


def _take(pipe: socket.socket, size: int) -> memoryview | None:
    data = memoryview(bytearray(size))
    got = 0
    while got < size:
        try:
            more = pipe.recv_into(data[got:], size - got, socket.MSG_WAITALL)
        except ConnectionError:
            return None
        if more == 0:
            return None
        got += more
    return data


def _number(path: Path) -> int:
    return int(path.name.partition("-")[0])


def main() -> None:
    """What the process does; its last arguments are the numbers of the open sockets."""
    # A stop is for the parent to hand on; here everything ends with the other end of the sockets.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    crash.take_along(os.getppid())
    serve([socket.socket(fileno=int(number)) for number in sys.argv[2:]])
