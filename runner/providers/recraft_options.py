"""Native parameters, tasks and model traits of Recraft's API, typed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from runner.providers.net.limits import ImageLimits
from runner.providers.sizes import Sizes
from runner.settings.cell import PipelineKind
from runner.settings.schema import Section

Byte = Annotated[int, Field(ge=0, le=255)]
Point = tuple[float, float]
Pixels = Annotated[int, Field(ge=0, le=4096)]

TaskName = Literal[
    "generate",
    "image_to_image",
    "inpaint",
    "outpaint",
    "replace_background",
    "generate_background",
    "variate",
    "vectorize",
    "remove_background",
    "crisp_upscale",
    "creative_upscale",
    "erase_region",
]


class Color(Section):
    """A color, and how much of it there is to be."""

    rgb: tuple[Byte, Byte, Byte] = Field(description="red, green and blue, 0 to 255")
    weight: float | None = Field(
        None, ge=0, le=1, description="its share; those of all colors are at most 1 together"
    )


class Controls(Section):
    """How the picture is to be, besides the prompt."""

    colors: tuple[Color, ...] = Field((), description="preferred colors")
    background_color: Color | None = Field(None, description="color of the background")
    artistic_level: int | None = Field(
        None, ge=0, le=5, description="0: plain and still, 5: eccentric (V3 only)"
    )
    no_text: bool | None = Field(None, description="no writing in the picture (V3 only)")


class TextBox(Section):
    """A word and where it stands."""

    text: str = Field(min_length=1, pattern=r"^\S+$", description="one word")
    bbox: tuple[Point, Point, Point, Point] = Field(
        description="its four corners; (0, 0) is the top left of the picture, (1, 1) its end"
    )


class RecraftOptions(Section):
    """What Recraft takes beyond the neutral keys."""

    task: TaskName | None = Field(
        None,
        description="what is done. With pipeline=img2img: image_to_image (usual), outpaint, "
        "replace_background, variate, vectorize, remove_background, crisp_upscale, "
        "creative_upscale; with pipeline=inpaint: inpaint (usual), generate_background, "
        "erase_region. Those that a model has no say in: model=recraft/tools",
    )
    substyle: str | None = Field(None, description="a finer style within style (V2 and V3)")
    style_id: str | None = Field(
        None, description="UUID of a style of your own, made for this very model"
    )
    style_references: tuple[str, ...] = Field(
        (), max_length=10, description="pictures whose style is taken: paths or addresses (V4)"
    )
    style_match: Literal["precise", "flexible"] | None = Field(
        None, description="how closely style_id or style_references are followed (V4)"
    )
    controls: Controls | None = Field(None, description="colors, artistic level, no text")
    text_layout: tuple[TextBox, ...] = Field((), description="words and their places (V3)")
    block_nsfw: bool | None = Field(None, description="refuse pictures that are not safe for work")
    expire: bool | None = Field(None, description="let the vendor's copy of the picture expire")
    expand_left: Pixels | None = Field(None, description="outpaint: pixels to add on the left")
    expand_right: Pixels | None = Field(None, description="outpaint: pixels to add on the right")
    expand_top: Pixels | None = Field(None, description="outpaint: pixels to add on top")
    expand_bottom: Pixels | None = Field(None, description="outpaint: pixels to add below")
    zoom_out_percentage: float | None = Field(
        None, ge=0, lt=100, description="outpaint: make the input smaller first, by so many percent"
    )


EXPAND = ("expand_left", "expand_right", "expand_top", "expand_bottom")
STYLE = ("substyle", "style_id", "style_references", "style_match")
LOOK = frozenset({*STYLE, "block_nsfw", "expire"})
"""Options of everything that makes a picture from a prompt."""

Key = Literal["negative_prompt", "style", "size", "seed", "strength", "output_format"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One of the API's routes.

    Attributes:
        path: Below the base URL.
        pipeline: The kind of pipeline that it is nearest to.
        keys: Cell-level keys besides the prompt and files; the model may still not take them.
        options: Names under ``provider.options``.
        prompt: It takes a prompt, and needs one.
        tool: No model has a say in it: one picture comes, as ``image``.
    """

    path: str
    pipeline: PipelineKind
    keys: frozenset[Key] = frozenset()
    options: frozenset[str] = frozenset()
    prompt: bool = True
    tool: bool = False


_DRAWN: frozenset[Key] = frozenset({"negative_prompt", "style", "output_format"})


def _tool(route: str, pipeline: PipelineKind = "img2img") -> Task:
    return Task(path=f"/images/{route}", pipeline=pipeline, prompt=False, tool=True)


TASKS: dict[TaskName, Task] = {
    "generate": Task(
        path="/images/generations",
        pipeline="text2img",
        keys=_DRAWN | {"size", "seed"},
        options=LOOK | {"controls", "text_layout"},
    ),
    "image_to_image": Task(
        path="/images/imageToImage",
        pipeline="img2img",
        keys=_DRAWN | {"seed", "strength"},
        options=LOOK | {"controls", "text_layout"},
    ),
    "inpaint": Task(
        path="/images/inpaint",
        pipeline="inpaint",
        keys=_DRAWN,
        options=LOOK | {"text_layout"},
    ),
    "outpaint": Task(
        path="/images/outpaint",
        pipeline="img2img",
        keys=_DRAWN | {"size"},
        options=LOOK | {"text_layout", "zoom_out_percentage", *EXPAND},
    ),
    "replace_background": Task(
        path="/images/replaceBackground",
        pipeline="img2img",
        keys=_DRAWN,
        options=LOOK | {"text_layout"},
    ),
    "generate_background": Task(
        path="/images/generateBackground",
        pipeline="inpaint",
        keys=_DRAWN,
        options=LOOK | {"text_layout"},
    ),
    "variate": Task(
        path="/images/variateImage",
        pipeline="img2img",
        keys=frozenset({"size", "seed", "output_format"}),
        prompt=False,
    ),
    "vectorize": _tool("vectorize"),
    "remove_background": _tool("removeBackground"),
    "crisp_upscale": _tool("crispUpscale"),
    "creative_upscale": _tool("creativeUpscale"),
    "erase_region": _tool("eraseRegion", "inpaint"),
}
"""What there is to do, by name."""

USUAL: dict[PipelineKind, TaskName] = {
    "text2img": "generate",
    "img2img": "image_to_image",
    "inpaint": "inpaint",
}
"""What a kind of pipeline does where no task is named."""


class RecraftTraits(Section):
    """What one model takes: data in ``conf/model/recraft/``."""

    sizes: Sizes = Field(description="sizes; without a table only ratios")
    tasks: tuple[TaskName, ...] = Field(description="what it does")
    keys: tuple[Key, ...] = Field((), description="cell-level keys that it takes, by task")
    options: tuple[str, ...] = Field((), description="names under provider.options that it takes")
    controls: tuple[Literal["colors", "background_color", "artistic_level", "no_text"], ...] = (
        Field((), description="names under provider.options.controls that it takes")
    )
    needs_style: bool = Field(False, description="refuses to draw without a style")
    inputs: ImageLimits = Field(
        ImageLimits(
            mimes=("image/png", "image/jpeg", "image/webp", "image/svg+xml"),
            min_side=256,
            max_side=4096,
            max_pixels=16_000_000,
        ),
        description="input images that it takes",
    )
    max_prompt: int = Field(10_000, ge=1, description="longest prompt in characters")
    max_n: int = Field(6, ge=1, description="most images of one call")
