"""All GPUs of this machine: one long-lived worker process for each, fed as they come free.

The parent never imports torch. It plans, journals and shows progress as for one process; a worker
gets a call and sends back its answer. A worker that dies (killed, out of memory) is replaced, and
its calls are made once more by another: local images cost nothing but time.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from runner.providers.contract import (
    Answer,
    Call,
    Capabilities,
    Listener,
    Picture,
    Price,
    Provider,
    ProviderError,
)
from runner.providers.local.worker import Ask, Cancel, Done, Failed, Message, Progress, Ready
from runner.settings.cell import CellParams, Json
from runner.settings.errors import PrerequisiteError, RunnerError
from runner.settings.schema import DeviceSettings

if TYPE_CHECKING:
    from runner.providers.local.diffusers import DiffusersProvider

CALLS_AT_A_WORKER = 2
"""One computes while the files of the other are encoded."""

_TRIES = 2
_AGAIN = "the worker process that had this call died; another one made it"
_GRACE_S = 10.0


def wants_workers(settings: DeviceSettings) -> bool:
    """Whether worker processes are asked for: ``all_gpus``, or a launcher that started ranks."""
    return settings.name == "all_gpus" or (
        settings.name == "auto" and int(os.environ.get("WORLD_SIZE") or 1) > 1
    )


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` names them; no torch."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [name.strip() for name in chosen.split(",") if name.strip() not in {"", "-1"}]
    cards = Path("/proc/driver/nvidia/gpus")
    return [str(number) for number in range(len(list(cards.iterdir())))] if cards.is_dir() else []


class _WorkerDiedError(Exception):
    """The process is gone, and with it what it had not answered."""


class DiffusersPool(Provider):
    """Answers questions as one local provider would, and sends the calls to worker processes.

    Args:
        inner: The provider of one process; it is never opened here.
    """

    name: ClassVar[str] = "diffusers"

    def __init__(self, inner: DiffusersProvider) -> None:
        super().__init__(inner.settings)
        self._inner = inner
        self._workers: list[_Worker] = []
        self._identity: Mapping[str, Json] = {}
        self._free = asyncio.Condition()

    def capabilities(self) -> Capabilities:
        """As in one process."""
        return self._inner.capabilities()

    def identity(self) -> Mapping[str, Json]:
        """As in one process: who computes is not part of what is asked."""
        return self._inner.identity()

    def images_per_call(self, params: CellParams) -> int:
        """As in one process."""
        return self._inner.images_per_call(params)

    def max_concurrency(self) -> int:
        """Two calls for each worker."""
        return CALLS_AT_A_WORKER * self._count()

    def check(self, params: CellParams) -> Sequence[str]:
        """As in one process."""
        return self._inner.check(params)

    def check_ready(self) -> None:
        """As in one process, and there is a GPU or a number of workers."""
        self._count()
        self._inner.check_ready()

    def estimate(self, params: CellParams) -> Price:
        """As in one process."""
        return self._inner.estimate(params)

    def classify(self, error: Exception) -> ProviderError:
        """As in one process."""
        return self._inner.classify(error)

    def versions(self) -> Mapping[str, str]:
        """As in one process."""
        return self._inner.versions()

    def model_identity(self) -> Mapping[str, Json]:
        """As the first worker that was ready told it."""
        return self._identity

    async def open(self) -> None:
        """Start every worker and wait until all have loaded the model.

        Raises:
            RunnerError: What a worker says is wrong or missing.
        """
        self._workers = [self._worker(place) for place in range(self._count())]
        self._identity = (await asyncio.gather(*(one.start() for one in self._workers)))[0]

    async def generate(self, call: Call, listener: Listener) -> Answer:
        """Give the call to the worker with the least to do.

        Raises:
            ProviderError: As in one process; also if the call killed two workers.
        """
        for tries in range(1, _TRIES + 1):
            worker = await self._take()
            try:
                answer = await worker.ask(call, listener)
            except _WorkerDiedError:
                await self._replace(worker)
                continue
            finally:
                await self._give_back(worker)
            return answer if tries == 1 else _warned(answer)
        raise ProviderError(
            "invalid",
            "two worker processes died on this call; out of memory? A smaller device.batch_size, "
            "size or dtype takes less",
            code="worker_died",
        )

    async def close(self) -> None:
        """End the workers."""
        await asyncio.gather(*(worker.stop() for worker in self._workers))
        await self._inner.close()

    def _count(self) -> int:
        """How many workers there are to be.

        Raises:
            PrerequisiteError: There is no GPU and no number was given.
        """
        launched = int(os.environ.get("WORLD_SIZE") or 1)
        count = self.settings.device.workers or len(visible_gpus()) or (
            launched if launched > 1 else 0
        )  # fmt: skip
        if not count:
            raise PrerequisiteError(
                "device=all_gpus: no NVIDIA GPU is visible here; device.workers=2 shares the "
                "processor's cores out between two processes"
            )
        return count

    def _worker(self, place: int) -> _Worker:
        gpus, count = visible_gpus(), self._count()
        device = self.settings.device
        environment = dict(os.environ)
        for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"):
            environment.pop(name, None)
        if gpus:
            # More workers than GPUs share them in turn.
            environment["CUDA_VISIBLE_DEVICES"] = gpus[place % len(gpus)]
        own = device.model_copy(
            update={
                "name": "cuda" if gpus else "cpu",
                "threads": device.threads or max(1, (os.cpu_count() or 1) // count),
                "workers": None,
            }
        )
        environment["OMP_NUM_THREADS"] = str(own.threads)
        settings = self.settings.model_copy(update={"device": own})
        return _Worker(settings.model_dump_json(), environment)

    async def _take(self) -> _Worker:
        async with self._free:
            await self._free.wait_for(
                lambda: any(one.ready and one.load < CALLS_AT_A_WORKER for one in self._workers)
            )
            worker = min((one for one in self._workers if one.ready), key=lambda one: one.load)
            worker.load += 1
            return worker

    async def _give_back(self, worker: _Worker) -> None:
        async with self._free:
            worker.load -= 1
            self._free.notify_all()

    async def _replace(self, worker: _Worker) -> None:
        """Start another process in the place of a dead one; the first that notices does."""
        if worker not in self._workers:
            return
        place = self._workers.index(worker)
        fresh = self._workers[place] = self._worker(place)
        await worker.stop()
        await fresh.start()
        async with self._free:
            self._free.notify_all()


def _warned(answer: Answer) -> Answer:
    outputs = tuple(
        replace(output, warnings=(*output.warnings, _AGAIN))
        if isinstance(output, Picture)
        else output
        for output in answer.outputs
    )
    return replace(answer, outputs=outputs)


@dataclass(slots=True)
class _Asked:
    """A call that a worker has."""

    call: Call
    listener: Listener
    answer: asyncio.Future[Answer]


@dataclass(slots=True, eq=False)
class _Worker:
    """One worker process.

    Attributes:
        settings: Of its provider, as JSON.
        environment: Its environment.
        load: Calls that it has.
        ready: It has loaded the model and lives.
    """

    settings: str
    environment: Mapping[str, str]
    load: int = 0
    ready: bool = False
    _asked: dict[int, _Asked] = field(default_factory=dict)
    _number: int = 0
    _process: subprocess.Popen[bytes] | None = None
    _pipe: Connection | None = None
    _ready: asyncio.Future[Ready] | None = None

    async def start(self) -> Mapping[str, Json]:
        """Start the process; wait until it has loaded the model, and return what that is.

        Raises:
            RunnerError: What the worker says is wrong or missing.
        """
        loop = asyncio.get_running_loop()
        self._ready = loop.create_future()
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "runner.providers.local.worker", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                # A stop is for the parent to hand on: Ctrl-C in a terminal reaches a whole group.
                process_group=0,
            )
        self._pipe = Connection(ours.detach())
        self._pipe.send(self.settings)
        threading.Thread(
            target=self._listen, args=(self._pipe, loop), name="worker", daemon=True
        ).start()
        try:
            found = await self._ready
        except _WorkerDiedError:
            raise PrerequisiteError(
                "a worker process ended before it had loaded the model; its own words are above"
            ) from None
        self.ready = True
        return found.identity

    async def ask(self, call: Call, listener: Listener) -> Answer:
        """Have a call made.

        Raises:
            ProviderError: As the worker's provider classified it.
            _WorkerDiedError: The process is gone.
        """
        if self._pipe is None or not self.ready:
            raise _WorkerDiedError
        self._number += 1
        number = self._number
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._asked[number] = _Asked(call, listener, future)
        try:
            self._send(Ask(number, call))
            return await future
        except asyncio.CancelledError:
            self._send(Cancel(number))
            raise
        finally:
            self._asked.pop(number, None)

    async def stop(self) -> None:
        """End the process: it ends by itself when its pipe closes, or is ended."""
        self.ready = False
        if self._pipe is not None:
            self._pipe.close()
        if self._process is not None:
            try:
                await asyncio.to_thread(self._process.wait, _GRACE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                await asyncio.to_thread(self._process.wait)

    def _send(self, message: Ask | Cancel) -> None:
        if self._pipe is None:
            raise _WorkerDiedError
        try:
            self._pipe.send(message)
        except OSError:
            raise _WorkerDiedError from None

    def _listen(self, pipe: Connection, loop: asyncio.AbstractEventLoop) -> None:
        """On a thread of its own: hand every message to the event loop."""
        message: Message | None = None
        while True:
            try:
                message = pipe.recv()
            except (EOFError, OSError):
                message = None
            try:
                loop.call_soon_threadsafe(self._hear, message)
            except RuntimeError:  # the loop is closed: the run is over
                return
            if message is None:
                return

    def _hear(self, message: Message | None) -> None:
        if message is None:
            self.ready = False
            for asked in self._asked.values():
                if not asked.answer.done():
                    asked.answer.set_exception(_WorkerDiedError())
            if self._ready is not None and not self._ready.done():
                self._ready.set_exception(_WorkerDiedError())
        elif isinstance(message, Ready):
            if self._ready is not None and not self._ready.done():
                self._ready.set_result(message)
        elif isinstance(message, Failed) and message.number is None:
            error = message.error
            if self._ready is not None and not self._ready.done():
                self._ready.set_exception(
                    error if isinstance(error, RunnerError) else PrerequisiteError(str(error))
                )
        else:
            self._hear_of_call(message)

    def _hear_of_call(self, message: Message) -> None:
        asked = self._asked.get(getattr(message, "number", None) or 0)
        if asked is None:
            return
        if isinstance(message, Progress):
            asked.listener.progress(asked.call, message.done, message.total)
        elif not asked.answer.done():
            if isinstance(message, Done):
                asked.answer.set_result(message.answer)
            elif isinstance(message, Failed):
                asked.answer.set_exception(message.error)
