"""Rules of the Images API that ranges and choices cannot say, checked before anything is sent."""

from __future__ import annotations

from collections.abc import Iterator

from runner.providers.net import given, size_problem
from runner.providers.openai_family.options import (
    ACCOUNT,
    EDIT_ONLY,
    GENERATE_ONLY,
    GIF_ONLY,
    ImagesOptions,
    OpenAITraits,
)
from runner.providers.sizes import size_problems
from runner.settings.cell import CellParams, PipelineKind
from runner.settings.errors import listed


def option_problems(
    model: str, pipeline: PipelineKind, options: ImagesOptions, traits: OpenAITraits
) -> Iterator[str]:
    """What is wrong with the options, whatever the cell."""
    for name in given(options).keys() - ACCOUNT:
        key = f"provider.options.{name}"
        if name not in traits.options:
            takes = listed(traits.options) or "none"
            yield f"{key}: model {model} does not take it; it takes {takes}"
        elif pipeline == "text2img" and name in EDIT_ONLY:
            yield f"{key}: it needs an input image: pipeline=img2img pipeline.image=FILE"
        elif pipeline != "text2img" and name in GENERATE_ONLY:
            yield f"{key}: edits do not take it; use it with pipeline=text2img"
    fidelity = options.input_fidelity
    if fidelity and "input_fidelity" in traits.options and fidelity not in traits.input_fidelities:
        yield (
            f"provider.options.input_fidelity={fidelity}: model {model} takes "
            f"{listed(traits.input_fidelities)}"
        )
    if len(options.images) + 1 > traits.max_input_images:
        yield (
            f"provider.options.images: {len(options.images)} images after the first are too many; "
            f"model {model} takes {traits.max_input_images} in all"
        )
    if options.markup and pipeline == "inpaint":
        yield "provider.options.markup: it cannot be used with a mask; use pipeline=img2img"


def cell_problems(
    params: CellParams,
    model: str,
    pipeline: PipelineKind,
    options: ImagesOptions,
    traits: OpenAITraits,
) -> Iterator[str]:
    """What is wrong with one cell's parameters, together with the options."""
    yield from size_problems(traits.sizes.pixels, params.size, model)
    if pipeline != "text2img" and params.image is None:
        yield f"pipeline.image: pipeline={pipeline} needs an input image: pipeline.image=FILE"
    if pipeline == "inpaint" and params.mask is None:
        yield "pipeline.mask: pipeline=inpaint needs a mask (white = repaint): pipeline.mask=FILE"
    if problem := size_problem(params.image, params.mask):
        yield problem
    if len(params.prompt) > traits.max_prompt:
        yield (
            f"prompt: {len(params.prompt):,} characters; model {model} takes {traits.max_prompt:,}"
        )
    file_format = params.output_format or next(iter(traits.output_formats), "png")
    chosen = given(options)
    if params.background == "transparent" and file_format not in {"png", "webp"}:
        yield (
            f"background=transparent: output_format={file_format} cannot hold it; use png or webp"
        )
    if "output_compression" in chosen and file_format not in {"jpeg", "webp"}:
        yield (
            f"provider.options.output_compression: output_format={file_format} has none; "
            "use jpeg or webp"
        )
    if "partial_images" in chosen and file_format in {"gif", "svg"}:
        yield f"provider.options.partial_images: output_format={file_format} is not streamed"
    if file_format == "gif" and pipeline == "inpaint":
        yield "output_format=gif: it is not made with a mask; use pipeline=img2img"
    for name in GIF_ONLY & chosen.keys():
        if file_format != "gif":
            yield f"provider.options.{name}: it is for output_format=gif"
    if "svg" in chosen and file_format != "svg":
        yield "provider.options.svg: it is for output_format=svg"
