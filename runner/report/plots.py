"""Plots of a run as SVG: time and cost by who made the images, success by axis.

Drawn by hand: three kinds of bar need no plotting library, work in a page without scripts, and
take the page's colours. Texts are escaped; numbers stand beside their bars, so that nothing has to
be read off an axis.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

from runner.images.metadata import NOT_IN_XML
from runner.report.axes import IMAGE, VARIANT, Axis
from runner.report.gallery import Gallery
from runner.report.text import quantile, seconds, shorten, usd

MOST_BARS = 24
"""Values of an axis that one plot takes."""

_FEWEST = 4
"""Images below which a distribution says nothing."""

_WIDTH, _LABEL, _VALUE, _ROW, _TOP = 600, 170, 190, 24, 40
_BAR = _WIDTH - _LABEL - _VALUE
_INK = "#1b1b19"
_ACCENT, _REFUSED, _FAILED = "#2a6fb0", "#b0852a", "#b0402a"
_OUTCOMES = {"done": _ACCENT, "refused": _REFUSED, "failed": _FAILED, "unknown": "#77756e"}


@dataclass(frozen=True, slots=True)
class Plot:
    """One plot.

    Attributes:
        name: Of its file, without the ending.
        svg: The drawing.
    """

    name: str
    svg: str


@dataclass(frozen=True, slots=True)
class _Bar:
    """One line of a plot: its label, shapes inside the bar's width, and a value in words."""

    label: str
    shapes: str
    value: str


def plots(gallery: Gallery) -> list[Plot]:
    """The plots that say something about this run; none for a handful of pictures.

    Args:
        gallery: What the run holds.
    """
    found = [_time(gallery), _cost(gallery)]
    if any(word != "done" for word, _ in _outcomes(gallery)):
        found += [_success(gallery, axis) for axis in gallery.axes if axis.key != IMAGE]
    return [plot for plot in found if plot is not None]


def _makers(gallery: Gallery) -> list[tuple[str, list[int]]]:
    """Who made the images, each with the entries that are theirs."""
    axis = next((axis for axis in gallery.axes if axis.key == VARIANT), None)
    if axis is None:
        label = gallery.header.providers[0].label if gallery.header.providers else ""
        return [(label, list(range(len(gallery))))]
    entries: dict[int, list[int]] = defaultdict(list)
    for entry, place in enumerate(axis.at):
        entries[place].append(entry)
    return [(str(value), entries[place]) for place, value in enumerate(axis.values)]


def _numbers(gallery: Gallery, name: str, entries: Sequence[int]) -> list[float]:
    values = (gallery.get(name, entry) for entry in entries if _is_done(gallery, entry))
    return sorted(value for value in values if isinstance(value, (int, float)))


def _is_done(gallery: Gallery, entry: int) -> bool:
    return gallery.get("status", entry) == "done"


def _time(gallery: Gallery) -> Plot | None:
    """Seconds of a call: a line from the 5th to the 95th per cent, a box for the middle half."""
    found = [
        (label, _numbers(gallery, "latency_s", entries)) for label, entries in _makers(gallery)
    ]
    found = [(label, values) for label, values in found if values]
    if sum(len(values) for _, values in found) < _FEWEST:
        return None
    positive = [value for _, values in found for value in values if value > 0]
    if not positive:
        return None
    low, high = min(positive), max(positive)
    logarithmic = high > 30 * low

    def place(value: float) -> float:
        if not logarithmic:
            return _BAR * value / high
        share = math.log(max(value, low) / low) / math.log(high / low)
        return _BAR * (0.02 + 0.98 * share)

    bars = []
    for label, values in found:
        p5, p25, p50, p75, p95 = (place(quantile(values, q)) for q in (0.05, 0.25, 0.5, 0.75, 0.95))
        shapes = (
            f'<path d="M{p5:.1f} 8H{max(p95, p5 + 1):.1f}" stroke="currentColor" '
            'stroke-opacity=".5"/>'
            f'<rect x="{p25:.1f}" y="3" width="{max(p75 - p25, 2):.1f}" height="10" rx="2" '
            f'fill="{_ACCENT}"/>'
            f'<path d="M{p50:.1f} 1v14" stroke="currentColor" stroke-width="2"/>'
        )
        middle, late = seconds(quantile(values, 0.5)), seconds(quantile(values, 0.95))
        bars.append(_Bar(label, shapes, f"{middle}, p95 {late}"))
    scale = ", logarithmic" if logarithmic else ""
    return _draw("time", f"Time of a call{scale}: median, middle half, p5 to p95", bars)


