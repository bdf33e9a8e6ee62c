"""Models that others host: what each takes is data, so that a new one needs only a file.

``conf/model/<family>/*.yaml`` says under ``traits`` which endpoint serves which kind of pipeline,
how every cell-level key is called there and what it may be. Held by the providers whose API is
one JSON object per picture: fal, Replicate, Black Forest Labs, Together.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Literal

from pydantic import Field

from runner.providers.contract import UNKNOWN_PRICE, Call, Capabilities, Param, Price
from runner.providers.net import (
    Http,
    InputImage,
    Inputs,
    encode_data_url,
    file_identity,
    given,
    grey_mask,
    inverted_mask,
    native_fields,
    pixels_of,
)
from runner.providers.net.inputs import file_problems
from runner.providers.net.payload import encode_base64
from runner.providers.prices import price_book
from runner.providers.sizes import Chosen, Sizes, parse_size, size_problems
from runner.settings.cell import CellParams, Json, PipelineKind, Scalar
from runner.settings.errors import RequestError, listed
from runner.settings.load import validate
from runner.settings.schema import Section, VariantSettings

Put = Callable[[InputImage], Awaitable[str]]
"""How an input image becomes the text of a field: a ``data:`` URL, or the address of an upload."""


NAMES = {
    "image_size": "image_size",
    "width_height": "width,height",
    "aspect_ratio": "aspect_ratio",
    "ratio_or_pixels": "aspect_ratio,width,height",
}
"""Native names of a size, by how it is sent."""


class Key(Section):
    """How a model takes one cell-level key."""

    native: str = Field(description="its name there")
    minimum: float | None = Field(None, description="smallest number")
    maximum: float | None = Field(None, description="largest number")
    choices: tuple[str, ...] = Field((), description="allowed texts; empty: any")
    default: Scalar = Field(None, description="what the model uses when it is not sent")
    note: str = Field("", description="a rule that the other fields cannot say")

    def param(self) -> Param:
        """The same for :class:`~runner.providers.contract.Capabilities`."""
        return Param(**self.model_dump())


class Route(Section):
    """The endpoint for one kind of pipeline."""

    path: str = Field(description="where requests go")
    without: tuple[str, ...] = Field((), description="keys of the model that it does not take")
    keys: dict[str, Key] = Field(default_factory=dict, description="keys that it takes besides")
    fields: dict[str, Scalar] = Field(
        default_factory=dict, description="native fields that it always gets"
    )
    image: str | None = Field(None, description="native name of the input image")
    images: str | None = Field(None, description="native name of a list of input images instead")
    more_images: str | None = Field(
        None, description="native names of further input images, with {} for 2, 3 …"
    )
    most_images: int = Field(1, ge=1, description="most input images in all")
    mask: str | None = Field(None, description="native name of the mask")
    mask_polarity: Literal["white", "black"] = Field("white", description="what is repainted")
    control: str | None = Field(None, description="native name of the control image")
    keep_strength: bool = Field(False, description="its strength keeps the input instead")


class HostedTraits(Section):
    """What one hosted model takes."""

    routes: dict[PipelineKind, Route] = Field(description="kind of pipeline to endpoint")
    keys: dict[str, Key] = Field(default_factory=dict, description="keys beyond prompt and size")
    sizes: Sizes | None = Field(None, description="sizes; null: the input image decides")
    size_as: Literal["image_size", "width_height", "aspect_ratio", "ratio_or_pixels"] = Field(
        "width_height", description="how a size is sent"
    )
    count: str | None = Field(None, description="native name of n; null: one image per call")
    max_n: int = Field(1, ge=1, description="most images in one call")
    options: tuple[str, ...] = Field((), description="provider.options that it takes")
    needs: tuple[str, ...] = Field((), description="those of them that must be there")
    defaults: dict[str, Scalar] = Field(
        default_factory=dict, description="native fields to send when you set none"
    )
    max_prompt: int | None = Field(None, ge=1, description="most characters of a prompt")


class Hosted:
    """One variant of a hosted model: what it takes, and the fields of a request.

    Args:
        settings: The variant.
        http: Reads input images that are https addresses.
        options: The user's native options; ``images`` among them are further input images.

    Raises:
        RequestError: Traits, prices or options are wrong.
    """

    def __init__(self, settings: VariantSettings, http: Http, options: Section) -> None:
        self.settings = settings
        self.kind = settings.pipeline.name
        self.traits = validate(HostedTraits, settings.model.traits, "model.traits")
        self.book = price_book(settings.model)
        self.options = options
        self._inputs = Inputs(http)
        known, routes = self.traits, self.traits.routes
        self.route = routes.get(self.kind) or next(iter(routes.values()), Route(path=""))
        taken = {*known.options, *({"images"} if self.route.most_images > 1 else ())}
        asked = given(options)
        problems = [
            f"provider.options.{name}: model {settings.model.name} does not take it for "
            f"{self.kind}; it takes {listed(sorted(taken)) or 'none'}"
            for name in asked
            if name not in taken
        ]
        if problems:
            raise RequestError(*problems)

    def capabilities(self) -> Capabilities:
        """By the model's traits and the endpoint of this kind of pipeline."""
        traits, route = self.traits, self.route
        note = f"at most {traits.max_prompt:,} characters" if traits.max_prompt else ""
        params = {"prompt": Param(native="prompt", note=note)}
        if traits.sizes is not None:
            params["size"] = Param(native=NAMES[traits.size_as], note=traits.sizes.describe())
        params |= {key: found.param() for key, found in (traits.keys | route.keys).items()}
        for key, field in (
            ("image", route.image or route.images),
            ("mask", route.mask),
            ("control_image", route.control),
        ):
            if field is not None:
                params[key] = Param(native=field)
        return Capabilities(
            pipelines=frozenset(traits.routes),
            params={key: param for key, param in params.items() if key not in route.without},
            max_images_per_call=traits.max_n,
            mask_polarity=route.mask_polarity,
        )

    def identity(self) -> dict[str, Json]:
        """The native options, with files counted by their content."""
        found = given(self.options)
        if self._more:
            what = "provider.options.images"
            found["images"] = [file_identity(path, what) for path in self._more]
        return found

    def check(self, params: CellParams) -> list[str]:
        """What ranges cannot say: sizes, the length of the prompt, whether a mask fits."""
        found = list(file_problems(self.kind, params))
        found += size_problems(self.size, params, self.settings.model.name)
        asked = given(self.options)
        found += [
            f"provider.options.{name}: model {self.settings.model.name} needs it; set it with "
            f"provider.options.{name}=…"
            for name in self.traits.needs
            if name not in asked
        ]
        most = self.traits.max_prompt
        if most is not None and len(params.prompt) > most:
            found.append(f"prompt: {len(params.prompt):,} characters, at most {most:,} are taken")
        if 1 + len(self._more) > self.route.most_images > 1:
            found.append(f"provider.options.images: at most {self.route.most_images - 1} are taken")
        return found

    @property
    def _more(self) -> Sequence[str]:
        return getattr(self.options, "images", ())

    def size(self, params: CellParams) -> Chosen | None:
        """What is sent for the size; ``None`` if none was asked for.

        Raises:
            SizeError: The model has no such size.
        """
        sizes = self.traits.sizes
        if params.size is None or sizes is None or "size" in self.route.without:
            return None
        by_ratio = self.traits.size_as == "aspect_ratio"
        if self.traits.size_as == "ratio_or_pixels":
            by_ratio = parse_size(params.size).pixels is None
        return sizes.ratio(params.size) if by_ratio else sizes.pixels(params.size)

    def estimate(self, params: CellParams) -> Price:
        """By the price book; where no size was asked for, the model's own or the input's."""
        if self.book is None:
            return UNKNOWN_PRICE
        size, sizes = self.size(params), self.traits.sizes
        native = size.native if size else None
        if size is None and self.kind != "text2img":
            pixels = pixels_of(params.image or params.control_image)
            native = f"{pixels[0]}x{pixels[1]}" if pixels else None
        elif size is None and sizes is not None and sizes.table:
            native = sizes.table[0]
        return self.book.per_image(
            size=native, quality=params.quality, pipeline=self.kind, style=params.style
        )

    def fields(self, call: Call) -> dict[str, Json]:
        """What goes on the wire besides prompt and files, by native name."""
        params, size = call.params, self.size(call.params)
        fields: dict[str, Json] = {**self.traits.defaults, **self.route.fields}
        if self.traits.count is not None:
            fields[self.traits.count] = len(call.cells)
        if size is not None:
            fields |= self._size_fields(size)
        fields |= native_fields(self.capabilities(), params, "size")
        strength = (self.traits.keys | self.route.keys).get("strength")
        if params.strength is not None and strength is not None and self.route.keep_strength:
            fields[strength.native] = round(1 - params.strength, 4)
        seed = self.capabilities().params.get("seed")
        if params.seed is not None and seed is not None:
            fields[seed.native] = params.seed
        options = given(self.options)
        options.pop("images", None)
        return {**fields, **options, **self.settings.provider.extra_body}

    def _size_fields(self, size: Chosen) -> dict[str, Json]:
        form = self.traits.size_as
        if form == "aspect_ratio" or (form == "ratio_or_pixels" and size.width is None):
            return {"aspect_ratio": size.native}
        if form == "ratio_or_pixels":
            return {"aspect_ratio": "custom", "width": size.width, "height": size.height}
        if form == "width_height":
            return {"width": size.width, "height": size.height}
        if size.width is None:
            return {"image_size": size.native}
        return {"image_size": {"width": size.width, "height": size.height}}

    def prompt(self, params: CellParams) -> dict[str, Json]:
        """The prompt; nothing where there is none, or the model takes none."""
        asked = params.prompt and "prompt" not in self.route.without
        return {"prompt": params.prompt} if asked else {}

    async def files(self, params: CellParams, put: Put) -> dict[str, Json]:
        """The input images as fields, by native name.

        Args:
            params: Names them.
            put: Makes the text of a field.

        Raises:
            RequestError: One is not there, or no image.
            ProviderError: It could not be downloaded or uploaded.
        """
        found: dict[str, Json] = {}
        for name, images in (await self.inputs(params)).items():
            texts = [await put(image) for image in images]
            found[name] = texts if name == self.route.images else texts[0]
        return found

    async def inputs(self, params: CellParams) -> dict[str, list[InputImage]]:
        """The input images by native name; masks have the polarity of the model.

        Raises:
            RequestError: One is not there, or no image.
            ProviderError: It could not be downloaded.
        """
        route, found = self.route, dict[str, list[InputImage]]()
        paths = [path for path in (params.image, *self._more) if path is not None]
        for at, path in enumerate(paths, 1):
            name = route.images or route.image
            if route.images is None and at > 1:
                name = str(route.more_images).format(at)
            if name is not None:
                what = "pipeline.image" if at == 1 else "provider.options.images"
                found.setdefault(name, []).append(await self._inputs.read(path, what))
        if route.mask is not None and params.mask is not None:
            turned = grey_mask if route.mask_polarity == "white" else inverted_mask
            found[route.mask] = [await self._inputs.mask(params.mask, turned)]
        if route.control is not None and params.control_image is not None:
            what = "pipeline.control_image"
            found[route.control] = [await self._inputs.read(params.control_image, what)]
        return found

    async def read(self, path: str, what: str) -> InputImage:
        """A further input image that an option names; faults as of :meth:`inputs`."""
        return await self._inputs.read(path, what)


async def as_data_url(image: InputImage) -> str:
    """An input image inside the request itself."""
    return encode_data_url(image.data, image.mime)


async def as_base64(image: InputImage) -> str:
    """An input image inside the request itself, without saying its type."""
    return encode_base64(image.data)
