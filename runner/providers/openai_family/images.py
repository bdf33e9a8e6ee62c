"""OpenAI's Images API as one object: what a model takes, what is sent, what comes back.

Held by every provider that speaks this API through the SDK, whatever its host and its key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from runner.providers.contract import (
    UNKNOWN_PRICE,
    Answer,
    Call,
    Capabilities,
    Listener,
    Param,
    Price,
)
from runner.providers.net import Http, given
from runner.providers.net.inputs import file_identity
from runner.providers.net.sdk import Built
from runner.providers.openai_family.answers import read_answer
from runner.providers.openai_family.checks import cell_problems, option_problems
from runner.providers.openai_family.exchange import post, stream
from runner.providers.openai_family.files import Files
from runner.providers.openai_family.options import (
    ACCOUNT,
    FILES,
    ImagesOptions,
    KeyTrait,
    OpenAITraits,
)
from runner.providers.prices import price_book
from runner.providers.seeds import in_runs
from runner.providers.sizes import Chosen
from runner.settings.cell import CellParams, Json
from runner.settings.errors import RequestError
from runner.settings.load import validate
from runner.settings.schema import VariantSettings

if TYPE_CHECKING:
    import openai

PARTIAL_TOKENS = 100
"""Output tokens that each partial image adds."""

NO_CHANGE = ACCOUNT | {"safety_identifier", "partial_images"}
"""Options that do not change the picture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How a server is spoken to otherwise than OpenAI.

    Attributes:
        prefix: Path between the base URL and ``/images/…``.
        query: Parameters of the address.
        model: Name of the model on the wire; ``None``: the model's own.
        model_in_path: The path names the model, so the body does not.
        cost_header: Header of an answer that holds its cost in US dollars, lower case.
    """

    prefix: str = ""
    query: Mapping[str, str] = field(default_factory=dict)
    model: str | None = None
    model_in_path: bool = False
    cost_header: str | None = None


class ImagesApi:
    """The Images API for one variant.

    Args:
        settings: The variant.
        http: Its base URL, key and downloads.
        options: Its native parameters.
        dialect: What is special about the server.

    Raises:
        RequestError: Options, traits or prices are wrong.
    """

    def __init__(
        self,
        settings: VariantSettings,
        http: Http,
        options: ImagesOptions,
        dialect: Dialect | None = None,
    ) -> None:
        self.http = http
        self.model = settings.model.name
        self.pipeline = settings.pipeline.name
        self.options = options
        self.dialect = dialect or Dialect()
        self.traits = validate(OpenAITraits, settings.model.traits, "model.traits")
        self.book = price_book(settings.model)
        self._extra_body = settings.provider.extra_body
        self._options = {
            name: value for name, value in given(options).items() if name not in ACCOUNT | FILES
        }
        self._files = Files(http, self.pipeline, options, self.traits)
        self._keys = {
            key: trait
            for key, trait in self.traits.keys.items()
            if not trait.pipelines or self.pipeline in trait.pipelines
        }
        self._prepared: dict[str, Built] = {}
        self._capabilities = self._make_capabilities()
        problems = tuple(option_problems(self.model, self.pipeline, options, self.traits))
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
        params |= {key: _param(trait) for key, trait in self._keys.items()}
        if self.pipeline in {"img2img", "inpaint"}:
            params["image"] = Param(native="image")
        if self.pipeline == "inpaint":
            params["mask"] = Param(
                native=traits.mask_field, note="of the size of the first input image"
            )
        return Capabilities(
            pipelines=frozenset(traits.pipelines),
            params=params,
            max_images_per_call=1 if self._streams else traits.max_n,
            seed_per_image=traits.seed_per_image,
            reproducible=traits.reproducible,
            mask_polarity=traits.mask_polarity,
        )

    @property
    def _streams(self) -> bool:
        return self.options.partial_images is not None

    def images_per_call(self, params: CellParams) -> int:
        """One for SVG, as many as the model makes otherwise."""
        return 1 if params.output_format == "svg" else self._capabilities.max_images_per_call

    def identity(self) -> dict[str, Json]:
        """The options that change the picture; a file counts by its content, not by its path."""
        found = {
            name: value for name, value in given(self.options).items() if name not in NO_CHANGE
        }
        for name in FILES & found.keys():
            held = found[name]
            paths = held if isinstance(held, list) else [held]
            found[name] = [file_identity(str(path), f"provider.options.{name}") for path in paths]
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
        native = size.native if size else self.traits.default_size
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
        fields: dict[str, Json] = {}
        if not self.dialect.model_in_path:
            fields["model"] = self.dialect.model or self.model
        fields["n"] = len(call.cells)
        neutral: dict[str, Json] = {
            "size": size.native if size else None,
            "quality": params.quality,
            "background": params.background,
            "output_format": params.output_format,
            "style": params.style,
            "response_format": self.traits.response_format,
        }
        for key, trait in self._keys.items():
            neutral.pop(key, None)
            neutral[trait.native] = getattr(params, key)
        if "seed" in self._keys:
            # The images of a point may take several calls, which must not begin alike.
            neutral[self._keys["seed"].native] = call.cells[0].image_seed
        fields |= {name: value for name, value in neutral.items() if value is not None}
        fields |= self._options
        if self.options.svg is not None:
            fields["svg"] = _svg(self.options.svg.model, self.options.svg.effort)
        if self._streams:
            fields["stream"] = True
        return {**fields, **self._extra_body}

    def _seeds(self, call: Call) -> list[int | None]:
        if "seed" not in self._keys:
            return []
        if self.traits.seed_per_image:
            return [cell.image_seed for cell in call.cells]
        return [call.cells[0].image_seed] * len(call.cells)

    async def generate(self, client: openai.AsyncOpenAI, call: Call, listener: Listener) -> Answer:
        """Make the images of one call through the SDK.

        Args:
            client: Of :func:`~runner.providers.openai_family.client.make_client`.
            call: What is asked.
            listener: Hears of partial images.

        Raises:
            ProviderError: Refused, or any other fault, already classified.
        """
        ask = partial(self._ask, client, listener=listener)
        if self.traits.seed_per_image:
            return await in_runs(call, ask, self.http.classify)
        return await ask(call)

    async def _ask(self, client: openai.AsyncOpenAI, call: Call, *, listener: Listener) -> Answer:
        fields = self.fields(call)
        files = await self._files.read(call.params)
        path = f"{self.dialect.prefix}/images/{'edits' if files else 'generations'}"
        body = {"prompt": call.params.prompt, **fields}
        if self._streams:
            reply = await stream(
                client, self.http, path, body, files, self.dialect.query, call, listener
            )
        else:
            reply = await post(
                client, self.http, path, body, files, self.dialect.query, self._prepared
            )
        size = self._size(call.params)
        return await read_answer(
            call,
            reply.body,
            http=self.http,
            sent=fields,
            request_id=reply.request_id,
            book=self.book,
            estimate=self.estimate,
            reported_usd=reply.dollars(self.dialect.cost_header),
            seeds=self._seeds(call),
            warnings=[size.warning] if size and size.warning else [],
            extras=reply.extras,
        )


def _param(trait: KeyTrait) -> Param:
    return Param(
        native=trait.native,
        minimum=trait.minimum,
        maximum=trait.maximum,
        default=trait.default,
        note=trait.note,
    )


def _svg(model: str | None, effort: str | None) -> dict[str, Json]:
    svg: dict[str, Json] = {} if model is None else {"model": model}
    return svg if effort is None else {**svg, "reasoning": {"effort": effort}}
