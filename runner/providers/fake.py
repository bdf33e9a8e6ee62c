"""A provider that draws a labelled card from the request: free, offline, for rehearsals and tests.

The card's colors come from a hash of the request, so the same request gives the same bytes. Knobs
give it the manners of a real service: latency, errors, refusals, missing images, no seeds.
"""

from __future__ import annotations

import hashlib
import io
import random
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from pydantic import Field

from runner.providers.contract import (
    FREE,
    Answer,
    Call,
    Capabilities,
    Listener,
    Missing,
    Param,
    Picture,
    Price,
    Provider,
    ProviderError,
    asked,
)
from runner.settings.cell import Cell, CellParams, Json
from runner.settings.load import validate
from runner.settings.schema import Section, VariantSettings


class FakeOptions(Section):
    """Manners of the fake service."""

    latency_s: float = Field(0.0, ge=0, description="seconds until a call is answered")
    error_rate: float = Field(0.0, ge=0, le=1, description="share of tries that fail for a moment")
    rate_limit_rate: float = Field(0.0, ge=0, le=1, description="share of tries answered with 429")
    refusal_rate: float = Field(0.0, ge=0, le=1, description="share of images that are refused")
    missing_rate: float = Field(0.0, ge=0, le=1, description="share of images that do not come")
    timeout_rate: float = Field(0.0, ge=0, le=1, description="share of tries that get no answer")
    seeds: Literal["image", "call", "none"] = Field(
        "image", description="a seed per image, one per call, or none"
    )
    jobs: bool = Field(
        False, description="answer by jobs, which go on after this process and can be taken up"
    )
    images_per_call: int = Field(4, ge=1, le=1000, description="most images of one call")
    price_usd: float | None = Field(0.0, ge=0, description="price of an image; null: unknown")
    fault_seed: int = Field(0, description="start of the dice that throw the faults")


class FakeProvider(Provider):
    """Draws cards. See :class:`FakeOptions` for its knobs."""

    name: ClassVar[str] = "fake"
    options_type: ClassVar[type[Section]] = FakeOptions

    def __init__(self, settings: VariantSettings) -> None:
        super().__init__(settings)
        self.options = validate(FakeOptions, settings.provider.options, "provider.options")
        self._tries: dict[str, int] = {}

    def capabilities(self) -> Capabilities:
        """Everything of text2img; ``seed`` only with ``options.seeds`` other than ``none``."""
        params = {
            "prompt": Param(native="prompt"),
            "negative_prompt": Param(native="negative_prompt"),
            "size": Param(native="size", default="256x256", note="WIDTHxHEIGHT, 16 to 4096"),
            "steps": Param(native="steps", minimum=1, maximum=150, default=20),
            "guidance_scale": Param(native="guidance", minimum=0, maximum=30, default=7),
            "style": Param(native="style", choices=("plain", "vivid")),
            "quality": Param(native="quality", choices=("low", "high")),
            "output_format": Param(native="format", choices=("png", "jpeg", "webp"), default="png"),
        }
        if self.options.seeds != "none":
            params["seed"] = Param(native="seed", minimum=0, maximum=2**63 - 1)
        return Capabilities(
            params=params,
            max_images_per_call=self.options.images_per_call,
            seed_per_image=self.options.seeds == "image",
            reproducible=self.options.seeds != "none",
            billed=self.options.price_usd != 0,
        )

    def identity(self) -> Mapping[str, Json]:
        """Only what changes the picture: the manners of the service do not."""
        return {
            "provider": self.name,
            "model": self.settings.model.name,
            "pipeline": self.settings.pipeline.name,
            "seeds": self.options.seeds,
        }

    def check(self, params: CellParams) -> Sequence[str]:
        """A size must be ``WIDTHxHEIGHT`` within 16 to 4096."""
        try:
            parse_size(params.size)
        except ValueError:
            return (f"size={params.size}: fake takes WIDTHxHEIGHT, each side 16 to 4096",)
        return ()

    def estimate(self, params: CellParams) -> Price:
        """The price of the options."""
        if self.options.price_usd == 0:
            return FREE
        price = self.options.price_usd
        return Price(price, price, "unknown" if price is None else "price_book")

    async def generate(self, call: Call, listener: Listener) -> Answer:
        """Draw the cards of a call, after the latency and the dice."""
        from asyncio import sleep  # planning and a run that has nothing to do need no event loop

        options = self.options
        first = call.cells[0]
        # Dice are thrown per cell and try, so that a run repeats whatever the order of its calls.
        tries = self._tries[first.cell_id] = self._tries.get(first.cell_id, 0) + 1
        dice = random.Random(f"{options.fault_seed}:{first.cell_id}:{tries}")
        if options.jobs:
            ready_at = time.time() + options.latency_s
            await listener.note(call, {"job": f"job-{call.call_id}", "ready_at": ready_at})
        await sleep(options.latency_s)
        if dice.random() < options.timeout_rate:
            raise ProviderError("ambiguous", "the fake service did not answer", code="timeout")
        if dice.random() < options.rate_limit_rate:
            raise ProviderError("rate_limit", "too many requests", code="429", retry_after=0.01)
        if dice.random() < options.error_rate:
            raise ProviderError("transient", "the fake service stumbled", code="500")
        return self._answer(call)

    async def attach(self, call: Call, fact: Mapping[str, Json], listener: Listener) -> Answer:
        """Wait until a job of an earlier process is over, and take its cards."""
        from asyncio import sleep

        ready_at = fact.get("ready_at")
        if not isinstance(ready_at, float):
            return await super().attach(call, fact, listener)
        await sleep(max(0.0, ready_at - time.time()))
        return self._answer(call)

    def _answer(self, call: Call) -> Answer:
        options, first = self.options, call.cells[0]
        outputs = tuple(self._output(cell) for cell in call.cells)
        pictures = sum(isinstance(output, Picture) for output in outputs)
        price = options.price_usd
        sent = {
            self.capabilities().params[key].native: value
            for key, value in asked(call.params).items()
            if key not in {"prompt", "seed"}
        }
        if first.params.seed is not None:
            sent["seed"] = first.image_seed if options.seeds == "image" else first.params.seed
        return Answer(
            outputs=outputs,
            params_sent={**sent, "n": len(call.cells)},
            model_reported=self.settings.model.name,
            request_id=f"fake-{call.call_id}",
            cost_usd=None if price is None else price * pictures,
            cost_basis="free" if price == 0 else "unknown" if price is None else "reported",
        )

    def _output(self, cell: Cell) -> Picture | Missing:
        dice = random.Random(f"{self.options.fault_seed}:{cell.cell_id}")
        if dice.random() < self.options.refusal_rate:
            return Missing(
                outcome="refused", kind="content_filter", code="blocked", message="not this one"
            )
        if dice.random() < self.options.missing_rate:
            return Missing(outcome="failed", kind="no_image", message="fewer images than asked")
        if self.options.seeds == "none":
            # Like a service without seeds: never the same picture twice.
            return Picture(data=draw_card(cell, secrets.randbits(32)))
        seed = cell.image_seed if self.options.seeds == "image" else cell.params.seed
        return Picture(data=draw_card(cell, seed), seed_sent=seed)


