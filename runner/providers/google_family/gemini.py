"""Gemini's image models: what they take, how it is asked through google-genai, what comes back.

Text and pictures go into one prompt. Answers mix words, pictures and pictures of the model's
thoughts, which are skipped; refusals come with status 200.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

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
from runner.providers.net import Http, Inputs, file_identity, given, one_line
from runner.providers.net.inputs import file_problems
from runner.providers.net.outputs import mapping, text
from runner.providers.net.sdk import built_by
from runner.providers.prices import Usage, price_book, settle
from runner.providers.sizes import Chosen, SizeError, Sizes, parse_size, size_problems
from runner.settings.cell import CellParams, Json
from runner.settings.errors import RequestError, listed
from runner.settings.load import validate
from runner.settings.schema import Section, VariantSettings

if TYPE_CHECKING:
    from google import genai
    from google.genai import types

Harm = Literal["harassment", "hate_speech", "sexually_explicit", "dangerous_content"]
Threshold = Literal[
    "BLOCK_LOW_AND_ABOVE", "BLOCK_MEDIUM_AND_ABOVE", "BLOCK_ONLY_HIGH", "BLOCK_NONE", "OFF"
]

REFUSED = frozenset(
    {
        "SAFETY",
        "RECITATION",
        "BLOCKLIST",
        "PROHIBITED_CONTENT",
        "SPII",
        "MODEL_ARMOR",
        "IMAGE_SAFETY",
        "IMAGE_PROHIBITED_CONTENT",
        "IMAGE_RECITATION",
    }
)
"""Reasons to finish that mean a refusal; others mean that no picture came about."""

_TABLE = "any"
"""The one row of :class:`~runner.providers.prices.OutputTokens`: tokens by level."""


class GeminiOptions(Section):
    """Native parameters of Gemini's image models."""

    images: tuple[str, ...] = Field(
        (), description="further input images after pipeline.image: paths"
    )
    safety: dict[Harm, Threshold] = Field(
        default_factory=dict, description="kind of harm to the threshold from which it is blocked"
    )
    system_instruction: str | None = Field(None, description="what holds for every prompt")
    temperature: float | None = Field(None, ge=0, le=2, description="randomness; 1 by default")
    top_p: float | None = Field(None, ge=0, le=1, description="share of likely tokens to choose of")
    thinking_level: Literal["minimal", "low", "medium", "high"] | None = Field(
        None, description="how long the model thinks; billed as text"
    )


class GeminiTraits(Section):
    """What one model takes: data in ``conf/model/``."""

    api: Literal["gemini"] = "gemini"
    sizes: Sizes = Field(description="aspect ratios and levels")
    default_level: str = Field("1K", description="level of a picture whose size is not asked for")
    max_input_images: int = Field(ge=1, description="most input images of one prompt")
    thinking_levels: tuple[str, ...] = Field((), description="values of thinking_level")
    output_formats: tuple[str, ...] = Field((), description="file formats, on Vertex AI only")


