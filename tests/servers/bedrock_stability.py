"""Stability's models on Bedrock as AWS documents them, and SDXL's older body."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from tests.servers.bedrock import Asked, BedrockServer, Model
from tests.servers.bedrock_amazon import Base64Image, opened
from tests.servers.loopback import image_base64
from tests.servers.strict import Int, ListOf, Number, OneOf, Rule, Shape, Text

SD35 = "stability.sd3-5-large-v1:0"
CORE = "stability.stable-image-core-v1:1"
ULTRA = "stability.stable-image-ultra-v1:1"
ENDED = frozenset(
    {
        "stability.sd3-large-v1:0",
        "stability.stable-image-core-v1:0",
        "stability.stable-image-ultra-v1:0",
    }
)
XL = "stability.stable-diffusion-xl-v1"
STYLES = OneOf(
    (
        "3d-model",
        "analog-film",
        "anime",
        "cinematic",
        "comic-book",
        "digital-art",
        "enhance",
        "fantasy-art",
        "isometric",
        "line-art",
        "low-poly",
        "modeling-compound",
        "neon-punk",
        "origami",
        "photographic",
        "pixel-art",
        "tile-texture",
    )
)
RANDOM_SEED = 987_654
"""What the server takes for a seed of 0, and for none."""
PROMPT = Text(10_000, shortest=1)
SEED = Int(0, 4_294_967_294)
GROW = Int(0, 20)
UNIT = Number(0, 1)
RATIO = OneOf(("16:9", "1:1", "21:9", "2:3", "3:2", "4:5", "5:4", "9:16", "9:21"))


@dataclass(frozen=True)
class Picture64:
    """An input image of at least 64 pixels a side."""

    least: int = 64

    def problem(self, value: Any) -> str | None:
        if text := Base64Image(("PNG", "JPEG", "WEBP")).problem(value):
            return text
        size = opened(value).size
        return f"is {size}, less than {self.least} a side" if min(size) < self.least else None


IMAGE = Picture64()
FORMAT: Mapping[str, Rule] = {"output_format": OneOf(("png", "jpeg", "webp"))}
TWO_FORMATS: Mapping[str, Rule] = {"output_format": OneOf(("png", "jpeg"))}
TEXTS: Mapping[str, Rule] = {"prompt": PROMPT, "negative_prompt": PROMPT}


def _service(required: tuple[str, ...], **fields: Rule) -> Shape:
    return Shape({**FORMAT, **fields}, required=required)


_SEEDED: Mapping[str, Rule] = {"seed": SEED}
_STYLED: Mapping[str, Rule] = {**TEXTS, **_SEEDED, "image": IMAGE, "style_preset": STYLES}
SERVICES: Mapping[str, Shape] = {
    "stable-image-inpaint": _service(
        ("prompt", "image"), **_STYLED, mask=Base64Image(), grow_mask=GROW
    ),
    "stable-outpaint": _service(
        ("image",),
        **{name: rule for name, rule in _STYLED.items() if name != "negative_prompt"},
        **dict.fromkeys(("left", "right", "up", "down"), Int(0, 2000)),
        creativity=Number(0.1, 1),
    ),
    "stable-image-erase-object": _service(
        ("image",), **_SEEDED, image=IMAGE, mask=Base64Image(), grow_mask=GROW
    ),
    "stable-image-search-replace": _service(
        ("prompt", "image", "search_prompt"), **_STYLED, search_prompt=PROMPT, grow_mask=GROW
    ),
    "stable-image-search-recolor": _service(
        ("prompt", "image", "select_prompt"), **_STYLED, select_prompt=PROMPT, grow_mask=GROW
    ),
    "stable-image-remove-background": _service(("image",), image=IMAGE),
    "stable-image-control-sketch": _service(("prompt", "image"), **_STYLED, control_strength=UNIT),
    "stable-image-control-structure": _service(
        ("prompt", "image"), **_STYLED, control_strength=UNIT
    ),
    "stable-image-style-guide": _service(
        ("prompt", "image"), **_STYLED, fidelity=UNIT, aspect_ratio=RATIO
    ),
    "stable-style-transfer": _service(
        ("init_image", "style_image"),
        **TEXTS,
        **_SEEDED,
        init_image=IMAGE,
        style_image=IMAGE,
        style_strength=UNIT,
        composition_fidelity=UNIT,
        change_strength=Number(0.1, 1),
    ),
    "stable-fast-upscale": _service(("image",), image=Picture64(32)),
    "stable-conservative-upscale": _service(
        ("prompt", "image"), **TEXTS, **_SEEDED, image=IMAGE, creativity=Number(0.1, 0.5)
    ),
    "stable-creative-upscale": _service(
        ("prompt", "image"), **_STYLED, creativity=Number(0.1, 0.5)
    ),
}
_GENERATE: Mapping[str, Rule] = {**TEXTS, **_SEEDED, "aspect_ratio": RATIO}
_FROM_IMAGE: Mapping[str, Rule] = {"image": IMAGE, "strength": UNIT}
SD35_SHAPE = Shape(
    {
        **_GENERATE,
        **_FROM_IMAGE,
        **FORMAT,
        "mode": OneOf(("text-to-image", "image-to-image")),
    },
    required=("prompt",),
)
ULTRA_SHAPE = Shape(
    {**_GENERATE, **_FROM_IMAGE, **TWO_FORMATS, "seed": Int(0, 4_294_967_295)}, required=("prompt",)
)
CORE_SHAPE = Shape({**_GENERATE, **TWO_FORMATS}, required=("prompt",))


def problems(shape: Shape, asked: Asked) -> Iterator[str]:
    """What is wrong with a request."""
    body = asked.body
    found = list(shape.problems(body))
    yield from found
    if found:
        return
    generator = shape is SD35_SHAPE or shape is ULTRA_SHAPE
    if generator and {"aspect_ratio", "image"} <= body.keys():
        yield "aspect_ratio is for text to image"
    if shape is SD35_SHAPE:
        wanted = "image-to-image" if "image" in body else "text-to-image"
        if body.get("mode", wanted) != wanted:
            yield f"mode is {body['mode']}"
        if ("image" in body) != ("strength" in body):
            yield "image and strength go together"
    if "left" in shape.fields and not any(body.get(s) for s in ("left", "right", "up", "down")):
        yield "none of left, right, up and down"
    if "mask" in body:
        asked.repainted.append(opened(body["mask"]).convert("L"))


def answer(asked: Asked) -> Mapping[str, Any]:
    """One image with its seed, or a reason why there is none."""
    if asked.situation == "refused":
        return {"finish_reasons": ["Filter reason: prompt"]}
    if asked.situation == "empty":
        return {"seeds": [], "finish_reasons": [], "images": []}
    if asked.situation == "text":
        return {"seeds": [1], "finish_reasons": ["Inference error"]}
    kind = str(asked.body.get("output_format", "png"))
    image = image_base64(asked.situation, asked.number, kind.upper())
    body: dict[str, Any] = {"finish_reasons": [None], "images": [image]}
    return {"seeds": [asked.body.get("seed") or RANDOM_SEED], **body}


def _model(shape: Shape, reply: Callable[[Asked], Mapping[str, Any]] = answer) -> Model:
    return Model(partial(problems, shape), reply)


class StabilityServer(BedrockServer):
    """Text to image, and the image services by their inference profiles only."""

    models: ClassVar[Mapping[str, Model]] = {
        SD35: _model(SD35_SHAPE),
        CORE: _model(CORE_SHAPE),
        ULTRA: _model(ULTRA_SHAPE),
        "stability.sd3-large-v1:0": _model(SD35_SHAPE),
        "stability.stable-image-core-v1:0": _model(CORE_SHAPE),
        "stability.stable-image-ultra-v1:0": _model(CORE_SHAPE),
        **{f"us.stability.{name}-v1:0": _model(shape) for name, shape in SERVICES.items()},
    }
    ended: ClassVar[frozenset[str]] = ENDED


# ---------------------------------------------------------------------- SDXL

SAMPLERS = (
    "DDIM",
    "DDPM",
    "K_DPMPP_2M",
    "K_DPMPP_2S_ANCESTRAL",
    "K_DPM_2",
    "K_DPM_2_ANCESTRAL",
    "K_EULER",
    "K_EULER_ANCESTRAL",
    "K_HEUN",
    "K_LMS",
)
XL_SIZES = (
    (1024, 1024),
    (1152, 896),
    (1216, 832),
    (1344, 768),
    (1536, 640),
    (640, 1536),
    (768, 1344),
    (832, 1216),
    (896, 1152),
)
XL_SHAPE = Shape(
    {
        "text_prompts": ListOf(
            Shape({"text": Text(2000, shortest=1), "weight": Number(-10, 10)}, required=("text",)),
            1,
        ),
        "width": Int(64, 1536),
        "height": Int(64, 1536),
        "cfg_scale": Number(0, 35),
        "clip_guidance_preset": OneOf(
            ("FAST_BLUE", "FAST_GREEN", "NONE", "SIMPLE", "SLOW", "SLOWER", "SLOWEST")
        ),
        "sampler": OneOf(SAMPLERS),
        "samples": OneOf((1,)),
        "seed": Int(0, 4_294_967_295),
        "steps": Int(10, 50),
        "style_preset": STYLES,
        "extras": Shape({"experiment": Text()}),
        "init_image": Base64Image(),
        "init_image_mode": OneOf(("IMAGE_STRENGTH", "STEP_SCHEDULE")),
        "image_strength": UNIT,
        "step_schedule_start": UNIT,
        "step_schedule_end": UNIT,
        "mask_source": OneOf(("MASK_IMAGE_WHITE", "MASK_IMAGE_BLACK", "INIT_IMAGE_ALPHA")),
        "mask_image": Base64Image(),
    },
    required=("text_prompts", "samples"),
)


def xl_problems(asked: Asked) -> Iterator[str]:
    """What is wrong with a request for SDXL."""
    body = asked.body
    found = list(XL_SHAPE.problems(body))
    yield from found
    if found:
        return
    sides = (body.get("width"), body.get("height"))
    if sides != (None, None) and sides not in XL_SIZES:
        yield f"{sides} is not a size of SDXL"
    if sides != (None, None) and "init_image" in body:
        yield "the size comes from init_image"
    from_image = {name for name in body if name.startswith(("image_strength", "step_schedule"))}
    if from_image and ("init_image" not in body or "mask_source" in body):
        yield f"{sorted(from_image)} are for image to image"
    stepped = any(name.startswith("step") and name != "steps" for name in from_image)
    if stepped and body.get("init_image_mode") != "STEP_SCHEDULE":
        yield "step_schedule needs init_image_mode STEP_SCHEDULE"
    if "image_strength" in body and body.get("init_image_mode") == "STEP_SCHEDULE":
        yield "image_strength is for init_image_mode IMAGE_STRENGTH"
    if ("mask_image" in body) != str(body.get("mask_source", "")).startswith("MASK_IMAGE"):
        yield f"mask_source {body.get('mask_source')} with mask_image {'mask_image' in body}"
    if body.get("mask_source") == "MASK_IMAGE_WHITE" and "mask_image" in body:
        asked.repainted.append(opened(body["mask_image"]).convert("L"))


def xl_answer(asked: Asked) -> Mapping[str, Any]:
    """One artifact; one that was filtered comes blurred."""
    if asked.situation in {"empty", "text"}:
        return {"result": "success", "artifacts": []}
    reason = "CONTENT_FILTERED" if asked.situation == "refused" else "SUCCESS"
    artifact = {
        "seed": asked.body.get("seed") or RANDOM_SEED,
        "base64": image_base64(asked.situation, asked.number),
        "finishReason": reason,
    }
    return {"result": "success", "artifacts": [artifact]}


class StableDiffusionServer(BedrockServer):
    """SDXL; its first version has ended."""

    models: ClassVar[Mapping[str, Model]] = {
        XL: Model(xl_problems, xl_answer),
        "stability.stable-diffusion-xl-v0": Model(xl_problems, xl_answer),
    }
    ended: ClassVar[frozenset[str]] = frozenset({"stability.stable-diffusion-xl-v0"})
