"""Composed settings, cells and one-call runs for contract tests."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoader

from runner.cli.composer import CONFIG_NAME, compose, make_hydra, parse_flags, task_config
from runner.cli.sweeper import register
from runner.providers.contract import Answer, Call, Picture, Provider, ProviderError
from runner.providers.registry import make_provider
from runner.settings.cell import Cell, CellParams, Json
from runner.settings.load import read_settings
from runner.settings.schema import VariantSettings


@functools.cache
def _loader(config_dir: str | None) -> ConfigLoader:
    register(lambda *_: None)
    flags = parse_flags([] if config_dir is None else ["--config-dir", config_dir])
    return make_hydra(flags).config_loader


@functools.cache
def variant(*overrides: str, config_dir: str | None = None) -> VariantSettings:
    """The settings of one variant, composed from ``conf/`` as the command line does.

    Args:
        overrides: As on the command line.
        config_dir: A config tree of one's own before it.
    """
    config = compose(_loader(config_dir), CONFIG_NAME, ["prompt=unused", *overrides])
    return read_settings(task_config(config)).variant()


def at_address(settings: VariantSettings, base_url: str) -> VariantSettings:
    """The same settings with another ``provider.base_url``; composing takes far longer."""
    provider = settings.provider.model_copy(update={"base_url": base_url})
    return settings.model_copy(update={"provider": provider})


def cells(params: CellParams, count: int = 1) -> tuple[Cell, ...]:
    """``count`` cells of one point."""
    return tuple(
        Cell(index=at, variant=0, image_index=at, params=params, axes=(), cell_id=f"{at:064x}")
        for at in range(count)
    )


@dataclass
class Listening:
    """A listener that remembers."""

    steps: list[tuple[int, int]] = field(default_factory=list)
    notes: list[Mapping[str, Json]] = field(default_factory=list)

    def progress(self, call: Call, done: int, total: int) -> None:
        self.steps.append((done, total))

    async def note(self, call: Call, fact: Mapping[str, Json]) -> None:
        self.notes.append(fact)


@dataclass
class Asked:
    """What became of one call.

    Attributes:
        answer: The provider's answer.
        fault: What it raised, classified.
        trace: The whole traceback, causes included.
        listener: What the provider told meanwhile.
    """

    answer: Answer | None = None
    fault: ProviderError | None = None
    trace: str = ""
    listener: Listening = field(default_factory=Listening)

    @property
    def pictures(self) -> list[Picture]:
        """The images that came."""
        outputs = self.answer.outputs if self.answer else ()
        return [output for output in outputs if isinstance(output, Picture)]

    def text(self) -> str:
        """Everything that could end up in a log or a file."""
        fault = vars(self.fault) if self.fault else {}
        return f"{self.answer!r}\n{self.fault!r}\n{fault!r}\n{self.trace}"


async def ask_open(
    provider: Provider,
    params: CellParams,
    count: int = 1,
    *,
    listener: Listening | None = None,
    fact: Mapping[str, Json] | None = None,
) -> Asked:
    """Send one call through a provider that is open, or take up the job of a journalled fact."""
    asked = Asked(listener=listener or Listening())
    call = Call("call", cells(params, count))
    try:
        if fact is None:
            asked.answer = await provider.generate(call, asked.listener)
        else:
            asked.answer = await provider.attach(call, fact, asked.listener)
    except Exception as error:
        asked.fault = provider.classify(error)
        asked.trace = "".join(traceback.format_exception(error))
    return asked


def ask(
    settings: VariantSettings,
    params: CellParams,
    count: int = 1,
    *,
    listener: Listening | None = None,
    fact: Mapping[str, Json] | None = None,
) -> Asked:
    """Make, check, open, call once, close."""

    async def run() -> Asked:
        async with opened(settings) as provider:
            asking = ask_open(provider, params, count, listener=listener, fact=fact)
            return await asyncio.wait_for(asking, 30)

    return asyncio.run(run())


def attach(
    settings: VariantSettings, params: CellParams, fact: Mapping[str, Json], count: int = 1
) -> Asked:
    """Take up a job that another provider object submitted."""
    return ask(settings, params, count, fact=fact)


def ask_all(settings: VariantSettings, params: CellParams, count: int) -> list[Asked]:
    """Make ``count`` images in the fewest calls that the provider allows."""

    async def run() -> list[Asked]:
        async with opened(settings) as provider:
            most = provider.images_per_call(params)
            sizes = [most] * (count // most) + ([count % most] if count % most else [])
            assert len(sizes) == math.ceil(count / most)
            return [await ask_open(provider, params, size) for size in sizes]

    return asyncio.run(run())


@contextlib.asynccontextmanager
async def opened(settings: VariantSettings) -> Any:
    """A provider that is checked, open, and closed at the end."""
    provider = make_provider(settings)
    provider.check_ready()
    try:
        await provider.open()
        yield provider
    finally:
        await provider.close()


def in_request(seen: Any, data: bytes) -> bool:
    """Whether a file went along with a request: as an upload, as base64, or as it is."""
    import base64

    uploads: Sequence[bytes] = [upload.data for _, upload in seen.files]
    encoded = (base64.b64encode(data), base64.urlsafe_b64encode(data))
    return data in uploads or data in seen.body or any(text in seen.body for text in encoded)