def _cost(gallery: Gallery) -> Plot | None:
    """Mean US dollars of an image; who is free or unknown is said in words."""
    means: list[tuple[str, float | None, int]] = []
    for label, entries in _makers(gallery):
        values = _numbers(gallery, "cost_usd", entries)
        done = sum(_is_done(gallery, entry) for entry in entries)
        if done:
            mean = sum(values) / len(values) if values else None
            means.append((label, mean, done - len(values)))
    highest = max((mean for _, mean, _ in means if mean), default=0.0)
    if not highest:
        return None
    bars = []
    for label, mean, unknown in means:
        width = _BAR * (mean or 0) / highest
        shape = f'<rect y="2" width="{width:.1f}" height="12" rx="2" fill="{_ACCENT}"/>'
        words = "unknown" if mean is None else usd(mean) if mean else "free"
        if unknown and mean is not None:
            words += f", {unknown:,} unknown"
        bars.append(_Bar(label, shape if mean else "", words))
    return _draw("cost", "Cost of an image, mean", bars)


def _outcomes(gallery: Gallery) -> list[tuple[str, int]]:
    counts = Counter(gallery.text("status", entry) for entry in range(len(gallery)))
    return [(word, counts[word]) for word in _OUTCOMES if counts[word]]


def _success(gallery: Gallery, axis: Axis) -> Plot | None:
    """Outcomes by the value of an axis, the ones that failed most first where there are many."""
    if not len(axis.values) >= 2:
        return None
    counts: dict[int, Counter[str]] = defaultdict(Counter)
    for entry, place in enumerate(axis.at):
        if place >= 0:
            counts[place][gallery.text("status", entry)] += 1
    order = list(counts)
    if len(order) > MOST_BARS:
        order.sort(key=lambda place: counts[place]["done"] / counts[place].total())
    bars = []
    for place in order[:MOST_BARS]:
        total, shapes, x = counts[place].total(), "", 0.0
        for word, colour in _OUTCOMES.items():
            width = _BAR * counts[place][word] / total
            if width:
                shapes += (
                    f'<rect x="{x:.1f}" y="2" width="{width:.1f}" height="12" fill="{colour}"/>'
                )
            x += width
        words = ", ".join(
            f"{counts[place][word]:,} {word}" for word in _OUTCOMES if counts[place][word]
        )
        bars.append(_Bar(str(axis.values[place]), shapes, words))
    name = axis.label if axis.key == VARIANT else axis.key
    left = f" (the worst {MOST_BARS} of {len(order):,})" if len(order) > MOST_BARS else ""
    return _draw(f"success-{name}", f"Outcomes by {name}{left}", bars)


def _draw(name: str, title: str, bars: Sequence[_Bar]) -> Plot:
    height = _TOP + _ROW * len(bars)
    told = "; ".join(f"{bar.label}: {bar.value}" for bar in bars)
    return Plot(name, "".join(_svg(title, told, bars, height)))


def _svg(title: str, told: str, bars: Sequence[_Bar], height: int) -> Iterator[str]:
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="plot" viewBox="0 0 {_WIDTH} {height}" '
        f'width="{_WIDTH}" height="{height}" color="{_INK}" role="img" '
        f"aria-label={quoteattr(_xml(f'{title}. {told}'))} "
        'font-family="Inter, system-ui, sans-serif" font-size="12" fill="currentColor">'
    )
    yield f'<text x="0" y="16" font-size="13" font-weight="600">{_text(title, 90)}</text>'
    for number, bar in enumerate(bars):
        y = _TOP - 6 + _ROW * number
        yield f'<text x="0" y="{y + 12}">{_text(bar.label, 24)}</text>'
        yield f'<g transform="translate({_LABEL} {y})">{bar.shapes}</g>'
        yield f'<text x="{_LABEL + _BAR + 10}" y="{y + 12}">{_text(bar.value, 30)}</text>'
    yield "</svg>\n"


def _text(text: str, limit: int) -> str:
    return escape(_xml(shorten(text, limit)))


def _xml(text: str) -> str:
    """Without the characters that XML forbids."""
    return NOT_IN_XML.sub("\ufffd", text)
