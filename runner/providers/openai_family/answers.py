"""Answers of the Images API, read with suspicion: what is missing or odd is named."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from runner.images import BadImage, sniff
from runner.providers.contract import (
    UNKNOWN_PRICE,
    Answer,
    Call,
    Missing,
    Picture,
    Price,
)
from runner.providers.net import Http, one_line
from runner.providers.net.faults import REFUSED, error_text
from runner.providers.net.outputs import text
from runner.providers.net.payload import decode_base64
from runner.providers.prices import PriceBook, Usage, in_dollars, settle
from runner.settings.cell import CellParams, Json

EFFECTIVE = ("size", "quality", "background", "output_format", "style_id")
"""Fields of an answer that say what was really used."""


async def read_answer(
    call: Call,
    reply: Mapping[str, Any],
    *,
    http: Http,
    sent: Mapping[str, Json],
    request_id: str | None,
    book: PriceBook | None,
    estimate: Callable[[CellParams], Price],
    reported_usd: float | None = None,
    seeds: Sequence[int | None] = (),
    warnings: Sequence[str] = (),
    extras: Mapping[str, bytes] | None = None,
) -> Answer:
    """Make an answer of a reply in OpenAI's shape.

    Args:
        call: What was asked.
        reply: The reply's JSON object.
        http: Downloads results that are URLs.
        sent: What went on the wire.
        request_id: The provider's id of the request.
        book: The model's prices, for usage figures.
        estimate: What one image costs, where neither these nor the server say.
        reported_usd: The cost that the server reports itself.
        seeds: What was sent for each image; empty: the API has no seeds.
        warnings: For every picture.
        extras: Further files of the first picture.
    """
    found = reply.get("data")
    items = list(found) if isinstance(found, list) else []
    effective = {name: reply[name] for name in EFFECTIVE if reply.get(name) is not None}
    notes = list(warnings)
    if len(items) > len(call.cells):
        notes.append(f"{len(items)} images came, {len(call.cells)} were asked for")

    def output(at: int) -> Awaitable[Picture | Missing]:
        item = items[at] if at < len(items) else None
        seed = seeds[at] if seeds else None
        return _output(item, http, effective, notes, extras, at, seed)

    if len(call.cells) == 1:  # the usual call; gather() would make a task of it
        outputs = [await output(0)]
    else:
        outputs = await asyncio.gather(*map(output, range(len(call.cells))))
    usage = reply.get("usage")
    svg_usage = reply.get("svg_usage")
    usage_usd = None
    if book is not None and not svg_usage and (counts := read_usage(usage)) is not None:
        usage_usd = book.from_usage(counts)
    told = in_dollars(reported_usd) is not None or usage_usd is not None
    cost, basis = settle(
        sum(isinstance(output, Picture) for output in outputs),
        reported_usd=reported_usd,
        usage_usd=usage_usd,
        book=UNKNOWN_PRICE if told else estimate(call.params),
    )
    figures: dict[str, Json] = dict(usage) if isinstance(usage, Mapping) else {}
    if isinstance(svg_usage, Mapping):
        figures["svg_usage"] = dict(svg_usage)
    return Answer(
        outputs=tuple(outputs),
        params_sent=sent,
        model_reported=text(reply.get("model")),
        request_id=request_id or text(reply.get("id")),
        usage=figures,
        cost_usd=cost,
        cost_basis=basis,
    )


async def _output(
    item: object,
    http: Http,
    effective: Mapping[str, Json],
    notes: Sequence[str],
    extras: Mapping[str, bytes] | None,
    at: int,
    seed: int | None,
) -> Picture | Missing:
    if not isinstance(item, Mapping):
        message = "fewer images than asked" if at else "no image in the answer"
        return Missing(outcome="failed", kind="no_image", message=message)
    if item.get("error"):
        return refused_or_failed(item, http)
    source, url = text(item.get("b64_json")), text(item.get("url"))
    if source is None and url is not None:
        source = http.base.origin + url if url.startswith("/") else url
    if source is None:
        said = http.keys.redact(one_line(str(item.get("text") or item.get("revised_prompt") or "")))
        return Missing(outcome="failed", kind="no_image", message=said or "no image in the answer")
    return await http.take(
        source,
        seed_sent=seed,
        revised_prompt=text(item.get("revised_prompt")),
        effective=effective,
        warnings=notes,
        extras=extras if at == 0 else None,
    )


def refused_or_failed(item: Mapping[str, Any], http: Http) -> Missing:
    """An image of a call that came as an error: refused, or failed."""
    said = error_text(item)
    refused = bool({code.lower() for code in said.codes} & (REFUSED | http.rules.refused))
    return Missing(
        outcome="refused" if refused else "failed",
        kind="content_filter" if refused else "no_image",
        code=said.codes[0] if said.codes else None,
        message=http.keys.redact(said.message),
    )


def read_usage(usage: object) -> Usage | None:
    """Token counts by kind; ``None`` where the figures do not say enough to price them."""
    if not isinstance(usage, Mapping):
        return None
    total_in, total_out = _count(usage, "input_tokens"), _count(usage, "output_tokens")
    before, after = usage.get("input_tokens_details"), usage.get("output_tokens_details")
    if not total_out or not isinstance(before, Mapping):
        return None
    image_in = _count(before, "image_tokens")
    # GPT image models mostly send no details of the output: then all of it is the picture.
    text_out = _count(after, "text_tokens") if isinstance(after, Mapping) else 0
    return Usage(
        text_in=max(0, total_in - image_in),
        image_in=image_in,
        image_out=max(0, total_out - text_out),
        text_out=text_out,
    )


def partial_file(index: int, b64: str) -> tuple[str, bytes] | None:
    """The name and bytes of a partial image; ``None`` if it is none."""
    try:
        data = decode_base64(b64)
        return f"partial-{index}{sniff(data).suffix}", data
    except BadImage:
        return None


def _count(figures: Mapping[str, Any], name: str) -> int:
    value = figures.get(name)
    return value if isinstance(value, int) and value > 0 else 0
