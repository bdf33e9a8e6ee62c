"""Local throughput against a hand-written diffusers loop: ``python benchmarks/local.py``.

    python benchmarks/local.py [--model builtin|FAMILY|FOLDER] [--rounds 9] [--batches 4]
                               [--batch-sizes 1 8] [--steps 20] [--size 64x64]

Both sides make the same images in the same batches in one process, one CPU thread, taking turns.
The loop is what one would write: seeded generators, ``pipe(...)``, PNG with our settings. The
provider does all that it does in a run, with the two calls in flight that it asks for. Prompts are
all distinct, or four that repeat. Prints images per second of wall time and of CPU time, and the
median of the ratios round by round (the machine's speed drifts; a round sees the same machine).
FAMILY is a tiny random model of ``tests/tiny.py``: nothing but overhead.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from runner.providers.contract import Call
from runner.providers.local.diffusers import DiffusersProvider
from runner.providers.local.source import find_source
from runner.settings.cell import Cell, CellParams
from runner.settings.schema import (
    DeviceSettings,
    ModelSettings,
    ProviderSettings,
    VariantSettings,
)
from tests import tiny

COLORS = ("red", "green", "blue", "yellow", "black", "white", "purple", "orange")
SHAPES = ("circle", "square", "triangle", "star", "heart", "ring", "cross", "diamond")
Batch = Sequence[tuple[str, int]]


class Silent:
    """A listener without ears."""

    def progress(self, call: Call, done: int, total: int) -> None:
        """Hear nothing."""

    async def note(self, call: Call, fact: Any) -> None:
        """Hear nothing."""


def make_batches(
    count: int, size: int, *, repeated: bool, start: int
) -> list[list[tuple[str, int]]]:
    """Batches of prompt and seed; ``start`` keeps the prompts of rounds apart."""
    batches = []
    for batch in range(count):
        numbers = range(start + batch * size, start + (batch + 1) * size)
        batches.append(
            [
                (f"a {COLORS[n % 4]} star", n)
                if repeated
                else (f"a {COLORS[n % 8]} {SHAPES[n // 8 % 8]} number {n}", n)
                for n in numbers
            ]
        )
    return batches


def plain_loop(pipe: Any, batches: Sequence[Batch], steps: int, size: tuple[int, int]) -> None:
    """What one would write by hand."""
    import torch

    for batch in batches:
        images = pipe(
            prompt=[prompt for prompt, _ in batch],
            generator=[torch.Generator("cpu").manual_seed(seed) for _, seed in batch],
            num_inference_steps=steps,
            width=size[0],
            height=size[1],
        ).images
        for image in images:
            image.save(io.BytesIO(), "PNG", compress_level=1)


async def through_provider(
    provider: DiffusersProvider, batches: Sequence[Batch], steps: int, size: tuple[int, int]
) -> None:
    """As the engine does: as many calls in flight as the provider asks for."""
    waiting = iter(batches)

    async def work() -> None:
        for number, batch in enumerate(waiting):
            cells = tuple(
                Cell(
                    index=slot,
                    variant=0,
                    image_index=0,
                    params=CellParams(
                        prompt=prompt, seed=seed, steps=steps, size=f"{size[0]}x{size[1]}"
                    ),
                    axes=(),
                    cell_id="0" * 64,
                )
                for slot, (prompt, seed) in enumerate(batch)
            )
            await provider.generate(Call(str(number), cells), Silent())

    await asyncio.gather(*(work() for _ in range(provider.max_concurrency())))


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="builtin")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--batches", type=int, default=4)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--size", default="64x64")
    options = parser.parse_args()
    width, height = (int(side) for side in options.size.split("x"))
    with tempfile.TemporaryDirectory() as scratch:
        name = options.model
        if name in tiny.FAMILIES:
            name = str(tiny.build(name, Path(scratch) / name))
        print(f"model {options.model}, {width}x{height}, {options.steps} steps, 1 thread")
        print(f"{'':24}{'images/s':>19}{'images/CPU s':>19}{'ratio':>14}")
        print(
            f"{'batch':>8}{'prompts':>14}{'ours':>12}{'plain':>9}{'ours':>10}{'plain':>9}", end=""
        )
        print(f"{'wall':>8}{'CPU':>7}")
        for batch_size in options.batch_sizes:
            compare(name, batch_size, options, (width, height))


def compare(name: str, batch_size: int, options: Any, size: tuple[int, int]) -> None:
    """Print the lines of one batch size."""
    provider = DiffusersProvider(
        VariantSettings(
            provider=ProviderSettings(name="diffusers"),
            model=ModelSettings(name=name),
            device=DeviceSettings(name="cpu", threads=1, batch_size=batch_size),
        )
    )
    with asyncio.Runner() as loop:
        loop.run(provider.open())
        import diffusers
        import torch

        torch.set_num_threads(1)
        folder = find_source(ModelSettings(name=name)).folder
        pipe = diffusers.DiffusionPipeline.from_pretrained(
            folder, use_safetensors=True, **dict.fromkeys(provider._facts.absent)
        )
        pipe.set_progress_bar_config(disable=True)
        for repeated in (False, True):
            rounds = []
            for number in range(options.rounds + 1):
                batches = make_batches(
                    options.batches,
                    batch_size,
                    repeated=repeated,
                    start=number * options.batches * batch_size,
                )
                calls = through_provider(provider, batches, options.steps, size)
                ours = partial(loop.run, calls)
                plain = partial(plain_loop, pipe, batches, options.steps, size)
                if number % 2:
                    rounds.append((timed(ours), timed(plain)))
                else:
                    rounds.append((timed(plain), timed(ours))[::-1])
            report(batch_size, repeated, options.batches * batch_size, rounds[1:])
        loop.run(provider.close())


def report(
    batch_size: int,
    repeated: bool,
    images: int,
    rounds: Sequence[tuple[tuple[float, float], tuple[float, float]]],
) -> None:
    """Print one line; the first round, which warms everything up, is not among ``rounds``."""
    rates = [
        images / statistics.median(each[side][clock] for each in rounds)
        for clock in (0, 1)
        for side in (0, 1)
    ]
    ratios = [
        statistics.median(plain[clock] / ours[clock] for ours, plain in rounds) for clock in (0, 1)
    ]
    prompts = "4 repeated" if repeated else "distinct"
    print(f"{batch_size:>8}{prompts:>14}{rates[0]:12.2f}{rates[1]:9.2f}", end="")
    print(f"{rates[2]:10.2f}{rates[3]:9.2f}{ratios[0]:8.3f}{ratios[1]:7.3f}", flush=True)


if __name__ == "__main__":
    main()
