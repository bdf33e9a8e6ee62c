"""Cell-level keys and arguments of a pipeline's call: what is taken, and how it is passed.

Both directions live here, so that what is promised before a run is what is passed in it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from runner.providers.contract import Param, ProviderError
from runner.providers.local.preflight import Facts
from runner.settings.cell import FILES_APART, CellParams, Json
from runner.settings.errors import RequestError, did_you_mean, listed
from runner.settings.schema import PipelineSettings

if TYPE_CHECKING:
    from runner.providers.local.inputs import Inputs

LARGEST_SEED = 2**63 - 1

FIXED_LENGTH = frozenset({"stable-diffusion", "stable-diffusion-xl", "stable-diffusion-3", "flux"})
"""Families that pad every prompt to one length, so that neighbours in a batch change no bit.

Measured. In other families a long prompt makes the rows of its whole batch longer, so there a batch
holds one prompt with many seeds.
"""

_OURS = frozenset(
    {
        "prompt",
        "negative_prompt",
        "height",
        "width",
        "num_inference_steps",
        "guidance_scale",
        "image",
        "mask_image",
        "strength",
        "control_image",
        "controlnet_conditioning_scale",
        "control_guidance_start",
        "control_guidance_end",
        "num_images_per_prompt",
        "generator",
        "output_type",
        "return_dict",
        "callback_on_step_end",
        "callback_on_step_end_tensor_inputs",
    }
)
"""Arguments that the runner passes itself, by cell-level keys or because its promises need it."""

_SIZE = re.compile(r"([1-9]\d{0,4})x([1-9]\d{0,4})")


def parse_size(size: str) -> tuple[int, int]:
    """``WIDTHxHEIGHT`` as width and height in pixels.

    Raises:
        ValueError: Not of that form.
    """
    match = _SIZE.fullmatch(size.lower())
    if match is None:
        raise ValueError(f"size={size}: not WIDTHxHEIGHT in pixels")
    return int(match[1]), int(match[2])


class CallParams:
    """How one pipeline takes cell-level keys.

    Args:
        facts: What the model folder says; ``None``: a Hub id that is not downloaded yet, of which
            anything is assumed that some pipeline takes.
        pipeline: The job.
        extra: Further arguments of the pipeline's call, from ``provider.extra_body``.

    Raises:
        RequestError: ``extra`` holds an argument that the pipeline does not have, or that the
            runner passes itself.
    """

    def __init__(
        self, facts: Facts | None, pipeline: PipelineSettings, extra: Mapping[str, Json]
    ) -> None:
        self._facts = facts
        self._pipeline = pipeline
        self._controlled = pipeline.name == "controlnet" or bool(facts and facts.controlnets)
        self._call: Mapping[str, Json] | None = facts.signature.call if facts else None
        self._extra = dict(extra)
        self._require_known(extra)
        self.native = self._native_names()

    def table(self) -> dict[str, Param]:
        """Cell-level key to how it is taken."""
        multiple = self._facts.size_multiple if self._facts else None
        table = {
            "prompt": Param(native="prompt"),
            "seed": Param(native="generator", minimum=0, maximum=LARGEST_SEED),
        }
        for key, native in self.native.items():
            default = self._default(native)
            if key == "size":
                rule = f", multiples of {multiple}" if multiple else ""
                table[key] = Param(native="width, height", note=f"WIDTHxHEIGHT in pixels{rule}")
            elif key == "steps":
                table[key] = Param(native=native, minimum=1, maximum=10_000, default=default)
            elif key == "guidance_scale":
                table[key] = Param(native=native, minimum=0, maximum=1000, default=default)
            elif key == "strength":
                table[key] = Param(native=native, minimum=0, maximum=1, default=default)
            elif key == "control_scale":
                table[key] = Param(native=native, minimum=0, maximum=100, default=default)
            else:
                table[key] = Param(native=native)
        return table

    def shared_keys(self) -> frozenset[str]:
        """Keys in which the images of one batch may differ without changing each other."""
        pictures = {"image", "mask", "control_image"} & self.native.keys()
        if self._facts is None or self._facts.family.name not in FIXED_LENGTH:
            return frozenset({"seed", *pictures})
        return frozenset({"prompt", "negative_prompt", "seed", *pictures})

    def problems(self, params: CellParams) -> Sequence[str]:
        """What ranges cannot say: sizes, pictures that are missing, steps that are none."""
        found = (
            self._size_problem(params.size),
            *self._missing(params),
            *self._uneven(params),
            self._strength_problem(params),
        )
        return tuple(problem for problem in found if problem)

    def steps(self, params: CellParams) -> int | None:
        """How many are asked, or the class's own number; ``None`` where nobody tells."""
        steps = params.steps or self._default(self.native.get("steps", ""))
        return steps if isinstance(steps, int) else None

    @property
    def multiple(self) -> int:
        """What both sides of a picture must be multiples of; 8 where the class does not say."""
        return (self._facts.size_multiple if self._facts else None) or 8

    def _size_problem(self, size: str | None) -> str | None:
        if size is None or "size" not in self.native:
            return None
        try:
            width, height = parse_size(size)
        except ValueError:
            return f"size={size}: local pipelines take WIDTHxHEIGHT in pixels, 512x512"
        multiple = self._facts.size_multiple if self._facts else None
        if not multiple or not (width % multiple or height % multiple):
            return None
        near = "x".join(
            str(max(multiple, round(side / multiple) * multiple)) for side in (width, height)
        )
        return (
            f"size={size}: both sides must be multiples of {multiple} for this model; the "
            f"nearest is {near}"
        )

    def _missing(self, params: CellParams) -> Iterator[str]:
        for key in ("image", "mask", "control_image"):
            if key in self.native and getattr(params, key) is None:
                yield f"pipeline={self._pipeline.name} needs pipeline.{key}=FILE"

    def _uneven(self, params: CellParams) -> Iterator[str]:
        """Lists that must have one of something for each ControlNet."""
        if self._facts is None:
            return
        nets = len(self._facts.controlnets)
        job = self._pipeline
        files = (params.control_image or "").split(FILES_APART)
        for key, given in (
            ("control_image", files if len(files) > 1 else None),
            ("control_weights", job.control_weights),
            ("control_start", job.control_start),
            ("control_end", job.control_end),
        ):
            if isinstance(given, list) and len(given) != nets:
                yield (
                    f"pipeline.{key} has {len(given)} values, but there "
                    + (f"are {nets} ControlNets" if nets != 1 else "is one ControlNet")
                    + ": give one for each"
                )

    def _strength_problem(self, params: CellParams) -> str | None:
        strength = params.strength
        if strength is None or "strength" not in self.native:
            return None
        steps = self.steps(params)
        if steps is None or int(steps * strength) >= 1:
            return None
        return (
            f"pipeline.strength={strength:g} of {steps} steps is less than one step; take at least "
            f"{math.ceil(1000 / steps) / 1000:g}, or more steps"
        )

    def arguments(self, params: CellParams) -> dict[str, Json]:
        """Arguments of the pipeline's call for a whole batch, without prompts and generators.

        Raises:
            ProviderError: A key was asked that the pipeline does not take.
        """
        arguments: dict[str, Json] = dict(self._extra)
        asked = {
            "size": params.size,
            "steps": params.steps,
            "guidance_scale": params.guidance_scale,
            "negative_prompt": params.negative_prompt,
            "strength": params.strength,
            "control_scale": params.control_scale,
            "image": params.image,
            "mask": params.mask,
            "control_image": params.control_image,
        }
        for key, value in asked.items():
            if value is None:
                continue
            if key not in self.native:
                raise ProviderError(
                    "invalid", f"{key}: this pipeline does not take it", code="unsupported"
                )
            if key == "size":
                # With input pictures, their own size after resizing is passed.
                if not self.takes_pictures:
                    arguments["width"], arguments["height"] = parse_size(str(value))
            elif key not in {"negative_prompt", "image", "mask", "control_image"}:
                arguments[self.native[key]] = value
        nets = len(self._facts.controlnets) if self._facts else 0
        for key, share in (
            ("control_guidance_start", self._pipeline.control_start),
            ("control_guidance_end", self._pipeline.control_end),
        ):
            if isinstance(share, list):
                arguments[key] = [*share] if nets > 1 else share[0]
            elif share is not None:
                arguments[key] = share
        if nets > 1 or self._pipeline.control_weights:
            # Not every class repeats the weight of one ControlNet for all of them.
            native = self.native["control_scale"]
            scale = arguments.get(native, self._default(native))
            weights = self._pipeline.control_weights or [1.0] * nets
            if isinstance(scale, int | float):
                scales: list[Json] = [scale * weight for weight in weights]
                arguments[native] = scales if nets > 1 else scales[0]
        return arguments

    @property
    def takes_pictures(self) -> bool:
        """Whether the job starts from pictures."""
        return self._pipeline.name != "text2img"

    def size(self, params: CellParams) -> tuple[int, int] | None:
        """The size that is asked of an image."""
        return None if params.size is None else parse_size(params.size)

    def call_pictures(self, inputs: Inputs) -> dict[str, Any]:
        """The pictures of one image and their size, by the names that the pipeline has for them."""
        call: dict[str, Any] = {}
        if inputs.image is not None:
            call[self.native["image"]] = inputs.image
        if inputs.mask is not None:
            call[self.native["mask"]] = inputs.mask
        if inputs.control:
            call[self.native["control_image"]] = inputs.control
        if self._call is not None and {"width", "height"} <= self._call.keys():
            call["width"], call["height"] = inputs.size
        return call

    @property
    def settings(self) -> frozenset[str]:
        """Settings outside of the cells that are followed; see ``Capabilities.settings``."""
        found = {"model.controlnet", *(["pipeline.resize"] if self.takes_pictures else [])}
        if self._controlled:
            found.add("pipeline.preprocessor")
            found.add("pipeline.control_weights")
            for key in ("control_start", "control_end"):
                if self._takes(key.replace("control", "control_guidance")):
                    found.add(f"pipeline.{key}")
        return frozenset(found)

    def effective(self, arguments: Mapping[str, Json], width: int, height: int) -> dict[str, Json]:
        """What the pipeline used: what was passed, the class's own defaults, the real size."""
        used = {
            native: arguments.get(native, self._default(native))
            for native in (self.native.get("steps"), self.native.get("guidance_scale"))
            if native is not None
        }
        return {**arguments, **used, "width": width, "height": height}

    def guides(self, arguments: Mapping[str, Json]) -> bool:
        """Whether classifier-free guidance is on, without which a negative prompt does nothing."""
        native = "true_cfg_scale" if self._takes("true_cfg_scale") else "guidance_scale"
        scale = arguments.get(native, self._default(native))
        return not isinstance(scale, int | float) or scale > 1

    def negative_prompt(self, params: CellParams, arguments: Mapping[str, Json]) -> str | None:
        """The negative prompt to pass: where guidance needs one and none was asked, an empty one.

        Pipelines with ``true_cfg_scale`` ignore it without a negative prompt.
        """
        if params.negative_prompt is None and self.native.get("guidance_scale") in arguments:
            needed = self.native["guidance_scale"] == "true_cfg_scale" and self.guides(arguments)
            return "" if needed else None
        return params.negative_prompt

    def _native_names(self) -> dict[str, str]:
        """Cell-level key to the name of its argument, for the keys that do something."""
        native = {}
        if self.takes_pictures or (self._takes("height") and self._takes("width")):
            native["size"] = "width, height"
        if self._takes("num_inference_steps"):
            native["steps"] = "num_inference_steps"
        if self._takes("guidance_scale"):
            native["guidance_scale"] = "guidance_scale"
        if self._takes("negative_prompt"):
            native["negative_prompt"] = "negative_prompt"
        native |= self._native_pictures()
        if self._call is not None and "true_cfg_scale" in self._call:
            # `guidance_scale` is then a number that a distilled model is told, if it listens.
            listens = self._config("transformer").get("guidance_embeds") is not False
            if listens and not self.guides(self._extra):
                del native["negative_prompt"]
            if not listens:
                native["guidance_scale"] = "true_cfg_scale"
        return native

    def _native_pictures(self) -> dict[str, str]:
        native = {}
        kind = self._pipeline.name
        if kind == "inpaint" and self._call is not None and "control_mask" in self._call:
            # The ControlNet itself is shown what is to stay, and there is no other control image.
            scale = {"control_scale": "controlnet_conditioning_scale"}
            return {"image": "control_image", "mask": "control_mask"} | scale
        if kind in {"img2img", "inpaint"}:
            native["image"] = "image"
            if self._takes("strength"):
                native["strength"] = "strength"
        if kind == "inpaint":
            native["mask"] = "mask_image"
        if self._controlled:
            own = self._call is not None and "control_image" in self._call
            native["control_image"] = "control_image" if own or kind != "controlnet" else "image"
            if self._takes("controlnet_conditioning_scale"):
                native["control_scale"] = "controlnet_conditioning_scale"
        return native

    def _takes(self, argument: str) -> bool:
        return self._call is None or argument in self._call

    def _default(self, argument: str) -> Json:
        return None if self._call is None else self._call.get(argument)

    def _config(self, component: str) -> Mapping[str, Json]:
        return {} if self._facts is None else self._facts.configs.get(component, {})

    def _require_known(self, extra: Mapping[str, Json]) -> None:
        for name in extra:
            if name in _OURS:
                raise RequestError(
                    f"provider.extra_body.{name}: the runner passes this argument itself"
                )
            if self._facts is not None and name not in self._facts.signature.call:
                known = sorted({*self._facts.signature.call} - _OURS)
                raise RequestError(
                    f"provider.extra_body.{name}: {self._facts.signature.name} takes no such "
                    f"argument{did_you_mean(name, known) or f'; it takes {listed(known)}'}"
                )
