"""Compares our price book with litellm's: ``python -m runner.providers.price_check``.

Reads litellm's price file from ``--litellm FILE``, or out of an installed litellm, which is not
imported for it. Prints one line for every figure and date that differs, and exits with 1 if there
are any, like ``diff``. Neither side is the truth: a difference is a reason to ask the vendor.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import yaml

from runner.providers.contract import UNKNOWN_PRICE, Price
from runner.providers.prices import PriceBook, price_book
from runner.settings.confdir import conf_dir
from runner.settings.errors import PrerequisiteError, RequestError
from runner.settings.load import validate
from runner.settings.schema import ModelSettings

PRICE_FILE = "litellm/model_prices_and_context_window_backup.json"

FAMILIES: Mapping[str, tuple[str, ...]] = {
    "azure_openai": ("azure",),
    "bedrock_nova_canvas": ("bedrock",),
    "bedrock_stability": ("bedrock",),
    "bedrock_stable_diffusion": ("bedrock",),
    "bedrock_titan": ("bedrock",),
    "black_forest_labs": ("black_forest_labs",),
    "fal": ("fal_ai",),
    "google": ("gemini",),
    "nscale": ("nscale",),
    "openai": ("openai",),
    "recraft": ("recraft",),
    "runway": ("runwayml",),
    "stability": ("stability",),
    "vertex": ("vertex_ai", "vertex_ai-image-models", "vertex_ai-language-models"),
}
"""Our folders of model files, and what litellm calls these vendors."""

RATES = {
    "text_in": "input_cost_per_token",
    "text_in_cached": "cache_read_input_token_cost",
    "image_in": "input_cost_per_image_token",
    "image_in_cached": "cache_read_input_image_token_cost",
    "image_out": "output_cost_per_image_token",
    "text_out": "output_cost_per_token",
}
"""Our rates per million tokens, and litellm's per token."""

_SIZE = re.compile(r"(\d+)-x-(\d+)\Z")
_MILLION = 1_000_000
_ONE_MEGAPIXEL = "1000x1000"
_ROUNDED_USD = 0.0006
_ROUNDED = 0.015
"""Published prices are rounded, to a tenth of a cent or to two digits: this is no difference."""


@dataclass(frozen=True, slots=True)
class Listed:
    """One entry of litellm's file.

    Attributes:
        vendor: litellm's name of the provider.
        name: The model, without the parts of the key that are told here.
        quality: Part of the key, if it has one.
        size: ``WIDTHxHEIGHT``, if the key has one.
        figures: The entry.
    """

    vendor: str
    name: str
    quality: str | None
    size: str | None
    figures: Mapping[str, Any]

    @property
    def image_usd(self) -> float | None:
        """The price of one picture that is made; two names are in use for it."""
        made = self.figures.get("output_cost_per_image")
        if made is None and not self.figures.keys() & set(RATES.values()):
            made = self.figures.get("input_cost_per_image")
        return made or None

    @property
    def megapixel_usd(self) -> float | None:
        """The price of a million pixels that are made."""
        names = ("input_cost_per_pixel", "output_cost_per_pixel")
        return sum(self.figures.get(name) or 0.0 for name in names) * _MILLION or None


@dataclass(frozen=True, slots=True)
class Difference:
    """A figure that is not the same on both sides; ``None``: that side has none."""

    model: str
    what: str
    ours: str | None
    theirs: str | None

    def __str__(self) -> str:
        ours, theirs = self.ours or "nothing", self.theirs or "nothing"
        return f"{self.model}: {self.what}: ours {ours}, litellm {theirs}"


def read_listed(text: str) -> list[Listed]:
    """The image models of litellm's file.

    Raises:
        RequestError: It is not such a file.
    """
    try:
        entries = json.loads(text)
    except ValueError as error:
        raise RequestError(f"--litellm: this is no JSON: {error}") from None
    if not isinstance(entries, dict):
        raise RequestError("--litellm: this is no price file: it holds no object")
    return [
        listed
        for key, figures in entries.items()
        if isinstance(figures, dict) and figures.get("mode") in {"image_generation", "image_edit"}
        if (listed := _listed(key, figures)) is not None
    ]


def _listed(key: str, figures: Mapping[str, Any]) -> Listed | None:
    vendor = str(figures.get("litellm_provider"))
    parts = [part for part in key.split("/") if part != vendor]
    at = next((at for at, part in enumerate(parts) if _SIZE.match(part)), None)
    if at is None:
        return Listed(vendor, "/".join(parts), None, None, figures)
    name = parts[at + 1 :]
    if not name or name[0].endswith("-steps"):
        return None
    quality = parts[at - 1] if at else None
    return Listed(vendor, "/".join(name), quality, parts[at].replace("-x-", "x"), figures)


def read_models() -> Iterator[tuple[str, ModelSettings]]:
    """Every model file of a vendor that litellm knows too, by ``FAMILY/NAME``."""
    root = Path(conf_dir(), "model")
    for family in FAMILIES:
        for path in sorted((root / family).glob("*.yaml")):
            choice = f"{family}/{path.stem}"
            yield choice, validate(ModelSettings, _composed(root, choice), choice)


