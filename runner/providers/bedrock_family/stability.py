"""Stability's models on Bedrock: text to image, and the image services that are a model each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from runner.providers.bedrock_family.body import as_base64, merged
from runner.providers.bedrock_family.client import ACCESS, SHARED, Bedrock, Invoked
from runner.providers.bedrock_family.stability_options import (
    SIDES,
    STYLE_PRESETS,
    StabilityOptions,
    StabilityTraits,
)
from runner.providers.contract import (
    UNKNOWN_PRICE,
    Answer,
    Call,
    Capabilities,
    Missing,
    Param,
    Picture,
    Price,
)
from runner.providers.net import Inputs, file_identity, given, grey_mask, native_fields, one_line
from runner.providers.prices import price_book, settle
from runner.providers.sizes import size_problems
from runner.settings.cell import CellParams, Json
from runner.settings.errors import RequestError, listed
from runner.settings.load import validate
from runner.settings.schema import VariantSettings

SEED_NOTE = "0 would ask for a random one"


class StabilityImages:
    """One of Stability's models for one variant.

    Args:
        settings: The variant.
        options: Its native options.
        bedrock: The way to it.

    Raises:
        RequestError: Options, traits or prices are wrong.
    """

    def __init__(
        self, settings: VariantSettings, options: StabilityOptions, bedrock: Bedrock
    ) -> None:
        self._settings = settings
        self._model = settings.model.name
        self._pipeline = settings.pipeline.name
        self._options = options
        self._bedrock = bedrock
        self._inputs = Inputs(bedrock.http)
        self._traits = validate(StabilityTraits, settings.model.traits, "model.traits")
        self._book = price_book(settings.model)
        problems = tuple(self._option_problems())
        if problems:
            raise RequestError(*problems)
        self.capabilities = self._make_capabilities()

    # ------------------------------------------------------------------ what is taken

    def _option_problems(self) -> Iterator[str]:
        traits = self._traits
        for name in sorted(given(self._options).keys() - SHARED - set(traits.options)):
            yield (
                f"provider.options.{name}: model {self._model} does not take it; it takes "
                f"{listed(sorted({*traits.options, *SHARED}))}"
            )
        creativity = self._options.creativity
        if "creativity" in traits.options and (creativity or 0) > traits.max_creativity:
            yield (
                f"provider.options.creativity={creativity}: model {self._model} takes at most "
                f"{traits.max_creativity}"
            )

    def _make_capabilities(self) -> Capabilities:
        traits, kind = self._traits, self._pipeline
        note = f"at most {traits.max_prompt:,} characters"
        params: dict[str, Param] = {}
        if traits.prompt != "none":
            params["prompt"] = Param(native="prompt", note=note)
        if traits.negative_prompt:
            params["negative_prompt"] = Param(native="negative_prompt", note=note)
        if traits.last_seed is not None:
            params["seed"] = Param(
                native="seed", minimum=1, maximum=traits.last_seed, note=SEED_NOTE
            )
        if kind in traits.sized:
            params["size"] = Param(native="aspect_ratio", note=traits.sizes.describe())
        if traits.styled:
            params["style"] = Param(native="style_preset", choices=STYLE_PRESETS)
        params["output_format"] = Param(
            native="output_format", choices=traits.output_formats, default=traits.output_formats[0]
        )
        if kind in {"img2img", "inpaint"}:
            params["image"] = Param(native=traits.image)
        if kind == "img2img" and traits.strength:
            params["strength"] = Param(
                native=traits.strength,
                minimum=traits.least_strength,
                maximum=1,
                default=traits.strength_default,
            )
        if kind == "inpaint":
            params["mask"] = Param(native="mask", note="greys are painted in part")
        if kind == "controlnet":
            params["control_image"] = Param(native=traits.image)
            params["control_scale"] = Param(
                native="control_strength", minimum=0, maximum=1, default=0.7
            )
        return Capabilities(
            pipelines=frozenset(traits.pipelines), params=params, seed_per_image=True
        )

    def identity(self) -> dict[str, Json]:
        """The options that change the picture; a file counts by its content, not by its path."""
        found = {name: value for name, value in given(self._options).items() if name not in ACCESS}
        if self._options.style_image is not None:
            found["style_image"] = file_identity(
                self._options.style_image, "provider.options.style_image"
            )
        return found

    def check(self, params: CellParams) -> Iterator[str]:
        """Problems of one cell."""
        traits, kind = self._traits, self._pipeline
        if kind in traits.sized:
            yield from size_problems(traits.sizes.ratio, params.size, self._model)
        if not params.prompt and traits.prompt == "required":
            yield f"prompt: model {self._model} needs one"
        for key in ("prompt", "negative_prompt"):
            text = getattr(params, key) or ""
            if len(text) > traits.max_prompt:
                yield (
                    f"{key}: {len(text):,} characters; model {self._model} takes "
                    f"{traits.max_prompt:,}"
                )
        if kind in {"img2img", "inpaint"} and params.image is None:
            yield f"pipeline.image: pipeline={kind} needs an input image: pipeline.image=FILE"
        if kind == "inpaint" and params.mask is None:
            yield (
                "pipeline.mask: pipeline=inpaint needs a mask (white = repaint): "
                "pipeline.mask=FILE; with pipeline=img2img the transparent part is repainted"
            )
        if kind == "controlnet" and params.control_image is None:
            yield "pipeline.control_image: pipeline=controlnet needs one"
        for name in traits.needs:
            if getattr(self._options, name) is None:
                yield f"provider.options.{name}: model {self._model} needs it"
        if set(SIDES) <= set(traits.options) and not any(
            getattr(self._options, side) for side in SIDES
        ):
            yield (
                f"provider.options: model {self._model} needs to know where to paint on: one of "
                f"{listed(SIDES)}, in pixels"
            )
        for file, what in (
            (params.image, "pipeline.image"),
            (params.control_image, "pipeline.control_image"),
            (self._options.style_image, "provider.options.style_image"),
        ):
            if problem := traits.inputs.problem(file, what):
                yield problem

    def estimate(self, params: CellParams) -> Price:
        """The price of one image."""
        return self._book.per_image() if self._book else UNKNOWN_PRICE

    # ------------------------------------------------------------------ what is sent

    async def generate(self, call: Call) -> Answer:
        """Make the image of one call.

        Raises:
            ProviderError: Any fault, already classified.
        """
        params, traits = call.params, self._traits
        warnings: list[str] = []
        shown = native_fields(self.capabilities, params, "size")
        if params.size is not None and self._pipeline in traits.sized:
            size = traits.sizes.ratio(params.size)
            shown["aspect_ratio"] = size.native
            warnings += [size.warning] if size.warning else []
        seed = call.cells[0].image_seed
        if seed is not None and traits.last_seed is not None:
            seed = 1 + (seed - 1) % traits.last_seed
            shown["seed"] = seed
        if traits.mode:
            shown["mode"] = "text-to-image" if self._pipeline == "text2img" else "image-to-image"
        options = given(self._options).items()
        shown |= {name: value for name, value in options if name not in {*SHARED, "style_image"}}
        extra = self._settings.provider.extra_body
        reply = await self._bedrock.invoke(merged({**await self._hidden(params), **shown}, extra))
        output = await self._output(reply, seed if "seed" in shown else None, warnings)
        cost, basis = settle(isinstance(output, Picture), book=self.estimate(call.params))
        return Answer(
            outputs=(output,),
            params_sent={"model": self._model, **shown, **extra},
            request_id=reply.request_id,
            cost_usd=cost,
            cost_basis=basis,
        )

    async def _hidden(self, params: CellParams) -> dict[str, Json]:
        """Text and files."""
        fields: dict[str, Json] = {}
        if params.prompt and self._traits.prompt != "none":
            fields["prompt"] = params.prompt
        for path, name, what in (
            (params.image, self._traits.image, "pipeline.image"),
            (params.control_image, self._traits.image, "pipeline.control_image"),
            (self._options.style_image, "style_image", "provider.options.style_image"),
        ):
            if path is not None:
                fields[name] = as_base64(await self._inputs.read(path, what))
        if params.mask is not None:
            fields["mask"] = as_base64(await self._inputs.mask(params.mask, grey_mask))
        return fields

    # ------------------------------------------------------------------ what came

    async def _output(
        self, reply: Invoked, seed: int | None, warnings: list[str]
    ) -> Picture | Missing:
        reason = _first(reply.body, "finish_reasons")
        if reason or reply.intervened:
            return self._missing(reply, str(reason or "a guardrail intervened"))
        used = _first(reply.body, "seeds")
        image = _first(reply.body, "images")
        return await self._bedrock.http.take(
            image if isinstance(image, str) else None,
            seed_sent=seed,
            effective={} if used is None else {"seed": used},
            warnings=warnings,
        )

    def _missing(self, reply: Invoked, reason: str) -> Missing:
        """A refusal comes with HTTP 200, a reason, and mostly without images and seeds."""
        message = self._bedrock.redact(one_line(reason))
        if reply.intervened or "filter" in reason.lower():
            kind = "guardrail" if reply.intervened else "content_filter"
            return Missing(outcome="refused", kind=kind, message=message)
        return Missing(outcome="failed", kind="inference_error", message=message)


def _first(body: Mapping[str, Any], name: str) -> Any:
    found = body.get(name)
    return found[0] if isinstance(found, list) and found else None
