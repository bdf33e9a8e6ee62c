"""Replies that come as JSON or as server-sent events, told apart by what they hold.

A gateway may label JSON as events or the other way round, so the label is not asked. The events
are those of llama-box: progress and parts of base64 by image, and errors in the middle::

    data: {"data": [{"index": 0, "progress": 50.0}]}
    data: {"data": [{"index": 0, "progress": 90.0, "b64_json": "iVBORw0KG"}]}
    data: {"data": [{"index": 0, "progress": 100.0, "b64_json": "goAAAA…"}], "usage": {…}}
    data: [DONE]
    error: {"error": {"code": 500, "message": "…"}}
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from runner.providers.contract import ProviderError
from runner.providers.net import Http, Part, json_object
from runner.providers.net.faults import request_id
from runner.providers.openai_family.answers import partial_file
from runner.settings.cell import Json

_EVENT = re.compile(r"(data|error|event|id|retry)?:")
_PNG = "iVBORw0KGgo"
"""How every PNG begins as base64: where previews are sent, a new picture begins there."""


class ImageEvents:
    """Puts images together from their events.

    Args:
        count: Images that were asked for.
        previews: Whether pictures of the way were asked for, as PNG.
    """

    def __init__(self, count: int, previews: bool = False) -> None:
        self._count = count
        self._previews = previews
        self._parts: dict[int, list[str]] = {}
        self._before: list[str] = []
        self._progress: dict[int, float] = {}
        self._reply: dict[str, Any] = {}

    @property
    def progress(self) -> int:
        """Per cent of all images together."""
        return round(sum(self._progress.values()) / self._count)

    def add(self, event: Mapping[str, Any]) -> None:
        """Take one event in; what is not understood is left alone."""
        self._reply |= {name: value for name, value in event.items() if value is not None}
        items = event.get("data")
        for item in items if isinstance(items, list) else ():
            if not isinstance(item, Mapping):
                continue
            index, share, text = item.get("index"), item.get("progress"), item.get("b64_json")
            at = index if isinstance(index, int) and 0 <= index < self._count else 0
            if isinstance(share, (int, float)):
                self._progress[at] = min(max(float(share), self._progress.get(at, 0.0)), 100.0)
            if isinstance(text, str) and text:
                self._add_part(self._parts.setdefault(at, []), text)

    def _add_part(self, parts: list[str], text: str) -> None:
        if self._previews and parts and text.startswith(_PNG):
            self._before.append("".join(parts))
            parts.clear()
        parts.append(text)

    def reply(self) -> dict[str, Any]:
        """What a reply without events would have been."""
        images = [{"b64_json": "".join(self._parts.get(at, ()))} for at in range(self._count)]
        return {**self._reply, "data": images}

    def previews(self) -> dict[str, bytes]:
        """Pictures of the way, by the end of their file's name."""
        named = (partial_file(at, text) for at, text in enumerate(self._before))
        return dict(found for found in named if found is not None)


async def receive(
    http: Http,
    path: str,
    events: ImageEvents,
    on_progress: Callable[[int], None],
    *,
    json: Json = None,
    form: Sequence[Part] | None = None,
) -> tuple[dict[str, Any], str | None]:
    """Send a request; read its answer, whichever way it comes.

    Args:
        http: The way there.
        path: Below the base URL.
        events: Takes the events in.
        on_progress: Hears the per cent after each event.
        json: Body as JSON.
        form: Body as a form.

    Returns:
        The reply's JSON object, and the provider's id of the request.

    Raises:
        ProviderError: An error came, before or in the middle; or something that is no answer.
    """
    plain: list[str] = []
    async with http.stream("POST", path, json=json, form=form) as (headers, lines):
        request = request_id(headers)
        async for line in lines:
            if plain or (line.strip() and not _EVENT.match(line)):
                plain.append(line)
                continue
            name, _, data = line.partition(":")
            if name not in {"data", "error"} or data.strip() in {"", "[DONE]"}:
                continue
            event = json_object(data.encode(), request)
            if name == "error" or event.get("error"):
                raise _fault(http, event)
            events.add(event)
            on_progress(events.progress)
    if not plain:
        return events.reply(), request
    reply = json_object("\n".join(plain).encode(), request)
    if reply.get("error"):
        raise _fault(http, reply)
    return reply, request


def _fault(http: Http, event: Mapping[str, Any]) -> ProviderError:
    inner = event.get("error")
    code = (inner if isinstance(inner, Mapping) else event).get("code")
    status = code if isinstance(code, int) and 400 <= code <= 599 else 500
    return http.status_fault(status, {}, event)