def _composed(root: Path, choice: str) -> dict[str, Any]:
    """A model file on top of those that it names in its defaults, as Hydra puts them together."""
    data = yaml.safe_load((root / f"{choice}.yaml").read_text(encoding="utf-8"))
    made: dict[str, Any] = {}
    for base in data.pop("defaults", ()):
        if base != "_self_":
            made = _merged(made, _composed(root, base.removeprefix("/model/").partition("@")[0]))
    return _merged(made, data)


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    made = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(made.get(key), dict)
        made[key] = _merged(made[key], value) if both else value
    return made


def compare(
    models: Sequence[tuple[str, ModelSettings]], listed: Sequence[Listed]
) -> Iterator[Difference]:
    """Every difference between model files and litellm's entries of the same vendor and name."""
    for choice, model in models:
        vendors = FAMILIES[choice.partition("/")[0]]
        for entry in listed:
            if entry.vendor in vendors and entry.name == model.name:
                yield from _compare_one(choice, model, price_book(model), entry)


def _compare_one(
    choice: str, model: ModelSettings, book: PriceBook | None, entry: Listed
) -> Iterator[Difference]:
    if entry.size is None:
        ends = None if model.lifecycle.date is None else str(model.lifecycle.date)
        theirs = entry.figures.get("deprecation_date")
        if theirs and theirs != ends:
            yield Difference(choice, "end of life", ends, theirs)
        for name, key in RATES.items():
            rate = entry.figures.get(key)
            ours = getattr(book.tokens, name) if book and book.tokens else None
            if rate and ours is None and book and not book.tokens:
                continue  # we have a price per image instead
            yield from _differs(
                choice, f"{name} per million tokens", ours, rate and rate * _MILLION
            )
    if entry.image_usd is not None:
        facts = ", ".join(part for part in (entry.quality, entry.size) if part)
        price = _price(book, model, entry)
        if price is not None and not _within(price, entry.image_usd):
            what = f"an image ({facts})" if facts else "an image"
            yield Difference(choice, what, _range(price), _usd(entry.image_usd))
    elif entry.size is None and entry.megapixel_usd is not None:
        ours = book.megapixel_usd if book else None
        yield from _differs(choice, "a million pixels", ours, entry.megapixel_usd)


def _differs(
    choice: str, what: str, ours: float | None, theirs: float | None
) -> Iterator[Difference]:
    if not theirs or (ours is not None and math.isclose(ours, theirs, rel_tol=_ROUNDED)):
        return
    yield Difference(choice, what, None if ours is None else _usd(ours), _usd(theirs))


def _price(book: PriceBook | None, model: ModelSettings, entry: Listed) -> Price | None:
    """Our price for what an entry is about; ``None``: it cannot be compared."""
    if book is None:
        return UNKNOWN_PRICE
    if book.tokens is None:
        size = entry.size or (None if book.images else _ONE_MEGAPIXEL)
        return book.per_image(quality=entry.quality, size=size, pipeline="text2img")
    if entry.quality is None or entry.size is None or book.output_tokens is None:
        return None
    known = {*book.output_tokens.table, *book.output_tokens.patches}
    if entry.quality not in known:
        return None
    return book.per_tokens("", (entry.quality,), (entry.size,))


def _within(price: Price, usd: float) -> bool:
    if price.low_usd is None or price.high_usd is None:
        return False
    near = max(_ROUNDED_USD, usd * _ROUNDED)
    return price.low_usd - near <= usd <= price.high_usd + near


def _range(price: Price) -> str | None:
    if price.low_usd is None or price.high_usd is None:
        return None
    low, high = _usd(price.low_usd), _usd(price.high_usd)
    return low if low == high else f"{low} to {high}"


def _usd(value: float) -> str:
    return f"${value:.4g}"


def _installed() -> Path:
    try:
        found = Path(str(distribution("litellm").locate_file(PRICE_FILE)))
    except PackageNotFoundError:
        raise PrerequisiteError(
            "litellm is not installed: pip install litellm, or name its price file with "
            "--litellm FILE"
        ) from None
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the differences.

    Args:
        arguments: Of the command line.

    Returns:
        0: none; 1: some; 2: the file is wrong; 3: there is none.
    """
    parser = argparse.ArgumentParser(prog="python -m runner.providers.price_check")
    parser.add_argument("--litellm", type=Path, help="litellm's price file, JSON")
    chosen = parser.parse_args(arguments)
    try:
        listed = read_listed((chosen.litellm or _installed()).read_text(encoding="utf-8"))
        models = list(read_models())
        differences = list(dict.fromkeys(compare(models, listed)))
    except (RequestError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except PrerequisiteError as error:
        print(f"error: {error}", file=sys.stderr)
        return 3
    for difference in differences:
        print(difference)
    names = {(entry.vendor, entry.name) for entry in listed}
    known = sum(
        any((vendor, model.name) in names for vendor in FAMILIES[choice.partition("/")[0]])
        for choice, model in models
    )
    print(
        f"{len(models)} model files, {known} of them in litellm's file, "
        f"{len(differences)} differences"
    )
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
