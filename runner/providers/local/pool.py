"""All GPUs of this machine: one long-lived worker process for each, fed as they come free.

The parent never imports torch. It plans, journals and shows progress as for one process; a worker
gets a call and sends back its answer. A worker that dies (killed, out of memory) is replaced, and
its calls are made once more by another: local images cost nothing but time.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
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
from runner.providers.local.options import CALLS_LOOKED_AT
from runner.providers.local.process import WorkerDiedError, WorkerProcess
from runner.settings.cell import Cell, CellParams, Json
from runner.settings.errors import PrerequisiteError
from runner.settings.load import with_values
from runner.settings.schema import DeviceSettings, VariantSettings

if TYPE_CHECKING:
    from runner.providers.local.diffusers import DiffusersProvider

CALLS_AT_A_WORKER = 2
"""One computes while the files of the other are encoded."""

_TRIES = 2
_DIED = "the worker process that had this call died; another one made it"
_FULL = "one worker process had not enough memory for this call; another one made it"


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


class DiffusersPool(Provider):
    """Answers questions as one local provider would, and sends the calls to worker processes.

    Args:
        inner: The provider of one process; it is never opened here.
    """

    name: ClassVar[str] = "diffusers"

    def __init__(self, inner: DiffusersProvider) -> None:
        super().__init__(inner.settings)
        self._inner = inner
        self._workers: list[WorkerProcess] = []
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

    def undecided(self) -> Sequence[str]:
        """As in one process."""
        return self._inner.undecided()

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
        self._inner.allow_any_batch()
        self._workers = [self._worker(place) for place in range(self._count())]
        self._identity = (await asyncio.gather(*(one.start() for one in self._workers)))[0]

    async def settle(self, calls: Iterator[Sequence[Cell]]) -> Mapping[str, Json]:
        """What the first worker decides holds for all of them, also for those to come."""
        sample = tuple(map(tuple, islice(calls, CALLS_LOOKED_AT)))
        settled: dict[str, Json] = {}
        try:
            settled |= await self._workers[0].settle(sample)
        except WorkerDiedError:
            settled["device.batch_size"] = 1
            dead = self._workers[0]
            self._adopt(settled)
            await self._replace(dead)
            settled |= await self._workers[0].settle(())
        self._adopt(settled)
        return settled

    def _adopt(self, settled: Mapping[str, Json]) -> None:
        """Use what was decided, in every worker."""
        data = with_values(self.settings.model_dump(), settled)
        self.settings = VariantSettings.model_validate(data)
        size = self.settings.device.batch_size
        if isinstance(size, int):
            self._inner.compute_together(size)
            for worker in self._workers:
                worker.compute_together(size)

    async def generate(self, call: Call, listener: Listener) -> Answer:
        """Give the call to the worker with the least to do.

        Raises:
            ProviderError: As in one process; also if the call killed two workers.
        """
        failed: list[WorkerProcess] = []
        why = ""
        for _ in range(_TRIES):
            worker = await self._take(but=failed)
            try:
                answer = await worker.ask(call, listener)
            except WorkerDiedError:
                why = _DIED
                await self._replace(worker)
                continue
            except ProviderError as error:
                if error.code != "out_of_memory" or why or len(self._workers) == 1:
                    raise
                why = _FULL
                failed.append(worker)
                continue
            finally:
                await self._give_back(worker)
            return _warned(answer, why) if why else answer
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

    def _worker(self, place: int) -> WorkerProcess:
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
        return WorkerProcess(settings.model_dump_json(), environment)

    async def _take(self, but: Sequence[WorkerProcess]) -> WorkerProcess:
        """The worker with the least to do, but for some."""

        def willing() -> list[WorkerProcess]:
            ready = [one for one in self._workers if one.ready and one not in but]
            return [one for one in ready if one.load < CALLS_AT_A_WORKER]

        async with self._free:
            await self._free.wait_for(willing)
            worker = min(willing(), key=lambda one: one.load)
            worker.load += 1
            return worker

    async def _give_back(self, worker: WorkerProcess) -> None:
        async with self._free:
            worker.load -= 1
            self._free.notify_all()

    async def _replace(self, worker: WorkerProcess) -> None:
        """Start another process in the place of a dead one; the first that notices does."""
        if worker not in self._workers:
            return
        place = self._workers.index(worker)
        fresh = self._workers[place] = self._worker(place)
        await worker.stop()
        await fresh.start()
        async with self._free:
            self._free.notify_all()


def _warned(answer: Answer, why: str) -> Answer:
    outputs = tuple(
        replace(output, warnings=(*output.warnings, why)) if isinstance(output, Picture) else output
        for output in answer.outputs
    )
    return replace(answer, outputs=outputs)
