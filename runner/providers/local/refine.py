"""A refiner takes over from Stable Diffusion XL where little noise is left.

It is a model of its own that shares the second text encoder and the autoencoder of the base.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.providers.local.device import Weights
from runner.providers.local.identity import count_weights, manifest_identity, source_identity
from runner.providers.local.options import Refiner
from runner.providers.local.preflight import Facts, read_facts
from runner.providers.local.source import Source, find_source
from runner.settings.cell import Json
from runner.settings.errors import PrerequisiteError, RequestError
from runner.settings.schema import ModelSettings

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

_ROUNDING = 1e-6
SHARED = ("text_encoder_2", "tokenizer_2", "vae")
"""Components that the base lends to its refiner."""

PASSED_ON = (
    "prompt",
    "negative_prompt",
    "num_inference_steps",
    "guidance_scale",
    "guidance_rescale",
    "generator",
)
"""Arguments of the base's call that the refiner's gets too."""


@dataclass(frozen=True, slots=True)
class LoadedRefiner:
    """A refiner on its device.

    Attributes:
        pipe: Image to image, from latents.
        start: Share of the steps that the base does before.
    """

    pipe: DiffusionPipeline
    start: float


def share_problem(refiner: Refiner, steps: int, strength: float | None) -> str | None:
    """What is wrong with the steps that base and refiner are to share, if something is.

    Either one that gets no step hands on what it was given, and says nothing.
    """
    last = (1 - refiner.high_noise_frac) * steps
    if last < 1 - _ROUNDING:
        least = math.ceil(1 / (1 - refiner.high_noise_frac) - _ROUNDING)
        return (
            f"steps={steps}: less than one of them is the refiner's; take at least {least}, or a "
            "smaller provider.options.refiner.high_noise_frac"
        )
    if (1 if strength is None else strength) * steps - last < 1 - _ROUNDING:
        more = "" if strength is None else ", a greater pipeline.strength"
        return (
            f"steps={steps}: all of them are the refiner's; take more{more} or a greater "
            "provider.options.refiner.high_noise_frac"
        )
    return None


def refiner_model(refiner: Refiner, base: ModelSettings) -> ModelSettings:
    """The refiner as any other model; what it shares is not its own."""
    return ModelSettings(
        name=refiner.name,
        revision=refiner.revision,
        variant=refiner.variant,
        commits=base.commits,
        components=dict.fromkeys(SHARED),
    )


def find_refiner(model: ModelSettings) -> tuple[Source, Facts | None]:
    """Find and check a refiner, by its settings as a model.

    Raises:
        RequestError: It is none, or may not be loaded.
        PrerequisiteError: It is on the Hub, not in the cache, and this machine is offline.
    """
    try:
        source = find_source(model)
        facts = read_facts(source, model, "img2img")
    except (RequestError, PrerequisiteError) as error:
        reason = str(error).removeprefix(f"model.name={model.name!r}: ")
        raise type(error)(f"provider.options.refiner={model.name!r}: {reason}") from None
    if facts is not None and facts.family.name != "stable-diffusion-xl":
        raise RequestError(
            f"provider.options.refiner={model.name!r}: {facts.signature.name} refines nothing; "
            "take one of Stable Diffusion XL"
        )
    return source, facts


def refiner_identity(refiner: Refiner, base: ModelSettings) -> dict[str, Json]:
    """What of a refiner belongs to a cell's id."""
    model = refiner_model(refiner, base)
    source, facts = find_refiner(model)
    return {
        **source_identity(source, facts, model),
        "high_noise_frac": refiner.high_noise_frac,
    }


def refiner_facts(refiner: Refiner, base: ModelSettings) -> Mapping[str, Json]:
    """Everything that is known of a loaded one, for the manifest."""
    model = refiner_model(refiner, base)
    source, facts = find_refiner(model)
    return {} if facts is None else manifest_identity(source, facts, model)


def refiner_weights(refiner: Refiner, base: ModelSettings) -> Weights:
    """How many numbers it adds to the base."""
    model = refiner_model(refiner, base)
    source, facts = find_refiner(model)
    return Weights(0, 0) if facts is None else count_weights(source, facts, model)
