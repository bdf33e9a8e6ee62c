"""Drives a local provider without an engine: settings, cells, calls, and a listener that notes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runner.providers.contract import Answer, Call, Picture
from runner.providers.local import load
from runner.providers.local.diffusers import DiffusersProvider
from runner.settings.cell import Cell, CellParams, Json
from runner.settings.schema import (
    DeviceSettings,
    ModelSettings,
    OutputSettings,
    PipelineSettings,
    ProviderSettings,
    VariantSettings,
)

STEPS = 2


def make_provider(
    name: Path | str,
    *,
    batch_size: int | str = 4,
    dtype: str = "auto",
    output: str = "png",
    model: Mapping[str, Any] | None = None,
    pipeline: Mapping[str, Any] | str = "text2img",
    device: Mapping[str, Any] | None = None,
    **provider: Any,
) -> DiffusersProvider:
    """A provider on one CPU thread; ``provider`` goes into ``provider.*``."""
    job = {"name": pipeline} if isinstance(pipeline, str) else pipeline
    return DiffusersProvider(
        VariantSettings(
            provider=ProviderSettings(name="diffusers", **provider),
            model=ModelSettings(name=str(name), **(model or {})),
            pipeline=PipelineSettings(**job),
            device=DeviceSettings(
                **{"name": "cpu", "dtype": dtype, "batch_size": batch_size, "threads": 1}
                | dict(device or {})
            ),
            output=OutputSettings(format=output),
        )
    )


def cell(prompt: str, seed: int, *, image_index: int = 0, **params: Any) -> Cell:
    """A cell of 64 x 64 pixels and :data:`STEPS` steps, unless ``params`` say otherwise."""
    asked = {"size": "64x64", "steps": STEPS} | params
    return Cell(
        index=0,
        variant=0,
        image_index=image_index,
        params=CellParams(prompt=prompt, seed=seed, **asked),
        axes=(),
        cell_id="0" * 64,
    )


@dataclass
class Notebook:
    """A listener that keeps what it is told."""

    steps: list[tuple[int, int]] = field(default_factory=list)

    def progress(self, call: Call, done: int, total: int) -> None:
        self.steps.append((done, total))

    async def note(self, call: Call, fact: Mapping[str, Json]) -> None:
        raise AssertionError("local calls have nothing to note")


class Driver:
    """An opened provider with blocking methods, for tests that are not about concurrency."""

    def __init__(self, provider: DiffusersProvider) -> None:
        self.provider = provider
        asyncio.run(provider.open())

    def answer(self, *cells: Cell, listener: Notebook | None = None) -> Answer:
        call = Call("call", tuple(cells))
        return asyncio.run(self.provider.generate(call, listener or Notebook()))

    def pictures(self, *cells: Cell) -> list[Picture]:
        outputs = self.answer(*cells).outputs
        if not all(isinstance(output, Picture) for output in outputs):
            raise AssertionError(outputs)
        return [output for output in outputs if isinstance(output, Picture)]

    def files(self, *cells: Cell) -> list[bytes]:
        return [picture.data for picture in self.pictures(*cells)]

    @property
    def pipe(self) -> Any:
        """The loaded pipeline, to break it or to count on it."""
        opened = self.provider._opened
        if opened is None:
            raise AssertionError("not open")
        return opened.sampler.pipe

    @property
    def refiner(self) -> Any:
        """The pipeline that does the last steps."""
        opened = self.provider._opened
        if opened is None or opened.sampler._refiner is None:
            raise AssertionError("no refiner")
        return opened.sampler._refiner.pipe


@contextmanager
def opened(name: Path | str, **settings: Any) -> Iterator[Driver]:
    """Open a provider, close it in the end; what a test does to its networks stays its own."""
    load.forget()
    driver = Driver(make_provider(name, **settings))
    try:
        yield driver
    finally:
        asyncio.run(driver.provider.close())
        load.forget()


def distinct(files: Sequence[bytes]) -> bool:
    """Whether no two files are alike."""
    return len(set(files)) == len(files)
