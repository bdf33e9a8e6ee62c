"""Figures as people read them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime

from runner.settings.cell import CostBasis

BASES: dict[CostBasis, str] = {
    "reported": "as reported",
    "usage": "from usage",
    "price_book": "price book",
    "estimate": "estimate",
}
"""Where a sum of money comes from, in words; the best basis first."""


def usd(amount: float) -> str:
    """``$12.30``, ``$0.042``, ``$0.00012``: cents at least, two significant digits at most."""
    if amount == 0:
        return "$0"
    if amount >= 1:
        return f"${amount:,.2f}"
    digits = max(4, 1 - math.floor(math.log10(amount)))
    whole, _, fraction = f"{amount:.{digits}f}".partition(".")
    return f"${whole}.{fraction.rstrip('0').ljust(2, '0')}"


def seconds(value: float) -> str:
    """``0.31 s``, ``12.4 s``, ``3 min 5 s``, ``2 h 10 min``."""
    if value < 10:
        return f"{value:.2f} s"
    if value < 60:
        return f"{value:.1f} s"
    minutes = round(value) // 60
    if minutes < 60:
        return f"{minutes} min {round(value) % 60} s"
    return f"{minutes // 60} h {minutes % 60} min"


def moment(text: str) -> str:
    """An ISO 8601 time as ``1 Nov 2026, 14:03 UTC``; the text itself if it is none."""
    when = parse_moment(text)
    return text if when is None else f"{when.day} {when:%b %Y, %H:%M} UTC"


def parse_moment(text: str) -> datetime | None:
    """An ISO 8601 time in UTC; ``None`` if the text is none."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        return None


def quantile(ordered: Sequence[float], share: float) -> float:
    """A quantile of sorted numbers, linear between neighbours.

    Args:
        ordered: At least one number, ascending.
        share: 0 to 1; 0.5 is the median.
    """
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def shorten(text: str, limit: int) -> str:
    """The text on one line, cut with an ellipsis to at most ``limit`` characters."""
    line = " ".join(text[: 4 * limit].split())
    return line if len(line) <= limit and len(text) <= 4 * limit else line[: limit - 1] + "…"