class GeminiImages:
    """Gemini's image models for one variant, on either of Google's surfaces.

    Args:
        settings: The variant.
        http: Its base URL, key and downloads.
        options: The native parameters.
        place: Where the options stand in the config, for the messages.
        formats: The surface lets the file format be chosen.

    Raises:
        RequestError: Options, traits or prices are wrong.
    """

    def __init__(
        self,
        settings: VariantSettings,
        http: Http,
        options: GeminiOptions,
        *,
        place: str = "provider.options",
        formats: bool = False,
    ) -> None:
        self.http = http
        self.model = settings.model.name
        self.pipeline = settings.pipeline.name
        self.options = options
        self.traits = validate(GeminiTraits, settings.model.traits, "model.traits")
        self.book = price_book(settings.model)
        self._formats = self.traits.output_formats if formats else ()
        self._place = place
        self._inputs = Inputs(http)
        if problems := tuple(self._option_problems()):
            raise RequestError(*problems)

    def _option_problems(self) -> Iterator[str]:
        levels, level = self.traits.thinking_levels, self.options.thinking_level
        if level is not None and level not in levels:
            taken = f"takes {listed(levels)}" if levels else "has none"
            yield f"{self._place}.thinking_level={level}: model {self.model} {taken}"
        if self.options.images and self.pipeline == "text2img":
            yield (
                f"{self._place}.images: it needs a first input image: "
                "pipeline=img2img pipeline.image=FILE"
            )
        most = self.traits.max_input_images
        if len(self.options.images) + 1 > most:
            yield (
                f"{self._place}.images: {len(self.options.images)} images after the first are too "
                f"many; model {self.model} takes {most} in all"
            )

    def capabilities(self) -> Capabilities:
        """What the model takes: one picture per call, and no mask."""
        params = {
            "prompt": Param(native="contents"),
            "seed": Param(
                native="seed",
                minimum=0,
                maximum=2**31 - 1,
                note="taken by the API, which does not promise the same picture for it",
            ),
            "size": Param(native="aspectRatio,imageSize", note=self.traits.sizes.describe()),
        }
        if self._formats:
            params["output_format"] = Param(native="mimeType", choices=self._formats)
        if self.pipeline == "img2img":
            params["image"] = Param(native="contents")
        return Capabilities(
            pipelines=frozenset({"text2img", "img2img"}), params=params, seed_per_image=True
        )

    def identity(self) -> dict[str, Json]:
        """The options that change the picture; a file counts by its content, not by its path."""
        found = given(self.options)
        if self.options.images:
            place = f"{self._place}.images"
            found["images"] = [file_identity(path, place) for path in self.options.images]
        return found

    def check(self, params: CellParams) -> Sequence[str]:
        """Sizes, and the input image of an edit."""
        problems = size_problems(self._size, params, self.model)
        return [*problems, *file_problems(self.pipeline, params)]

    def estimate(self, params: CellParams) -> Price:
        """By the tokens of the level; what the model thinks comes on top, and is in the usage."""
        if self.book is None:
            return UNKNOWN_PRICE
        try:
            level = self._size(params)[1]
        except SizeError:  # told by :meth:`check`
            return UNKNOWN_PRICE
        edit = self.pipeline == "img2img"
        return self.book.per_tokens(
            params.prompt,
            (_TABLE,),
            (level or self.traits.default_level,),
            input_images=1 + len(self.options.images) if edit else 0,
        )

    def _size(self, params: CellParams) -> tuple[Chosen | None, str | None]:
        """Aspect ratio and level, each as it is sent.

        Raises:
            SizeError: The model has no such size.
        """
        if params.size is None:
            return None, None
        sizes, size = self.traits.sizes, parse_size(params.size)
        shaped = size.pixels or size.ratio or size.word
        return sizes.ratio(params.size) if shaped else None, sizes.level(params.size)

    def fields(self, call: Call) -> tuple[dict[str, Json], list[str]]:
        """What goes on the wire besides prompt and files, by native name, and what to warn of."""
        params, (ratio, level) = call.params, self._size(call.params)
        neutral: dict[str, Json] = {
            "model": self.model,
            "aspectRatio": ratio.native if ratio else None,
            "imageSize": level,
            "mimeType": f"image/{params.output_format}" if params.output_format else None,
            "seed": call.cells[0].image_seed,
        }
        sent: dict[str, Json] = {}
        sent |= {name: value for name, value in neutral.items() if value is not None}
        sent |= {name: value for name, value in given(self.options).items() if name != "images"}
        return sent, [ratio.warning] if ratio and ratio.warning else []

    async def _contents(self, params: CellParams) -> types.Content:
        from google.genai import types

        parts = []
        if params.image is not None:
            read = [(params.image, "pipeline.image")]
            read += [(path, f"{self._place}.images") for path in self.options.images]
            for path, what in read:
                image = await self._inputs.read(path, what)
                parts.append(types.Part.from_bytes(data=image.data, mime_type=image.mime))
        return types.Content(role="user", parts=[*parts, types.Part.from_text(text=params.prompt)])

    def _config(self, sent: Mapping[str, Any], labels: Mapping[str, str]) -> Any:
        from google.genai import types

        options = self.options
        shape = {"aspect_ratio": "aspectRatio", "image_size": "imageSize"}
        image = {name: sent[native] for name, native in shape.items() if native in sent}
        if "mimeType" in sent:
            image["output_mime_type"] = sent["mimeType"]
        return types.GenerateContentConfig.model_validate(
            {
                "response_modalities": ["IMAGE"],
                "seed": sent.get("seed"),
                "temperature": options.temperature,
                "top_p": options.top_p,
                "system_instruction": options.system_instruction,
                "image_config": image or None,
                "thinking_config": (
                    {"thinking_level": options.thinking_level.upper()}
                    if options.thinking_level
                    else None
                ),
                "safety_settings": [
                    {"category": f"HARM_CATEGORY_{harm.upper()}", "threshold": threshold}
                    for harm, threshold in options.safety.items()
                ]
                or None,
                "labels": dict(labels) or None,
                "automatic_function_calling": {"disable": True},
            }
        )

    async def generate(
        self, client: genai.Client, call: Call, labels: Mapping[str, str] | None = None
    ) -> Answer:
        """Make the picture of one call.

        Args:
            client: Of :func:`~runner.providers.google_family.client.make_client`.
            call: What is asked.
            labels: For the bill, on Vertex AI.

        Raises:
            ProviderError: Refused, or any other fault, already classified.
        """
        sent, notes = self.fields(call)
        built = await built_by(
            client.aio.models.generate_content(
                model=self.model,
                contents=await self._contents(call.params),
                config=self._config(sent, labels or {}),
            )
        )
        reply = await built.send(self.http)
        found = reply.json()
        output = await self._output(found, call.cells[0].image_seed, notes)
        usage = found.get("usageMetadata")
        counts = read_usage(usage, isinstance(output, Picture))
        cost, basis = settle(
            int(isinstance(output, Picture)),
            usage_usd=self.book.from_usage(counts) if self.book and counts else None,
            book=self.estimate(call.params),
        )
        return Answer(
            outputs=(output,),
            params_sent=sent,
            model_reported=text(found.get("modelVersion")),
            request_id=text(found.get("responseId")),
            usage=dict(usage) if isinstance(usage, Mapping) else {},
            cost_usd=cost,
            cost_basis=basis,
        )

    async def _output(
        self, reply: Mapping[str, Any], seed: int | None, notes: list[str]
    ) -> Picture | Missing:
        feedback = mapping(reply.get("promptFeedback"))
        if reason := text(feedback.get("blockReason")):
            said = self._said(feedback.get("blockReasonMessage"))
            return Missing(
                outcome="refused", kind="prompt_blocked", code=reason, message=said or "blocked"
            )
        candidates = reply.get("candidates")
        first = candidates[0] if isinstance(candidates, list) and candidates else None
        candidate = mapping(first)
        parts = mapping(candidate.get("content")).get("parts")
        kept = [
            part
            for part in (parts if isinstance(parts, list) else [])
            if isinstance(part, Mapping) and not part.get("thought")
        ]
        images = [data for part in kept if (data := mapping(part.get("inlineData")))]
        words = " ".join(word for part in kept if (word := text(part.get("text"))))
        if images:
            if len(images) > 1:
                notes = [*notes, f"{len(images)} images came, 1 was asked for"]
            return await self.http.take(text(images[0].get("data")), seed_sent=seed, warnings=notes)
        reason = text(candidate.get("finishReason"))
        message = self._said(candidate.get("finishMessage")) or self._said(words)
        if reason in REFUSED:
            return Missing(
                outcome="refused", kind="content_filter", code=reason, message=message or "refused"
            )
        if words and reason == "STOP":
            return Missing(outcome="refused", kind="text_only", code=reason, message=message)
        return Missing(
            outcome="failed",
            kind="no_image",
            code=reason,
            message=message or "no image in the answer",
        )

    def _said(self, found: object) -> str:
        return self.http.keys.redact(one_line(found)) if isinstance(found, str) else ""


