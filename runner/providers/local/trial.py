"""How many images are best computed together: a short trial of the loaded pipeline.

Batches gain much where a GPU has nothing to do in between, and nothing where one image already
fills it. Sizes are doubled as long as that makes an image faster by a tenth. On a GPU a size is not
even tried unless twice the memory of the one before is free.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from runner.providers.local.device import Weights, free_bytes, free_memory
from runner.providers.local.items import Item
from runner.providers.local.options import LARGEST_TRIED
from runner.providers.local.sample import Sampler, StoppedError
from runner.settings.cell import Json

_GAIN = 1.1
_STEPS = 4
_ROOM = 0.9
_TOY = 16_000_000
"""With more weights than these a CPU gains nothing by batches: it computes all the time."""


def gains_nothing(device: str, weights: Weights) -> bool:
    """Whether a batch of one is known to be as fast as any, without a trial."""
    return device == "cpu" and weights.all > _TOY


def best_size(seconds: Callable[[int], float | None], calls: Sequence[int]) -> int:
    """The size that makes all images soonest; batches that are not full are filled up.

    Args:
        seconds: How long a batch of this size takes; ``None``: it does not fit into the memory.
            Not asked any more once a size makes an image less than a tenth faster than half of it.
        calls: How many images may share a batch, call by call.
    """
    took: dict[int, float] = {}
    size, most = 1, min(max(calls), LARGEST_TRIED)
    while size <= most and (found := seconds(size)) is not None:
        if size > 1 and found * _GAIN > 2 * took[size // 2]:
            break
        took[size] = found
        size *= 2

    def whole(size: int) -> float:
        return took[size] * sum(math.ceil(images / size) for images in calls)

    return min(took, key=whole, default=1)


def trial_steps(steps: Json, strength: Json) -> int | None:
    """As many steps as make a batch's time comparable; ``None``: the pipeline's own number.

    Args:
        steps: Steps of an image.
        strength: The share of them that is made.
    """
    if not isinstance(steps, int):
        return None
    share = strength if isinstance(strength, int | float) and strength > 0 else 1.0
    return min(steps, math.ceil(_STEPS / share))


class Trial:
    """Makes batches only to see how long they take.

    Args:
        sampler: Of the loaded pipeline. Its batch size is changed.
        item: An image as the run wants them.
        arguments: Further arguments of the pipeline's call.
        stop: Set from another thread to end the trial.
        device: Where the pipeline computes.
    """

    def __init__(
        self,
        sampler: Sampler,
        item: Item,
        arguments: Mapping[str, Json],
        stop: threading.Event,
        device: str,
    ) -> None:
        self._sampler = sampler
        self._item = item
        self._arguments = arguments
        self._stop = stop
        self._device = device
        # Other work on the machine counts against no batch.
        self._clock = time.thread_time if device == "cpu" else time.perf_counter
        self._bytes = 0

    def run(self, calls: Sequence[int]) -> int:
        """The best batch size.

        Args:
            calls: How many images may share a batch, call by call.

        Raises:
            StoppedError: ``stop`` was set.
        """
        try:
            return best_size(self._seconds, calls)
        finally:
            free_memory()

    def _seconds(self, size: int) -> float | None:
        if not fits(2 * self._bytes, _free_bytes(self._device)):
            return None
        self._sampler.batch_size = size
        items = [replace(self._item, seed=self._item.seed + slot) for slot in range(size)]
        held = _watch(self._device)
        took = []
        # The first one also encodes the prompt and chooses kernels.
        for _ in range(2):
            start = self._clock()
            try:
                _, fitting = self._sampler.run(
                    items, self._arguments, self._stop, lambda done, total: None
                )
            except StoppedError:
                raise
            except Exception:
                return None  # the call itself will say why
            if fitting < size:
                return None
            took.append(self._clock() - start)
        self._bytes = _most_bytes(self._device) - held
        return min(took)


def fits(wanted: int, free: int | None) -> bool:
    """Whether so many bytes can be had and some are left; unknown is tried."""
    return free is None or wanted <= _ROOM * free


def _free_bytes(device: str) -> int | None:
    """Bytes that the pipeline may still take of a GPU; ``None``: nobody can tell."""
    if not device.startswith("cuda"):
        return None
    import torch

    cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return (free_bytes(torch.device(device)) or 0) + int(cached)


def _watch(device: str) -> int:
    """Begin to look for the most memory that is taken; what is taken now."""
    if not device.startswith("cuda"):
        return 0
    import torch

    torch.cuda.reset_peak_memory_stats(device)
    return int(torch.cuda.memory_allocated(device))


def _most_bytes(device: str) -> int:
    if not device.startswith("cuda"):
        return 0
    import torch

    return int(torch.cuda.max_memory_allocated(device))
