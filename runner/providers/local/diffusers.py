"""The provider of this machine: any image pipeline of diffusers.

Before a run it answers from files alone; torch is imported by :meth:`DiffusersProvider.open`. One
thread computes, one batch after the other; others encode finished images meanwhile.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from typing import TYPE_CHECKING, ClassVar, TypeVar

from runner.providers.contract import (
    FREE,
    Answer,
    Call,
    Capabilities,
    Listener,
    Price,
    Provider,
    ProviderError,
)
from runner.providers.local import device, identity
from runner.providers.local.finish import Finisher
from runner.providers.local.fitting import options_identity, require_fitting
from runner.providers.local.options import CALLS_LOOKED_AT, LARGEST_TRIED, DiffusersOptions
from runner.providers.local.params import CallParams
from runner.providers.local.preflight import Facts, read_facts
from runner.providers.local.preprocess import check_preprocessor, names_of
from runner.providers.local.refine import find_refiner, refiner_model, share_problem
from runner.providers.local.source import (
    Source,
    find_controlnets,
    find_source,
    read_traits,
    require_extra,
)
from runner.providers.net.http import Http
from runner.providers.net.inputs import MAX_INPUT_BYTES, read_input
from runner.providers.net.wire import require
from runner.settings.cell import PIPELINE_KINDS, Cell, CellParams, Json
from runner.settings.errors import RunnerError
from runner.settings.load import validate
from runner.settings.schema import Section, VariantSettings

if TYPE_CHECKING:
    from runner.providers.local.opened import Opened

T = TypeVar("T")


class DiffusersProvider(Provider):
    """Makes images with a diffusers pipeline. See :class:`DiffusersOptions` for its options."""

    name: ClassVar[str] = "diffusers"
    options_type: ClassVar[type[Section]] = DiffusersOptions

    def __init__(self, settings: VariantSettings) -> None:
        super().__init__(settings)
        self.options = validate(DiffusersOptions, settings.provider.options, "provider.options")
        self.traits = read_traits(settings.model)
        self._compute = ThreadPoolExecutor(1, thread_name_prefix="compute")
        self._encoders = ThreadPoolExecutor(2, thread_name_prefix="encode")
        self._opened: Opened | None = None
        # Only for input pictures at https addresses.
        self._http = Http(settings, base_url="https://huggingface.co", key_required=False)
        self._online = False
        asked = settings.device.batch_size
        self._batch_size = 1 if asked == "auto" else asked

    @classmethod
    def make(cls, settings: VariantSettings) -> Provider:
        """Worker processes where all GPUs are asked for, this process otherwise."""
        from runner.providers.local.pool import DiffusersPool, wants_workers

        return DiffusersPool(cls(settings)) if wants_workers(settings.device) else cls(settings)

    @cached_property
    def _source(self) -> Source:
        require_extra()
        return find_source(self.settings.model)

    @cached_property
    def _facts(self) -> Facts | None:
        return read_facts(self._source, self.settings.model, self.settings.pipeline.name)

    @cached_property
    def _params(self) -> CallParams:
        if self._facts is not None:
            require_fitting(self._facts, self.options)
        if self.options.refiner is not None:
            find_refiner(refiner_model(self.options.refiner, self.settings.model))
        return CallParams(self._facts, self.settings.pipeline, self._extra())

    def capabilities(self) -> Capabilities:
        """What the model's pipeline class takes, read from its source text.

        Raises:
            RequestError: The model is refused.
            PrerequisiteError: The libraries or the model's files are missing.
        """
        facts, params = self._facts, self._params
        for name in names_of(self.settings.pipeline):
            check_preprocessor(name)
        return Capabilities(
            pipelines=frozenset(facts.family.kinds if facts else PIPELINE_KINDS),
            params=params.table(),
            max_images_per_call=self._batch_size,
            shared_call_keys=self._params.shared_keys(),
            seed_per_image=True,
            reproducible=True,
            resend_safe=True,
            billed=False,
            settings=params.settings,
        )

    def identity(self) -> Mapping[str, Json]:
        """The model by its content or Hub revision, never by its path; no device, no dtype.

        Raises:
            RequestError: The model is refused.
            PrerequisiteError: The libraries or the model's files are missing.
        """
        settings, pipeline = self.settings, self.settings.pipeline
        asked: dict[str, Json] = {
            "provider": self.name,
            "model": identity.source_identity(self._source, self._facts, settings.model),
            "pipeline": pipeline.name,
            "extra_body": self._extra(),
        }
        nets = find_controlnets(settings.model, pipeline.name)
        more: dict[str, Json] = {
            "controlnets": [identity.network_identity(net) for net in nets],
            "options": options_identity(self.options, settings.model),
            "preprocessor": names_of(self.settings.pipeline),
            "control_weights": pipeline.control_weights,
            "control_start": pipeline.control_start,
            "control_end": pipeline.control_end,
            "resize": (pipeline.resize or "fit") if self._params.takes_pictures else None,
        }
        return asked | {key: value for key, value in more.items() if value not in (None, [], {})}

    def _extra(self) -> dict[str, Json]:
        """Further arguments of the call: the model's (``model.traits.call``), then the user's."""
        options = self.options
        own = {"clip_skip": options.clip_skip, "guidance_rescale": options.guidance_rescale}
        return {
            **self.traits.call,
            **{name: value for name, value in own.items() if value is not None},
            **self.settings.provider.extra_body,
        }

    def max_concurrency(self) -> int:
        """Two: one call computes while the files of the other are encoded."""
        return 2

    def check(self, params: CellParams) -> Sequence[str]:
        """Form and divisibility of the size: diffusers only warns, and makes another size."""
        problems, refiner, steps = self._params.problems(params), self.options.refiner, None
        if refiner is not None and (steps := self._params.steps(params)) is not None:
            problems = [*problems, *filter(None, [share_problem(refiner, steps, params.strength)])]
        return problems

    def check_ready(self) -> None:
        """Libraries are installed, and the model's files are there, whole and harmless.

        Raises:
            RequestError: The model is refused.
            PrerequisiteError: The libraries or the model's files are missing.
        """
        _ = self._params

    def estimate(self, params: CellParams) -> Price:
        """Local images are free."""
        return FREE

    def classify(self, error: Exception) -> ProviderError:
        """Nothing here is worth a second try, and a broken GPU context ends the variant."""
        if isinstance(error, TimeoutError):
            return ProviderError(
                "invalid",
                f"not done within limits.timeout_s={self.settings.timeout_s:g}: raise it, or take "
                "fewer steps, a smaller size or batch",
                code="timeout",
            )
        if isinstance(error, RuntimeError) and "CUDA error" in str(error):
            return ProviderError("gone", f"the GPU failed: {_first_line(error)}", code="cuda")
        if isinstance(error, ProviderError):
            return error
        return ProviderError("invalid", f"{type(error).__name__}: {_first_line(error)}")

    def undecided(self) -> Sequence[str]:
        """The batch size, if it is to be found out."""
        if self.settings.device.batch_size != "auto":
            return ()
        return (
            "device.batch_size=auto: a trial of a few seconds says how many images are computed "
            "together once the model is loaded; calls are counted as if it said 1",
        )

    def versions(self) -> Mapping[str, str]:
        """Versions of the libraries that computed and encoded the images."""
        return device.package_versions()

    def model_identity(self) -> Mapping[str, Json]:
        """The Hub's commit, sha256 of every file, and what the libraries said while loading."""
        return {} if self._opened is None else self._opened.identity

    async def open(self) -> None:
        """Import torch, download what is missing, load the pipeline onto its device.

        Raises:
            RequestError: The model is refused.
            PrerequisiteError: Device, libraries or files are missing.
        """
        require_extra()
        device.prepare_environment(self.settings.device.threads)
        self.allow_any_batch()
        self._opened = await self._on_compute_thread(self._load)

    async def settle(self, calls: Iterator[Sequence[Cell]]) -> Mapping[str, Json]:
        """The commits that Hub ids stand for, and the batch size, if it is to be found out."""
        if self._opened is None:
            raise RuntimeError("settle() before open()")
        commits, settled = dict(self._opened.commits), dict[str, Json]()
        if commits != self.settings.model.commits:
            settled["model.commits"] = commits
        if self.settings.device.batch_size == "auto":
            self.compute_together(await self._best_batch(self._opened, calls))
            settled["device.batch_size"] = self._batch_size
        return settled

    def allow_any_batch(self) -> None:
        """Until a batch size that is to be found out is settled, calls are as large as any."""
        if self.settings.device.batch_size == "auto":
            self._batch_size = LARGEST_TRIED

    def compute_together(self, batch_size: int) -> None:
        """Make batches of this size from now on."""
        self._batch_size = batch_size
        if self._opened is not None:
            self._opened.sampler.batch_size = batch_size

    async def generate(self, call: Call, listener: Listener) -> Answer:
        """Compute and encode the images of one call.

        Cancelling it stops the pipeline after the step in progress; it stays usable.

        Raises:
            ProviderError: A parameter is not taken, or the memory does not suffice.
            Exception: Whatever the pipeline raises.
        """
        if self._opened is None:
            raise RuntimeError("generate() before open()")
        opened = self._opened
        arguments = opened.params.arguments(call.params)
        inputs = [await opened.inputs(cell.params) for cell in call.cells]
        faults = [given for given in inputs if isinstance(given, ProviderError)]
        if len(faults) == len(inputs):
            raise faults[0]
        items = [
            opened.item(cell.params, _seed(cell), given, arguments)
            for cell, given in zip(call.cells, inputs, strict=True)
            if not isinstance(given, ProviderError)
        ]

        def progress(done: int, total: int) -> None:
            listener.progress(call, done, total)

        samples, batch_size = await self._stoppable(
            lambda stop: opened.sampler.run(items, arguments, stop, progress, _batch_size(call))
        )
        finisher = Finisher(
            opened.params,
            arguments,
            self.settings.output.format,
            self.options.keep_unmasked,
            self.classify,
        )
        loop, made = asyncio.get_running_loop(), iter(samples)
        results = [given if isinstance(given, ProviderError) else next(made) for given in inputs]
        outputs = await asyncio.gather(
            *(
                loop.run_in_executor(self._encoders, finisher.output, cell, result, given)
                for cell, result, given in zip(call.cells, results, inputs, strict=True)
            )
        )
        return Answer(
            outputs=tuple(outputs),
            params_sent=arguments,
            model_reported=self._source.name,
            cost_usd=0.0,
            cost_basis="free",
            recipe=device.recipe(
                opened.machine, batch_size, opened.scheduler, self.options.recipe()
            ),
        )

    async def close(self) -> None:
        """Let go of the pipeline and of the device's memory."""
        loaded, self._opened = self._opened is not None, None
        if loaded:
            await self._on_compute_thread(device.free_memory)
        await self._http.close()
        self._compute.shutdown(wait=False, cancel_futures=True)
        self._encoders.shutdown(wait=False, cancel_futures=True)

    async def _best_batch(self, opened: Opened, calls: Iterator[Sequence[Cell]]) -> int:
        """The best batch size for calls like these."""
        sample = list(itertools.islice(calls, CALLS_LOOKED_AT))
        largest = max(sample, key=lambda cells: opened.pixels(cells[0].params))
        given = await opened.inputs(largest[0].params)
        if isinstance(given, ProviderError):
            return 1  # the call itself will say why
        images = [len(cells) for cells in sample]
        return await self._stoppable(partial(opened.best_batch, largest[0].params, given, images))

    async def _stoppable(self, work: Callable[[threading.Event], T]) -> T:
        """Work on the compute thread that ends after the step in progress when cancelled."""
        stop = threading.Event()
        try:
            return await self._on_compute_thread(partial(work, stop))
        except asyncio.CancelledError:
            stop.set()
            raise

    async def _on_compute_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._compute, work)

    def _load(self) -> Opened:
        from runner.providers.local.opened import open_pipeline

        return open_pipeline(
            self._source,
            self.settings,
            self.options,
            batch_size=self._batch_size,
            extra=self._extra(),
            preprocessors=names_of(self.settings.pipeline),
            read=self._read,
        )

    async def _read(self, path: str, what: str) -> bytes:
        """The bytes of an input picture."""
        try:
            if "://" not in path:
                return (await asyncio.to_thread(read_input, path, what)).data
            if not self._online:
                require("http", "aiohttp")
                await self._http.open()
                self._online = True
            return await self._http.fetch(path, MAX_INPUT_BYTES)
        except RunnerError as error:
            raise ProviderError("invalid", str(error), code="bad_input") from None


def _seed(cell: Cell) -> int:
    if cell.image_seed is None:
        raise ProviderError("invalid", "a local image needs a seed", code="no_seed")
    return cell.image_seed


def _batch_size(call: Call) -> int | None:
    """In batches of what size the images were computed that are made again."""
    size = (call.recipe or {}).get("batch_size")
    return size if isinstance(size, int) else None


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), "")
