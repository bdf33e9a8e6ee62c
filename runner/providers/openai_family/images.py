"""OpenAI's Images API as one object: what a model takes, what is sent, what comes back.

Held by every provider that speaks this API through the SDK, whatever its host and its key.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.providers.contract import (
    UNKNOWN_PRICE,
    Answer,
    Call,
    Capabilities,
    Listener,
    Param,
    Price,
)
from runner.providers.net import Http, Inputs, alpha_mask, bad_response, given, json_object
from runner.providers.net.faults import request_id
from runner.providers.openai_family.answers import EFFECTIVE, partial_file, read_answer
from runner.providers.openai_family.checks import cell_problems, option_problems
from runner.providers.openai_family.client import classify
from runner.providers.openai_family.options import NOT_SENT, OpenAIOptions, OpenAITraits
from runner.providers.prices import price_book
from runner.providers.sizes import Chosen
from runner.settings.cell import CellParams, Json
from runner.settings.errors import RequestError
from runner.settings.load import validate
from runner.settings.schema import VariantSettings

if TYPE_CHECKING:
    import openai

PARTIAL_TOKENS = 100
"""Output tokens that each partial image adds."""

File = tuple[str, tuple[str, bytes, str]]
"""Field name; file name, bytes and type: as the SDK takes a file."""


class ImagesApi:
    """The Images API for one variant.

    Args:
        settings: The variant.
        http: Its base URL, key and downloads.

    Raises:
        RequestError: Options, traits or prices are wrong.
    """

    def __init__(self, settings: VariantSettings, http: Http) -> None:
        self.http = http
        self.model = settings.model.name
        self.pipeline = settings.pipeline.name
        self.options = validate(OpenAIOptions, settings.provider.options, "provider.options")
        self.traits = validate(OpenAITraits, settings.model.traits, "model.traits")
        self.book = price_book(settings.model)
        self._extra_body = settings.provider.extra_body
        self._inputs = Inputs(http)
        self._capabilities = self._make_capabilities()
        problems = tuple(option_problems(self.model, self.pipeline, self.options, self.traits))
        if problems:
            raise RequestError(*problems)

    def capabilities(self) -> Capabilities:
        """What the model takes."""
        return self._capabilities

    def _make_capabilities(self) -> Capabilities:
        traits = self.traits
        params = {
            "prompt": Param(native="prompt", note=f"at most {traits.max_prompt:,} characters"),
            "size": Param(native="size", note=traits.sizes.describe()),
        }
        for key, choices in (
            ("quality", traits.qualities),
            ("background", traits.backgrounds),
            ("output_format", traits.output_formats),
            ("style", traits.styles),
        ):
            if choices:
                params[key] = Param(native=key, choices=choices)
        if self.pipeline in {"img2img", "inpaint"}:
            params["image"] = Param(native="image")
        if self.pipeline == "inpaint":
            params["mask"] = Param(native="mask", note="of the size of the first input image")
        return Capabilities(
            pipelines=frozenset(traits.pipelines),
            params=params,
            max_images_per_call=1 if self._streams else traits.max_n,
            mask_polarity="transparent",
        )

    @property
    def _streams(self) -> bool:
        return self.options.partial_images is not None

    def images_per_call(self, params: CellParams) -> int:
        """One for SVG, as many as the model makes otherwise."""
        return 1 if params.output_format == "svg" else self._capabilities.max_images_per_call

    def identity(self) -> dict[str, Json]:
        """The options that change the picture; a file counts by its content, not by its path."""
        found = given(self.options)
        for name in ("organization", "project", "safety_identifier", "partial_images"):
            found.pop(name, None)
        if self.options.images:
            found["images"] = [_content(path, "images") for path in self.options.images]
        if self.options.markup:
            found["markup"] = _content(self.options.markup, "markup")
        return found

    def check(self, params: CellParams) -> list[str]:
        """Problems of one cell."""
        return list(cell_problems(params, self.model, self.pipeline, self.options, self.traits))

    def estimate(self, params: CellParams) -> Price:
        """The price of one image."""
        book = self.book
        if book is None or params.output_format in {"svg", "gif"}:
            return UNKNOWN_PRICE
        size = self._size(params)
        native = size.native if size else None
        if book.tokens is None:
            return book.per_image(quality=params.quality, size=native, style=params.style)
        sizes = (native,) if native not in (None, "auto") else self.traits.sizes.table
        chosen = params.quality not in (None, "auto")
        levels = tuple(name for name in self.traits.qualities if name != "auto")
        edit = self.pipeline != "text2img"
        return book.per_tokens(
            params.prompt,
            (str(params.quality),) if chosen else levels,
            tuple(str(size) for size in sizes),
            input_images=1 + len(self.options.images) if edit else 0,
            extra_out=PARTIAL_TOKENS * (self.options.partial_images or 0),
        )

    def _size(self, params: CellParams) -> Chosen | None:
        return self.traits.sizes.pixels(params.size) if params.size else None

    def fields(self, call: Call) -> dict[str, Json]:
        """What goes on the wire besides prompt and files, by native name."""
        params, size = call.params, self._size(call.params)
        fields: dict[str, Json] = {"model": self.model, "n": len(call.cells)}
        neutral = {
            "size": size.native if size else None,
            "quality": params.quality,
            "background": params.background,
            "output_format": params.output_format,
            "style": params.style,
            "response_format": self.traits.response_format,
        }
        fields |= {name: value for name, value in neutral.items() if value is not None}
        options = given(self.options)
        fields |= {name: value for name, value in options.items() if name not in NOT_SENT}
        if self.options.svg is not None:
            fields["svg"] = _svg(self.options.svg.model, self.options.svg.effort)
        if self._streams:
            fields["stream"] = True
        return {**fields, **self._extra_body}

    async def files(self, params: CellParams) -> list[File]:
        """The files of an edit. Several images go as ``image[]``, one as ``image``.

        Raises:
            RequestError: One is not readable, or no image.
        """
        if self.pipeline == "text2img" or params.image is None:
            return []
        first = await self._inputs.read(params.image)
        images = [first]
        for path in self.options.images:
            images.append(await self._inputs.read(path, "provider.options.images"))
        field = "image" if len(images) == 1 else "image[]"
        files: list[File] = [(field, image.part) for image in images]
        if params.mask is not None:
            mask = await self._inputs.read(params.mask, "pipeline.mask")
            files.append(("mask", (await asyncio.to_thread(alpha_mask, mask)).part))
        if self.options.markup is not None:
            markup = await self._inputs.read(self.options.markup, "provider.options.markup")
            files.append(("markup", markup.part))
        return files

    async def generate(
        self,
        client: openai.AsyncOpenAI,
        call: Call,
        listener: Listener,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Make the images of one call through the SDK.

        Args:
            client: Of :func:`~runner.providers.openai_family.client.make_client`.
            call: What is asked.
            listener: Hears of partial images.
            headers: Further headers of this request.

        Raises:
            ProviderError: Refused, or any other fault, already classified.
        """
        import openai

        fields = self.fields(call)
        files = await self.files(call.params)
        extras: dict[str, bytes] = {}
        try:
            if self._streams:
                reply, request = await self._stream(client, call, fields, files, listener, extras)
            else:
                reply, request = await self._post(client, call, fields, files, headers)
        except openai.APIError as error:
            # The SDK's exceptions repeat the server's words, and those may repeat the key.
            raise classify(self.http, error) from None
        size = self._size(call.params)
        return await read_answer(
            call,
            reply,
            http=self.http,
            sent=fields,
            request_id=request,
            book=self.book,
            price=self.estimate(call.params),
            warnings=[size.warning] if size and size.warning else [],
            extras=extras,
        )

    async def _post(
        self,
        client: openai.AsyncOpenAI,
        call: Call,
        fields: Mapping[str, Json],
        files: list[File],
        headers: Mapping[str, str] | None,
    ) -> tuple[dict[str, Any], str | None]:
        import httpx2

        # The SDK's own images.generate() would build pydantic models of every answer and copy the
        # request twice; its post() keeps keys, headers, forms and errors for two thirds of the CPU.
        response = await client.post(
            "/images/edits" if files else "/images/generations",
            cast_to=httpx2.Response,
            body={"prompt": call.params.prompt, **fields},
            files=files or None,
            options={"headers": {**_multipart(files), **(headers or {})}},
        )
        request = request_id({name.lower(): value for name, value in response.headers.items()})
        return json_object(response.content, request), request

    async def _stream(
        self,
        client: openai.AsyncOpenAI,
        call: Call,
        fields: Mapping[str, Json],
        files: list[File],
        listener: Listener,
        extras: dict[str, bytes],
    ) -> tuple[dict[str, Any], str | None]:
        import httpx2
        import openai

        stream = await client.post(
            "/images/edits" if files else "/images/generations",
            cast_to=object,
            body={"prompt": call.params.prompt, **fields},
            files=files or None,
            options={"headers": _multipart(files)},
            stream=True,
            stream_cls=openai.AsyncStream[object],
        )
        headers: httpx2.Headers = stream.response.headers
        request = request_id({name.lower(): value for name, value in headers.items()})
        total = (self.options.partial_images or 0) + 1
        async for event in stream:
            if not isinstance(event, Mapping):
                continue
            kind, b64 = str(event.get("type", "")), event.get("b64_json")
            if kind.endswith(".partial_image") and isinstance(b64, str):
                if named := partial_file(len(extras), b64):
                    extras[named[0]] = named[1]
                    listener.progress(call, len(extras), total)
            elif kind.endswith(".completed"):
                listener.progress(call, total, total)
                reply: dict[str, Any] = {name: event.get(name) for name in (*EFFECTIVE, "usage")}
                return {**reply, "data": [{"b64_json": b64}]}, request
        raise bad_response("a stream that ended without the image", request)


def _multipart(files: list[File]) -> dict[str, str]:
    return {"Content-Type": "multipart/form-data"} if files else {}


def _svg(model: str | None, effort: str | None) -> dict[str, Json]:
    svg: dict[str, Json] = {} if model is None else {"model": model}
    return svg if effort is None else {**svg, "reasoning": {"effort": effort}}


def _content(path: str, option: str) -> str:
    if "://" in path:
        return path
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError as error:
        raise RequestError(
            f"provider.options.{option}={path}: cannot be read: {error.strerror}"
        ) from None