def read_usage(usage: object, picture: bool) -> Usage | None:
    """Token counts by kind; ``None`` where there are none.

    Args:
        usage: ``usageMetadata`` of an answer.
        picture: One came, so output without details is the picture's.
    """
    if not isinstance(usage, Mapping):
        return None
    total_in, total_out = _count(usage, "promptTokenCount"), _count(usage, "candidatesTokenCount")
    if not total_in and not total_out:
        return None
    image_in = _modality(usage.get("promptTokensDetails"), "IMAGE")
    image_out = _modality(usage.get("candidatesTokensDetails"), "IMAGE")
    if image_out is None:
        image_out = total_out if picture else 0
    return Usage(
        text_in=max(0, total_in - (image_in or 0)),
        image_in=image_in or 0,
        image_out=image_out,
        text_out=max(0, total_out - image_out) + _count(usage, "thoughtsTokenCount"),
    )


def _modality(details: object, name: str) -> int | None:
    """Tokens of one modality; ``None`` where the answer does not tell them apart."""
    found = [
        _count(item, "tokenCount")
        for item in (details if isinstance(details, list) else [])
        if isinstance(item, Mapping) and item.get("modality") == name
    ]
    return sum(found) if found else None


def _count(figures: Mapping[str, Any], name: str) -> int:
    value = figures.get(name)
    return value if isinstance(value, int) and value > 0 else 0