def parse_size(size: str | None) -> tuple[int, int]:
    """``WIDTHxHEIGHT`` as pixels; ``None`` is 256x256.

    Raises:
        ValueError: Not of that form, or out of range.
    """
    width, height = (int(side) for side in (size or "256x256").split("x"))
    if not (16 <= width <= 4096 and 16 <= height <= 4096):
        raise ValueError(size)
    return width, height


def draw_card(cell: Cell, seed: int | None) -> bytes:
    """A card with the request written on it, in colors that its hash chooses."""
    from PIL import Image, ImageDraw, ImageFont

    width, height = parse_size(cell.params.size)
    params = asked(cell.params)
    text = f"{params}{seed}{cell.image_index}"
    hue = hashlib.sha256(text.encode("utf-8", "backslashreplace")).digest()
    ground = tuple(160 + byte % 80 for byte in hue[:3])
    image = Image.new("RGB", (width, height), ground)
    draw = ImageDraw.Draw(image)
    radius = min(width, height) * (0.2 + hue[3] / 1024)
    x, y = width * (0.3 + hue[4] / 640), height * (0.35 + hue[5] / 640)
    draw.ellipse(
        (x - radius, y - radius, x + radius, y + radius),
        fill=tuple(60 + byte % 160 for byte in hue[6:9]),
    )
    font_size = max(8, width // 18)
    font = ImageFont.load_default(font_size)
    lines = _wrap(cell.params.prompt, max(8, int(width / font_size * 1.9)))[:6]
    lines += [f"seed {seed} · {cell.image_index}"]
    for number, line in enumerate(lines):
        draw.text((font_size // 2, font_size // 2 + number * font_size * 1.3), line, "black", font)
    out = io.BytesIO()
    image.save(out, format=(cell.params.output_format or "png").upper())
    return out.getvalue()


def _wrap(text: str, width: int) -> list[str]:
    lines, line = [], ""
    for word in text[:400].split():
        if line and len(line) + len(word) + 1 > width:
            lines.append(line)
            line = ""
        line = f"{line} {word}".strip()
    return [*lines, line]
