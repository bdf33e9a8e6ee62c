"""The provider of this machine: any text-to-image pipeline of diffusers.

Before a run it answers from files alone; torch is imported by :meth:`DiffusersProvider.open`. One
thread computes, one batch after the other; others encode finished images meanwhile.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, TypeVar

from pydantic import Field

from runner.providers.contract import (
    FREE,
    Answer,
    Call,
    Capabilities,
    Listener,
    Missing,
    Picture,
    Price,
    Provider,
    ProviderError,
)
from runner.providers.local import device, identity, load
from runner.providers.local.encode import encode
from runner.providers.local.notices import NOTICES
from runner.providers.local.params import CallParams
from runner.providers.local.preflight import Facts, read_facts
from runner.providers.local.source import Source, find_source, require_extra
from runner.settings.cell import Cell, CellParams, Json
from runner.settings.load import validate
from runner.settings.schema import Section, VariantSettings

if TYPE_CHECKING:
    from runner.providers.local.sample import Sample, Sampler

T = TypeVar("T")


class DiffusersOptions(Section):
    """Options of local pipelines that change no pixel."""

    prompt_memo_mb: int = Field(
        512, ge=0, description="memory for encoded prompts; each unique prompt is encoded once"
    )


@dataclass(frozen=True, slots=True)
class _Opened:
    """What :meth:`DiffusersProvider.open` made."""

    sampler: Sampler
    machine: device.Machine
    params: CallParams
    scheduler: str
    identity: Mapping[str, Json]


class DiffusersProvider(Provider):
    """Makes images with a diffusers pipeline. See :class:`DiffusersOptions` for its options."""

    name: ClassVar[str] = "diffusers"
    options_type: ClassVar[type[Section]] = DiffusersOptions

    def __init__(self, settings: VariantSettings) -> None:
        super().__init__(settings)
        self.options = validate(DiffusersOptions, settings.provider.options, "provider.options")
        self._compute = ThreadPoolExecutor(1, thread_name_prefix="compute")
        self._encoders = ThreadPoolExecutor(2, thread_name_prefix="encode")
        self._opened: _Opened | None = None

    @cached_property
    def _source(self) -> Source:
        require_extra()
        return find_source(self.settings.model)

    @cached_property
    def _facts(self) -> Facts | None:
        return read_facts(self._source, self.settings.model)

    @cached_property
    def _params(self) -> CallParams:
        return CallParams(self._facts, self._extra())

    def capabilities(self) -> Capabilities:
        """What the model's pipeline class takes, read from its source text.

        Raises:
            RequestError: The model is refused.
            PrerequisiteError: The libraries or the model's files are missing.
        """
        return Capabilities(
            params=self._params.table(),
            max_images_per_call=self.settings.device.batch_size,
            shared_call_keys=self._params.shared_keys(),
            seed_per_image=True,
            reproducible=True,
            resend_safe=True,
            billed=False,
        )

    def identity(self) -> Mapping[str, Json]:
        """The model by its content or Hub revision, never by its path; no device, no dtype.

        Raises:
            RequestError: The model is refused.
            PrerequisiteError: The libraries or the model's files are missing.
        """
        return {
            "provider": self.name,
            "model": identity.source_identity(self._source, self._facts, self.settings.model),
            "pipeline": self.settings.pipeline.name,
            "extra_body": self._extra(),
        }

    def _extra(self) -> dict[str, Json]:
        """Further arguments of the call: the model's (``model.traits.call``), then the user's."""
        return {**self.settings.model.traits.get("call", {}), **self.settings.provider.extra_body}

    def max_concurrency(self) -> int:
        """Two: one call computes while the files of the other are encoded."""
        return 2

    def check(self, params: CellParams) -> Sequence[str]:
        """Form and divisibility of the size: diffusers only warns, and makes another size."""
        return self._params.problems(params)

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
        self._opened = await self._on_compute_thread(self._load)

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
        # Here and not above: a light process must not import what only a loaded one needs.
        from runner.providers.local.sample import Item

        arguments = opened.params.arguments(call.params)
        items = [
            Item(
                cell.params.prompt,
                opened.params.negative_prompt(cell.params, arguments),
                _seed(cell),
            )
            for cell in call.cells
        ]
        stop = threading.Event()

        def progress(done: int, total: int) -> None:
            listener.progress(call, done, total)

        try:
            samples, batch_size = await self._on_compute_thread(
                lambda: opened.sampler.run(items, arguments, stop, progress)
            )
        except asyncio.CancelledError:
            stop.set()
            raise
        loop = asyncio.get_running_loop()
        outputs = await asyncio.gather(
            *(
                loop.run_in_executor(
                    self._encoders, self._finish, cell, sample, opened.params, arguments
                )
                for cell, sample in zip(call.cells, samples, strict=True)
            )
        )
        return Answer(
            outputs=tuple(outputs),
            params_sent=arguments,
            model_reported=self._source.name,
            cost_usd=0.0,
            cost_basis="free",
            recipe=device.recipe(opened.machine, batch_size, opened.scheduler),
        )

    async def close(self) -> None:
        """Let go of the pipeline and of the device's memory."""
        loaded, self._opened = self._opened is not None, None
        if loaded:
            await self._on_compute_thread(device.free_memory)
        self._compute.shutdown(wait=False, cancel_futures=True)
        self._encoders.shutdown(wait=False, cancel_futures=True)

    async def _on_compute_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._compute, work)

    def _load(self) -> _Opened:
        from runner.providers.local.sample import Sampler

        model = self.settings.model
        NOTICES.attach()
        with NOTICES.listen() as heard:
            machine = device.choose_machine(self.settings.device)
            source = load.download(self._source, model)
            facts = read_facts(source, model)
            if facts is None:
                raise RuntimeError("a downloaded model has no folder")
            pipe = load.load_pipeline(source, facts, model, machine)
        sampler = Sampler(
            pipe, self.settings.device.batch_size, self.options.prompt_memo_mb * 2**20
        )
        return _Opened(
            sampler,
            machine,
            CallParams(facts, self._extra()),
            load.scheduler_of(pipe),
            identity.manifest_identity(source, facts, model)
            | ({"warnings": heard} if heard else {}),
        )

    def _finish(
        self, cell: Cell, sample: Sample, params: CallParams, arguments: Mapping[str, Json]
    ) -> Picture | Missing:
        """Encode one image; runs on an encoding thread."""
        if sample.flagged:
            return Missing(
                outcome="refused",
                kind="content_filter",
                code="safety_checker",
                message="the pipeline's safety checker blacked the image out",
            )
        data = encode(sample.pixels, self.settings.output.format)
        if isinstance(data, Missing):
            return data
        warnings = sample.warnings
        if cell.params.negative_prompt and not params.guides(arguments):
            warnings += ("negative_prompt had no effect: with this guidance_scale there is none",)
        height, width = sample.pixels.shape[:2]
        return Picture(
            data=data,
            seed_sent=_seed(cell),
            effective=params.effective(arguments, width, height),
            warnings=warnings,
        )


def _seed(cell: Cell) -> int:
    if cell.image_seed is None:
        raise ProviderError("invalid", "a local image needs a seed", code="no_seed")
    return cell.image_seed


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), "")
