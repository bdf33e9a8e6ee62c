"""A loaded pipeline with all that its calls need. Not for light processes: it imports torch."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runner.providers.contract import ProviderError
from runner.providers.local.device import Machine, Weights
from runner.providers.local.inputs import Inputs, Pictures
from runner.providers.local.params import CallParams
from runner.providers.local.sample import Item, Sampler
from runner.providers.local.trial import Trial, gains_nothing, trial_steps
from runner.settings.cell import CellParams, Json


@dataclass(frozen=True, slots=True)
class Opened:
    """What opening a local provider makes.

    Attributes:
        sampler: Calls the pipeline.
        machine: What it runs on.
        weights: How large it is.
        params: How it takes cell-level keys.
        pictures: Makes the pictures that go in.
        scheduler: Class name of its scheduler.
        identity: What is known of its weights.
        commits: Hub ids, and the commits that were loaded of them.
    """

    sampler: Sampler
    machine: Machine
    weights: Weights
    params: CallParams
    pictures: Pictures
    scheduler: str
    identity: Mapping[str, Json]
    commits: Mapping[str, str]

    async def inputs(self, params: CellParams) -> Inputs | ProviderError | None:
        """The pictures that go into an image, or what is wrong with them."""
        try:
            return await self.pictures.of(params, self.params.size(params))
        except ProviderError as error:
            return error

    def item(
        self, params: CellParams, seed: int, given: Inputs | None, arguments: Mapping[str, Json]
    ) -> Item:
        """One image for the sampler.

        Args:
            params: What is asked.
            seed: Start of its noise.
            given: The pictures that go in.
            arguments: What the whole call passes to the pipeline.
        """
        pictures: dict[str, Any] = {} if given is None else self.params.call_pictures(given)
        return Item(params.prompt, self.params.negative_prompt(params, arguments), seed, pictures)

    def best_batch(
        self, sample: CellParams, given: Inputs | None, calls: Sequence[int], stop: threading.Event
    ) -> int:
        """How many images are best computed together.

        Args:
            sample: What is asked of one of them.
            given: The pictures that go into it.
            calls: How many of them may share a batch, call by call.
            stop: Set from another thread to end the trial.

        Raises:
            StoppedError: ``stop`` was set.
        """
        if gains_nothing(self.machine.device, self.weights):
            return 1
        arguments, native = self.params.arguments(sample), self.params.native
        used = self.params.effective(arguments, 0, 0)
        steps = trial_steps(used.get(native.get("steps", "")), used.get(native.get("strength", "")))
        if steps is not None:
            arguments[native["steps"]] = steps
        item = self.item(sample, 0, given, arguments)
        return Trial(self.sampler, item, arguments, stop, self.machine.device).run(calls)

    def pixels(self, params: CellParams) -> int:
        """How many an image has, as far as its size is asked."""
        return math.prod(self.params.size(params) or ())
