"""Titan Image Generator and Nova Canvas as AWS documents them: a task, its section, its config."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from PIL import Image, ImageChops

from tests.servers.bedrock import Asked, BedrockServer, Model
from tests.servers.loopback import image_base64, picture
from tests.servers.strict import Bool, Int, ListOf, Number, OneOf, Rule, Shape, Text

TITAN_V1 = "amazon.titan-image-generator-v1"
TITAN_V2 = "amazon.titan-image-generator-v2:0"
NOVA = "amazon.nova-canvas-v1:0"
TITAN_SIZES = (
    "1024x1024",
    "768x768",
    "512x512",
    "768x1152",
    "384x576",
    "1152x768",
    "576x384",
    "768x1280",
    "384x640",
    "1280x768",
    "640x384",
    "896x1152",
    "448x576",
    "1152x896",
    "576x448",
    "768x1408",
    "384x704",
    "1408x768",
    "704x384",
    "640x1408",
    "320x704",
    "1408x640",
    "704x320",
    "1152x640",
    "1173x640",
)
STYLES = (
    "3D_ANIMATED_FAMILY_FILM",
    "DESIGN_SKETCH",
    "FLAT_VECTOR_ILLUSTRATION",
    "GRAPHIC_NOVEL_ILLUSTRATION",
    "MAXIMALISM",
    "MIDCENTURY_RETRO",
    "PHOTOREALISM",
    "SOFT_DIGITAL_PAINTING",
)
GARMENTS = (
    "UPPER_BODY",
    "LOWER_BODY",
    "FULL_BODY",
    "FOOTWEAR",
    "LONG_SLEEVE_SHIRT",
    "SHORT_SLEEVE_SHIRT",
    "NO_SLEEVE_SHIRT",
    "OTHER_UPPER_BODY",
    "LONG_PANTS",
    "SHORT_PANTS",
    "OTHER_LOWER_BODY",
    "LONG_DRESS",
    "SHORT_DRESS",
    "FULL_BODY_OUTFIT",
    "OTHER_FULL_BODY",
    "SHOES",
    "BOOTS",
    "OTHER_FOOTWEAR",
)


def opened(text: str) -> Image.Image:
    """An image that came as base64."""
    image = Image.open(io.BytesIO(base64.b64decode(text, validate=True)))
    image.load()
    return image


@dataclass(frozen=True)
class Base64Image:
    """An image as base64, of a few formats."""

    formats: tuple[str, ...] = ("PNG", "JPEG")

    def problem(self, value: Any) -> str | None:
        try:
            found = opened(value).format
        except Exception as error:
            return f"is no image: {type(error).__name__}"
        return None if found in self.formats else f"is {found}, not {' or '.join(self.formats)}"


@dataclass(frozen=True)
class PureMask:
    """A mask of nothing but black and white."""

    def problem(self, value: Any) -> str | None:
        if text := Base64Image().problem(value):
            return text
        levels = {level for _, level in opened(value).convert("L").getcolors() or ()}
        return None if levels <= {0, 255} else f"has the greys {sorted(levels)}"


IMAGE = Base64Image()
MASK = PureMask()
ON_OFF = OneOf(("ON", "OFF", "DEFAULT"))
MASK_SHAPE = OneOf(("CONTOUR", "BOUNDING_BOX", "DEFAULT"))
CONDITION: Mapping[str, Rule] = {
    "conditionImage": IMAGE,
    "controlMode": OneOf(("CANNY_EDGE", "SEGMENTATION")),
    "controlStrength": Number(0, 1),
}
TRY_ON = Shape(
    {
        "sourceImage": IMAGE,
        "referenceImage": IMAGE,
        "maskType": OneOf(("IMAGE", "GARMENT", "PROMPT")),
        "imageBasedMask": Shape({"maskImage": MASK}, required=("maskImage",)),
        "garmentBasedMask": Shape(
            {
                "maskShape": MASK_SHAPE,
                "garmentClass": OneOf(GARMENTS),
                "garmentStyling": Shape(
                    {
                        "longSleeveStyle": OneOf(("SLEEVE_DOWN", "SLEEVE_UP")),
                        "tuckingStyle": OneOf(("UNTUCKED", "TUCKED")),
                        "outerLayerStyle": OneOf(("CLOSED", "OPEN")),
                    }
                ),
            },
            required=("garmentClass",),
        ),
        "promptBasedMask": Shape(
            {"maskShape": MASK_SHAPE, "maskPrompt": Text(shortest=1)}, required=("maskPrompt",)
        ),
        "maskExclusions": Shape(
            {"preserveBodyPose": ON_OFF, "preserveHands": ON_OFF, "preserveFace": ON_OFF}
        ),
        "mergeStyle": OneOf(("BALANCED", "SEAMLESS", "DETAILED")),
        "returnMask": Bool(),
    },
    required=("sourceImage", "referenceImage", "maskType"),
)


def _sections(longest: int, more: Mapping[str, Rule], masked: Mapping[str, Rule]) -> dict[str, Any]:
    text: Mapping[str, Rule] = {
        "text": Text(longest, shortest=1),
        "negativeText": Text(longest, shortest=1),
    }
    edit: Mapping[str, Rule] = {
        "image": IMAGE,
        "maskPrompt": Text(shortest=1),
        "maskImage": MASK,
        **text,
        **masked,
    }
    return {
        "TEXT_IMAGE": ("textToImageParams", Shape({**text, **more}, required=("text",))),
        "COLOR_GUIDED_GENERATION": (
            "colorGuidedGenerationParams",
            Shape(
                {
                    **text,
                    "colors": ListOf(Text(pattern="#[0-9A-Fa-f]{6}"), 1, 10),
                    "referenceImage": IMAGE,
                },
                required=("text", "colors"),
            ),
        ),
        "IMAGE_VARIATION": (
            "imageVariationParams",
            Shape(
                {**text, "images": ListOf(IMAGE, 1, 5), "similarityStrength": Number(0.2, 1)},
                required=("images",),
            ),
        ),
        "INPAINTING": ("inPaintingParams", Shape(edit, required=("image",))),
        "OUTPAINTING": (
            "outPaintingParams",
            Shape(
                {**edit, "outPaintingMode": OneOf(("DEFAULT", "PRECISE"))},
                required=("image", "text"),
            ),
        ),
        "BACKGROUND_REMOVAL": (
            "backgroundRemovalParams",
            Shape({"image": IMAGE}, required=("image",)),
        ),
        "VIRTUAL_TRY_ON": ("virtualTryOnParams", TRY_ON),
    }


_TITAN = _sections(512, CONDITION, {"returnMask": Bool()})
_V2_ONLY = {"COLOR_GUIDED_GENERATION", "BACKGROUND_REMOVAL"}
TASKS: Mapping[str, Mapping[str, Any]] = {
    TITAN_V2: {name: found for name, found in _TITAN.items() if name != "VIRTUAL_TRY_ON"},
    TITAN_V1: {
        name: found
        for name, found in _sections(512, {}, {"returnMask": Bool()}).items()
        if name not in _V2_ONLY | {"VIRTUAL_TRY_ON"}
    },
    NOVA: _sections(1024, {**CONDITION, "style": OneOf(STYLES)}, {}),
}
CONFIG = Shape(
    {
        "numberOfImages": Int(1, 5),
        "quality": OneOf(("standard", "premium")),
        "cfgScale": Number(1.1, 10),
        "seed": Int(0, 2_147_483_646),
        "width": Int(1, 4096),
        "height": Int(1, 4096),
    },
    required=("numberOfImages",),
)


def problems(asked: Asked) -> Iterator[str]:
    """What is wrong with a request."""
    body, tasks = asked.body, TASKS[asked.model]
    task = str(body.get("taskType"))
    if task not in tasks:
        yield f"taskType is {task!r}"
        return
    section, shape = tasks[task]
    config = body.get("imageGenerationConfig")
    for name in body.keys() - {"taskType", section, "imageGenerationConfig"}:
        yield f"{name} is not a field of {task}"
    if section not in body:
        yield f"{section} is missing"
        return
    fields = body[section]
    for text in shape.problems(fields):
        yield f"{section}: {text}"
    if task == "BACKGROUND_REMOVAL":
        if config is not None:
            yield "BACKGROUND_REMOVAL takes no imageGenerationConfig"
        return
    if config is None:
        yield "numberOfImages is not sent"
        return
    yield from CONFIG.problems(config)
    yield from _config_rules(asked.model, task, config)
    yield from _section_rules(task, fields)
    if task in {"INPAINTING", "OUTPAINTING"} and "maskImage" in fields:
        _keep(asked, fields["image"], fields["maskImage"], task)
    if "imageBasedMask" in fields:
        _keep(asked, fields["sourceImage"], fields["imageBasedMask"]["maskImage"], task)


def _config_rules(model: str, task: str, config: Mapping[str, Any]) -> Iterator[str]:
    sides = [config.get("width"), config.get("height")]
    if (sides[0] is None) != (sides[1] is None):
        yield "width and height go together"
    elif sides[0] is not None:
        width, height = int(config["width"]), int(config["height"])
        if model != NOVA:
            if f"{width}x{height}" not in TITAN_SIZES:
                yield f"{width}x{height} is not a size of Titan"
        elif task in {"INPAINTING", "OUTPAINTING", "VIRTUAL_TRY_ON"}:
            yield f"{task} takes no width and height"
        elif (
            width % 16
            or height % 16
            or min(width, height) < 320
            or width * height > 4_194_304
            or max(width, height) > 4 * min(width, height)
        ):
            yield f"{width}x{height} is not a size of Nova Canvas"
    if model == NOVA and task == "IMAGE_VARIATION" and "quality" in config:
        yield "IMAGE_VARIATION takes no quality"


def _section_rules(task: str, fields: Mapping[str, Any]) -> Iterator[str]:
    if task in {"INPAINTING", "OUTPAINTING"} and ("maskImage" in fields) == (
        "maskPrompt" in fields
    ):
        yield "exactly one of maskImage and maskPrompt"
    if {"controlMode", "controlStrength"} & fields.keys() and "conditionImage" not in fields:
        yield "controlMode and controlStrength need a conditionImage"
    if task == "VIRTUAL_TRY_ON":
        wanted = {"IMAGE": "imageBasedMask", "GARMENT": "garmentBasedMask"}
        name = wanted.get(fields["maskType"], "promptBasedMask")
        others = {"imageBasedMask", "garmentBasedMask", "promptBasedMask"} & fields.keys()
        if others != {name}:
            yield f"maskType {fields['maskType']} came with {sorted(others)}"


def _keep(asked: Asked, image: str, mask: str, task: str) -> None:
    grey = opened(mask).convert("L")
    if grey.size != opened(image).size:
        raise ValueError(f"the mask is {grey.size}, the image {opened(image).size}")
    # OUTPAINTING paints the white part, all others the black one.
    asked.repainted.append(grey if task == "OUTPAINTING" else ImageChops.invert(grey))


def answer(asked: Asked) -> Mapping[str, Any]:
    """Images, or the words of a refusal."""
    config = asked.body.get("imageGenerationConfig", {})
    count = config.get("numberOfImages", 1)
    if asked.situation == "refused":
        return {
            "images": [],
            "error": "All of the generated images have been blocked by our content filters.",
        }
    if asked.situation == "empty":
        return {"images": [], "error": None}
    if asked.situation == "text":
        return {"images": ["I would rather not."], "error": None}
    made = [
        image_base64(asked.situation, asked.number + at)
        for at in range(count - (asked.situation == "partial"))
    ]
    body: dict[str, Any] = {"images": made, "error": None}
    if asked.situation == "partial":
        body["error"] = "Some of the generated images have been blocked by our content filters."
    section = asked.body.get(TASKS[asked.model][asked.body["taskType"]][0], {})
    if section.get("returnMask"):
        body["maskImage"] = base64.b64encode(picture(7)).decode()
    return body


BLOCKED = (
    400,
    "ValidationException",
    "This request has been blocked by our content filters. Please adjust your text prompt to "
    "submit a new request.",
)


class TitanServer(BedrockServer):
    """Both versions; the first has ended."""

    models: ClassVar[Mapping[str, Model]] = {
        TITAN_V1: Model(problems, answer),
        TITAN_V2: Model(problems, answer),
    }
    ended: ClassVar[frozenset[str]] = frozenset({TITAN_V1})


class NovaCanvasServer(BedrockServer):
    """Nova Canvas refuses an input by status, an output with HTTP 200."""

    models: ClassVar[Mapping[str, Model]] = {NOVA: Model(problems, answer, BLOCKED)}
