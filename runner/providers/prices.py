"""What an image costs: dated figures from ``conf/model/`` (``price:``), and the order of trust.

A cost is, best first: what the API reports, its usage figures at our rates, a row of the price
book, an estimate. Which of them it was is recorded. What is not known is ``unknown``, never 0.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import Field, PrivateAttr

from runner.providers.contract import FREE, UNKNOWN_PRICE, Price
from runner.providers.sizes import SizeError, parse_size
from runner.settings.cell import CostBasis
from runner.settings.load import validate
from runner.settings.schema import ModelSettings, Section

Range = tuple[float, float]
_MILLION = 1_000_000
_PROMPT_OVERHEAD = 6
"""Tokens that OpenAI adds to a prompt."""


class TokenRates(Section):
    """US dollars per million tokens."""

    text_in: float | None = Field(None, ge=0, description="text of the request")
    text_in_cached: float | None = Field(None, ge=0, description="text that the API had cached")
    image_in: float | None = Field(None, ge=0, description="input images")
    image_in_cached: float | None = Field(None, ge=0, description="input images that it had cached")
    image_out: float | None = Field(None, ge=0, description="pictures that were made")
    text_out: float | None = Field(None, ge=0, description="text that was made")


class OutputTokens(Section):
    """How many tokens a picture has: a table, or the patch formula of gpt-image-2."""

    table: dict[str, dict[str, int]] = Field(
        default_factory=dict, description="quality, then size, to tokens"
    )
    patches: dict[str, int] = Field(
        default_factory=dict, description="quality to patches along the longer side"
    )
    spread: Range = Field(
        (1.0, 1.0), description="factors for the least and the most, where the count is not exact"
    )
    _known: dict[tuple[tuple[str, ...], tuple[str, ...]], Range | None] = PrivateAttr({})

    def least_and_most(self, qualities: tuple[str, ...], sizes: tuple[str, ...]) -> Range | None:
        """Tokens of a picture that comes in one of these levels and sizes; ``None``: unknown."""
        asked = qualities, sizes
        if asked not in self._known:  # it is asked for every call
            self._known[asked] = self._work_out(*asked)
        return self._known[asked]

    def _work_out(self, qualities: tuple[str, ...], sizes: tuple[str, ...]) -> Range | None:
        found: list[int] = []
        for quality in qualities:
            rows = self.table.get(quality, {})
            patches = self.patches.get(quality)
            for size in sizes:
                pixels = parse_size(size).pixels
                if size in rows:
                    found.append(rows[size])
                elif patches is not None and pixels is not None:
                    found.append(patch_tokens(patches, *pixels))
                else:
                    return None
        if not found:
            return None
        return min(found) * self.spread[0], max(found) * self.spread[1]


class ImageRow(Section):
    """The price of one image; empty lists match everything."""

    usd: float = Field(ge=0, description="US dollars per image; 0: nobody bills it")
    quality: tuple[str, ...] = Field((), description="quality levels that it holds for")
    size: tuple[str, ...] = Field((), description="sizes or levels that it holds for")
    style: tuple[str, ...] = Field((), description="styles that it holds for")
    pipeline: tuple[str, ...] = Field((), description="kinds of pipeline that it holds for")
    task: tuple[str, ...] = Field((), description="tasks of provider.options that it holds for")
    output_format: tuple[str, ...] = Field((), description="file formats that it holds for")

    def matches(self, facts: Mapping[str, str | None]) -> bool:
        """Whether the row may hold; a fact that is not known (``auto``) excludes nothing."""
        return all(
            not allowed or facts.get(key) in (None, "auto", *allowed)
            for key, allowed in (
                ("quality", self.quality),
                ("size", self.size),
                ("style", self.style),
                ("pipeline", self.pipeline),
                ("task", self.task),
                ("output_format", self.output_format),
            )
        )


class MegapixelRow(Section):
    """A price by the size of the picture: the first megapixel, and each further one."""

    usd: float = Field(ge=0, description="US dollars per megapixel")
    first_usd: float | None = Field(None, ge=0, description="of the first, where it differs")
    whole: bool = Field(True, description="begun megapixels (of 1024x1024) count as whole ones")
    pipeline: tuple[str, ...] = Field((), description="kinds of pipeline that it holds for")

    def price(self, pixels: int) -> float:
        """The price of one image."""
        count = math.ceil(pixels / 2**20) if self.whole else pixels / _MILLION
        first = self.usd if self.first_usd is None else self.first_usd
        return first + (count - 1) * self.usd if count > 1 else first * count


class PriceBook(Section):
    """The prices of one model, as of a day and a source."""

    as_of: datetime.date = Field(description="day on which the figures were read")
    source: str = Field(description="where they were read")
    images: tuple[ImageRow, ...] = Field((), description="prices per image; all that match count")
    megapixels: tuple[MegapixelRow, ...] = Field(
        (), description="prices by the size of the picture, where no row of images holds"
    )
    megapixel_usd: float | None = Field(None, ge=0, description="price per million pixels made")
    credit_usd: float | None = Field(None, ge=0, description="price of one credit of the API")
    tokens: TokenRates | None = Field(None, description="prices per million tokens")
    output_tokens: OutputTokens | None = Field(None, description="tokens of a picture")
    input_image_tokens: Range | None = Field(
        None, description="least and most tokens of one input image"
    )

    def per_image(self, **facts: str | None) -> Price:
        """The price of an image by rows or pixels; a range where the facts leave several open.

        Args:
            facts: ``quality``, ``size``, ``style``, ``pipeline``, ``task``, ``output_format`` as
                sent; ``None`` or ``auto`` where the API chooses.
        """
        found = [row.usd for row in self.images if row.matches(facts)]
        if found:
            low, high = min(found), max(found)
            if high == 0:
                return FREE
            return Price(low, high, "price_book" if low == high else "estimate")
        if self.megapixels and (pixels := _pixels(facts.get("size"))):
            kind = facts.get("pipeline")
            prices = [row.price(pixels) for row in self.megapixels if kind in (None, *row.pipeline)]
            prices = prices or [row.price(pixels) for row in self.megapixels if not row.pipeline]
            if prices:
                low, high = min(prices), max(prices)
                return Price(low, high, "price_book" if low == high else "estimate")
        if self.megapixel_usd is not None and (pixels := _pixels(facts.get("size"))):
            usd = self.megapixel_usd * pixels / _MILLION
            return Price(usd, usd, "price_book")
        return UNKNOWN_PRICE

    def per_tokens(
        self,
        prompt: str,
        qualities: tuple[str, ...],
        sizes: tuple[str, ...],
        input_images: int = 0,
        extra_out: int = 0,
    ) -> Price:
        """The price of an image that is paid by tokens, before it is made.

        Args:
            prompt: Its text; one token is taken to be 1 to 6 bytes.
            qualities: The quality levels that it may come in: several where the API chooses.
            sizes: The sizes that it may come in, ``WIDTHxHEIGHT``.
            input_images: Input images that are sent along.
            extra_out: Most further tokens of output, such as partial images.
        """
        rates, counts = self.tokens, self.output_tokens
        made = counts and counts.least_and_most(qualities, sizes)
        if not rates or rates.image_out is None or not made:
            return UNKNOWN_PRICE
        if input_images and (self.input_image_tokens is None or rates.image_in is None):
            return UNKNOWN_PRICE
        bytes_in = len(prompt.encode("utf-8", "backslashreplace"))
        seen = self.input_image_tokens or (0.0, 0.0)
        text_rate, seen_rate = rates.text_in or 0.0, input_images * (rates.image_in or 0.0)
        low = bytes_in / 6 * text_rate + seen[0] * seen_rate + made[0] * rates.image_out
        high = (
            (bytes_in + _PROMPT_OVERHEAD) * text_rate
            + seen[1] * seen_rate
            + (made[1] + extra_out) * rates.image_out
        )
        return Price(low / _MILLION, high / _MILLION, "estimate")

    def from_usage(self, usage: Usage) -> float | None:
        """What a call cost by its token counts; ``None`` if a rate that is needed is not known."""
        if self.tokens is None:
            return None
        total = 0.0
        for count, rate in (
            (usage.text_in, self.tokens.text_in),
            (usage.text_in_cached, self.tokens.text_in_cached),
            (usage.image_in, self.tokens.image_in),
            (usage.image_in_cached, self.tokens.image_in_cached),
            (usage.image_out, self.tokens.image_out),
            (usage.text_out, self.tokens.text_out),
        ):
            if (count and rate is None) or not 0 <= count <= _MOST_TOKENS:
                return None
            total += count * (rate or 0.0)
        return total / _MILLION

    def from_credits(self, credits: object) -> float | None:
        """What an answer says that a call cost, in US dollars; ``None`` if that is not known."""
        return in_dollars(credits, self.credit_usd) if self.credit_usd else None


_MOST_TOKENS = 10**9
_MOST_USD = 10_000.0
"""Figures of one call beyond these are a server's mistake, and as good as none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Token counts of one call, each token in exactly one of them."""

    text_in: int = 0
    text_in_cached: int = 0
    image_in: int = 0
    image_in_cached: int = 0
    image_out: int = 0
    text_out: int = 0


