"""Recraft: raster and vector pictures, styles of one's own, edits, outpainting and tools.

``python -m runner provider=recraft model=recraft/v4_1_vector prompt="a lighthouse" size=16:9``
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import ClassVar

from runner.providers.contract import (
    UNKNOWN_PRICE,
    Answer,
    Call,
    Capabilities,
    Listener,
    Param,
    Price,
    Provider,
)
from runner.providers.net import FaultRules, Http, Inputs, encode_data_url, given
from runner.providers.net.inputs import InputImage, binary_mask, file_identity, file_problems
from runner.providers.openai_family.answers import read_answer
from runner.providers.prices import price_book
from runner.providers.recraft_options import (
    EXPAND,
    TASKS,
    USUAL,
    RecraftOptions,
    RecraftTraits,
    TaskName,
)
from runner.providers.sizes import Chosen, SizeError, Sizes, parse_size, size_problems
from runner.settings.cell import CellParams, Json
from runner.settings.errors import RequestError, listed
from runner.settings.load import validate
from runner.settings.schema import VariantSettings

BASE_URL = "https://external.api.recraft.ai/v1"
KEY_VARIABLES = ("RECRAFT_API_TOKEN", "RECRAFT_API_KEY")
RULES = FaultRules(
    refused_words=("nsfw", "not safe for work", "moderation", "content policy"),
    no_credit_words=("not enough credits", "insufficient"),
)
"""Its errors have no published codes, and some are plain text: words have to do."""
MOST_SEEDS = 2**32
"""The API takes seeds below this."""
USUAL_STRENGTH = 0.5
"""Sent where none is asked, as the API insists on one."""
MOST_INPUT_BYTES = 10_000_000
NOT_FIELDS = frozenset({"task", "style_references"})


class RecraftProvider(Provider):
    """Recraft V2 to V4.1, and its tools."""

    name: ClassVar[str] = "recraft"
    options_type = RecraftOptions
    http: Http

    def __init__(self, settings: VariantSettings) -> None:
        super().__init__(settings)
        self.options = validate(RecraftOptions, settings.provider.options, "provider.options")
        self.traits = validate(RecraftTraits, settings.model.traits, "model.traits")
        self.pipeline = settings.pipeline.name
        self.book = price_book(settings.model)
        self.http = Http(settings, base_url=BASE_URL, variables=KEY_VARIABLES, rules=RULES)
        self._inputs = Inputs(self.http)
        self._task_name = self.options.task or self._usual_task()
        self._task = TASKS[self._task_name]
        problems = tuple(self._option_problems())
        if problems:
            raise RequestError(*problems)
        self._capabilities = self._make_capabilities()

    def _usual_task(self) -> TaskName:
        fitting = [name for name in self.traits.tasks if TASKS[name].pipeline == self.pipeline]
        return fitting[0] if len(fitting) == 1 else USUAL.get(self.pipeline, "generate")

    def _option_problems(self) -> Iterator[str]:
        chosen, traits, task, name = given(self.options), self.traits, self._task, self._task_name
        model = self.settings.model.name
        if self.options.task is not None:
            if name not in traits.tasks:
                yield (
                    f"provider.options.task={name}: model {model} does not do it; it does "
                    f"{listed(traits.tasks)}"
                )
                return
            if task.pipeline != self.pipeline:
                yield f"provider.options.task={name}: it goes with pipeline={task.pipeline}"
        for option in sorted(chosen.keys() - {"task"}):
            if option not in traits.options:
                yield (
                    f"provider.options.{option}: model {model} does not take it; it takes "
                    f"{listed(sorted(traits.options)) or 'none'}"
                )
            elif option not in task.options:
                yield f"provider.options.{option}: task {name} does not take it"
        if self.options.controls is not None and "controls" in task.options:
            for part in sorted(given(self.options.controls).keys() - set(traits.controls)):
                yield (
                    f"provider.options.controls.{part}: model {model} does not take it; it takes "
                    f"{listed(traits.controls)}"
                )
        styled = self.options.style_id is not None, bool(self.options.style_references)
        if all(styled):
            yield "provider.options: style_id and style_references exclude each other"
        if self.options.style_match is not None and not any(styled):
            yield "provider.options.style_match: it goes with style_id or style_references"

    def capabilities(self) -> Capabilities:
        """By the model's traits and the task."""
        return self._capabilities

    def _make_capabilities(self) -> Capabilities:
        traits, task = self.traits, self._task
        params: dict[str, Param] = {}
        if task.prompt:
            params["prompt"] = Param(
                native="prompt", note=f"at most {traits.max_prompt:,} characters"
            )
        known = {
            "negative_prompt": Param(native="negative_prompt"),
            "style": Param(native="style", note="a curated style by its name"),
            "size": Param(native="size", note=traits.sizes.describe()),
            "seed": Param(
                native="random_seed",
                minimum=0,
                maximum=MOST_SEEDS - 1,
                note="pictures differ all the same",
            ),
            "strength": Param(native="strength", minimum=0, maximum=1, default=USUAL_STRENGTH),
            "output_format": Param(native="image_format", choices=("png", "webp")),
        }
        params |= {
            key: param for key, param in known.items() if key in traits.keys and key in task.keys
        }
        if task.pipeline in {"img2img", "inpaint"}:
            params["image"] = Param(native="image_url", note="PNG, JPEG, WebP or SVG")
        if task.pipeline == "inpaint":
            params["mask"] = Param(native="mask_url", note="of the size of the input image")
        return Capabilities(
            pipelines=frozenset(TASKS[name].pipeline for name in traits.tasks),
            params=params,
            max_images_per_call=1 if task.tool else traits.max_n,
        )

    def identity(self) -> Mapping[str, Json]:
        """Like the default; pictures of a style count by their content."""
        options = given(self.options)
        options.pop("expire", None)
        if self.options.style_references:
            options["style_references"] = [
                file_identity(path, "provider.options.style_references")
                for path in self.options.style_references
            ]
        return {**super().identity(), "options": options}

    def check(self, params: CellParams) -> Sequence[str]:
        """Sizes, prompt, styles, input files and what an outpainting has to say."""
        return list(self._problems(params))

    def _problems(self, params: CellParams) -> Iterator[str]:
        task, traits, options = self._task, self.traits, self.options
        if self._task_name not in traits.tasks:
            yield (
                f"provider.options.task: model {self.settings.model.name} needs one: "
                f"{listed(traits.tasks)}"
            )
            return
        if traits.needs_style and options.style_id is None and not options.style_references:
            yield (
                f"provider.options: model {self.settings.model.name} draws in a style only: set "
                "style_id or style_references"
            )
        yield from size_problems(
            partial(choose_size, traits.sizes), params.size, self.settings.model.name
        )
        if len(params.prompt) > traits.max_prompt:
            yield (
                f"prompt: {len(params.prompt):,} characters; model {self.settings.model.name} "
                f"takes {traits.max_prompt:,}"
            )
        if task.prompt and not params.prompt:
            yield f"prompt: task {self._task_name} needs one"
        if params.style is not None and options.style_id is not None:
            yield "style: it cannot stand beside provider.options.style_id"
        yield from file_problems(task.pipeline, params)
        if problem := traits.inputs.problem(params.image, "pipeline.image"):
            yield problem
        if self._task_name == "variate" and params.size is None:
            yield "size: task variate needs one"
        if self._task_name == "outpaint":
            expands = any(getattr(options, name) is not None for name in EXPAND)
            if expands and params.size is not None:
                yield "size: an outpainting takes either a size or provider.options.expand_…"
            if not expands and params.size is None and options.zoom_out_percentage is None:
                yield (
                    "provider.options: an outpainting needs a size, expand_left, expand_right, "
                    "expand_top, expand_bottom or zoom_out_percentage"
                )

    def estimate(self, params: CellParams) -> Price:
        """The price of one image by what is done."""
        if self.book is None:
            return UNKNOWN_PRICE
        return self.book.per_image(pipeline=self._task.pipeline, task=self._task_name)

    async def generate(self, call: Call, listener: Listener) -> Answer:
        """Draw, edit, or use a tool."""
        task, params = self._task, call.params
        size = choose_size(self.traits.sizes, params.size) if params.size else None
        # The images of a point may take several calls, which must not begin alike.
        first = call.cells[0].image_seed
        seed = None if first is None else first % MOST_SEEDS
        fields = self._fields(params, len(call.cells), size, seed)
        body = {**({"prompt": params.prompt} if task.prompt else {}), **fields}
        body |= await self._files(params)
        reply = await self.http.send("POST", task.path, json=body)
        found = reply.json()
        if task.tool:
            found = {**found, "data": [found["image"]] if found.get("image") else []}
        return await read_answer(
            call,
            found,
            http=self.http,
            sent=fields,
            request_id=reply.request_id,
            book=self.book,
            estimate=self.estimate,
            reported_usd=self.book.from_credits(found.get("credits")) if self.book else None,
            seeds=[seed] * len(call.cells) if "seed" in self._capabilities.params else (),
            warnings=[size.warning] if size and size.warning else [],
        )

    def _fields(
        self, params: CellParams, count: int, size: Chosen | None, seed: int | None
    ) -> dict[str, Json]:
        """What goes on the wire besides prompt and files, by native name."""
        fields: dict[str, Json] = {"response_format": "b64_json"}
        if not self._task.tool:
            fields |= {"model": self.settings.model.name, "n": count}
        taken = self._capabilities.params
        values = {
            "negative_prompt": params.negative_prompt,
            "style": params.style,
            "size": size.native if size else None,
            "seed": seed,
            "strength": USUAL_STRENGTH if params.strength is None else params.strength,
            "output_format": params.output_format,
        }
        fields |= {
            taken[key].native: value
            for key, value in values.items()
            if key in taken and value is not None
        }
        options = given(self.options)
        fields |= {name: options[name] for name in options if name not in NOT_FIELDS}
        return {**fields, **self.settings.provider.extra_body}

    async def _files(self, params: CellParams) -> dict[str, Json]:
        """Pictures as ``data:`` URLs: nested fields need JSON, which carries no files."""
        files: dict[str, Json] = {}
        if self.options.style_references:
            what = "provider.options.style_references"
            files["style_reference_urls"] = [
                await self._data_url(path, what) for path in self.options.style_references
            ]
        if self._task.pipeline in {"img2img", "inpaint"}:
            files["image_url"] = await self._data_url(str(params.image), "pipeline.image")
        if self._task.pipeline == "inpaint":
            mask = await self._inputs.mask(str(params.mask), binary_mask)
            files["mask_url"] = _encoded(mask)
        return files

    async def _data_url(self, path: str, what: str) -> str:
        image = await self._inputs.read(path, what)
        if len(image.data) > MOST_INPUT_BYTES:
            raise RequestError(
                f"{what}={path}: {len(image.data):,} bytes, more than {MOST_INPUT_BYTES:,}"
            )
        return _encoded(image)


def choose_size(sizes: Sizes, text: str) -> Chosen:
    """The native size: a ratio where the API has it by name, else the nearest of the table.

    Raises:
        SizeError: The model has no such size.
    """
    size = parse_size(text)
    if not sizes.table:
        return sizes.ratio(text)
    if size.ratio is not None and size.level is None:
        try:
            return sizes.ratio(text)
        except SizeError:
            pass
    return sizes.pixels(text)


def _encoded(image: InputImage) -> str:
    return encode_data_url(image.data, image.mime)
