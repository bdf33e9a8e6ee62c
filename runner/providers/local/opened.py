"""A loaded pipeline with all that its calls need. Not for light processes: it imports torch."""

from __future__ import annotations

import math
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runner.images.decode import upright
from runner.providers.contract import ProviderError
from runner.providers.local import identity, load
from runner.providers.local.device import Machine, Weights, choose_machine
from runner.providers.local.fitting import require_fitting, weights_facts
from runner.providers.local.inputs import Inputs, Pictures
from runner.providers.local.items import Item
from runner.providers.local.notices import NOTICES
from runner.providers.local.options import DiffusersOptions
from runner.providers.local.params import CallParams
from runner.providers.local.preflight import read_facts
from runner.providers.local.preprocess import Preprocess, make_preprocessor
from runner.providers.local.refine import refiner_weights
from runner.providers.local.sample import Sampler
from runner.providers.local.source import Source
from runner.providers.local.trial import Trial, gains_nothing, trial_steps
from runner.providers.net.inputs import read_input
from runner.settings.cell import CellParams, Json
from runner.settings.errors import RequestError
from runner.settings.schema import VariantSettings


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


def open_pipeline(
    found: Source,
    settings: VariantSettings,
    options: DiffusersOptions,
    *,
    batch_size: int,
    extra: Mapping[str, Json],
    preprocessors: Sequence[str],
    read: Callable[[str, str], Awaitable[bytes]],
) -> Opened:
    """Download what is missing of a model, and load it onto its device.

    Args:
        found: Where the model was found.
        settings: Of its variant.
        options: The same provider options, typed.
        batch_size: Images that are computed together.
        extra: Further arguments of every call.
        preprocessors: Names of what makes control images.
        read: Reads an input picture.

    Raises:
        RequestError: The model is refused.
        PrerequisiteError: Device, libraries or files are missing.
    """
    model, pipeline, refiner = settings.model, settings.pipeline, None
    NOTICES.attach()
    with NOTICES.listen() as heard:
        source = load.download(found, model, pipeline.name)
        facts = read_facts(source, model, pipeline.name)
        if facts is None:
            raise RuntimeError("a downloaded model has no folder")
        require_fitting(facts, options)
        weights = identity.count_weights(source, facts, model)
        if options.refiner is not None:
            load.download_refiner(options.refiner, model)
            weights += refiner_weights(options.refiner, model)
        machine = choose_machine(settings.device, options, weights)
        pipe = load.load_pipeline(source, facts, model, machine, options)
        if options.refiner is not None:
            refiner = load.load_refiner(pipe, options.refiner, model, machine, options)
        prompting = _prompting_picture(options)
        preprocess = [make_preprocessor(name, options, model.commits) for name in preprocessors]
    sampler = Sampler(pipe, batch_size, options.prompt_memo_mb * 2**20, prompting, refiner)
    params = CallParams(facts, pipeline, extra)
    makers = _one_each(preprocess, len(facts.controlnets))
    known: dict[str, Json] = {
        **identity.manifest_identity(source, facts, model),
        **weights_facts(options, model),
        "scheduler": load.scheduler_config(pipe),
    }
    return Opened(
        sampler,
        machine,
        weights,
        params,
        Pictures(read, pipeline.resize or "fit", params.multiple, makers),
        load.scheduler_of(pipe),
        known | ({"warnings": heard} if heard else {}),
        identity.hub_commits(source, facts, settings, options),
    )


def _prompting_picture(options: DiffusersOptions) -> dict[str, Any]:
    """The picture of the IP-Adapter, as an argument of every call."""
    if options.ip_adapter is None:
        return {}
    what = "provider.options.ip_adapter.image"
    return {"ip_adapter_image": upright(read_input(options.ip_adapter.image, what).data)}


def _one_each(preprocess: Sequence[Preprocess], nets: int) -> Sequence[Preprocess | None]:
    """One maker of control images per ControlNet: one for all, or none, or as many."""
    if len(preprocess) not in {0, 1, nets}:
        raise RequestError(
            f"pipeline.preprocessor has {len(preprocess)} names for {nets} ControlNets; give one "
            "for each, or one for all"
        )
    return preprocess if len(preprocess) == nets else [next(iter(preprocess), None)] * nets