def price_book(model: ModelSettings) -> PriceBook | None:
    """The model's price data, typed; ``None`` if it has none.

    Raises:
        RequestError: The data is wrong.
    """
    return validate(PriceBook, model.price, "model.price") if model.price else None


def settle(
    pictures: int,
    *,
    reported_usd: object = None,
    usage_usd: float | None = None,
    book: Price = UNKNOWN_PRICE,
) -> tuple[float | None, CostBasis]:
    """The cost of a whole call from the best source there is, and which it was.

    Args:
        pictures: Images that came.
        reported_usd: What the API says that the call cost; what is no such figure does not count.
        usage_usd: The call's usage figures at our rates.
        book: The price of one image; the upper end of a range counts.
    """
    reported = in_dollars(reported_usd)
    if reported is not None:
        return reported, "reported"
    if usage_usd is not None:
        return usage_usd, "usage"
    if book.high_usd is None or not pictures:
        return None, "unknown"
    return book.high_usd * pictures, book.basis


def in_dollars(units: object, usd_each: float = 1.0) -> float | None:
    """What an answer says that a call cost, in credits or dollars; ``None`` if it is no figure."""
    if not isinstance(units, (int, float)) or isinstance(units, bool):
        return None
    return units * usd_each if 0 <= units <= _MOST_USD / usd_each else None


def patch_tokens(patches: int, width: int, height: int) -> int:
    """Output tokens of gpt-image-2: a grid of patches, weighted by the number of pixels.

    Reproduces the published per-image prices of that model to a tenth of a cent.
    """
    long, short = max(width, height), min(width, height)
    across = math.floor(patches * short / long + 0.5)
    return math.ceil(patches * across * (2 * _MILLION + width * height) / (4 * _MILLION))


def _pixels(size: str | None) -> int | None:
    try:
        pixels = parse_size(size or "").pixels
    except SizeError:
        return None
    return None if pixels is None else pixels[0] * pixels[1]
