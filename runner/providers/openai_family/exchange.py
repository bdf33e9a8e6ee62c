"""One request of the Images API through the SDK, and its answer: whole, or as a stream."""

from __future__ import annotations

import json
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from runner.providers.contract import Call, Listener
from runner.providers.net import Http, bad_response
from runner.providers.net.faults import request_id
from runner.providers.net.sdk import Built, built_by
from runner.providers.openai_family.answers import EFFECTIVE, partial_file
from runner.providers.openai_family.client import PER_REQUEST, classify
from runner.providers.openai_family.files import File
from runner.providers.openai_family.options import JSON_TEXT
from runner.settings.cell import Json

if TYPE_CHECKING:
    import httpx2
    import openai
    from openai._types import RequestOptions


@dataclass(frozen=True, slots=True)
class Exchanged:
    """What came back.

    Attributes:
        body: The JSON object.
        headers: Lower-case names.
        extras: Partial images, by the end of their name.
    """

    body: Mapping[str, Any]
    headers: Mapping[str, str]
    extras: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def request_id(self) -> str | None:
        """The provider's id of the request."""
        return request_id(self.headers)

    def dollars(self, header: str | None) -> float | None:
        """The amount in a header; ``None`` if it is not there, or no amount."""
        try:
            usd = float(self.headers.get(header or "", "nan"))
        except ValueError:
            return None
        return usd if 0 <= usd < float("inf") else None


async def post(
    client: openai.AsyncOpenAI,
    http: Http,
    path: str,
    body: Mapping[str, Json],
    files: Sequence[File],
    query: Mapping[str, str],
    prepared: MutableMapping[str, Built],
) -> Exchanged:
    """Send a request and read the whole answer.

    Args:
        client: The SDK's client.
        http: Sends it.
        path: Below the base URL.
        body: Fields.
        files: Files; none: the fields go as JSON.
        query: Parameters of the address.
        prepared: Path to the request that the SDK has built for it. Those that go as JSON differ
            in nothing but their body, and building each anew is a fifth of all that a call costs.

    Raises:
        ProviderError: Anything but a JSON object came.
    """
    options = _options(files, query)
    if files:
        form = client.post(path, cast_to=object, body=_form(body), files=files, options=options)
        reply = await (await built_by(form)).send(http)
    else:
        if path not in prepared:
            asked = client.post(path, cast_to=object, body={}, options=options)
            prepared[path] = await built_by(asked)
        reply = await prepared[path].send(http, json.dumps(body, allow_nan=False).encode("ascii"))
    return Exchanged(reply.json(), reply.headers)


async def stream(
    client: openai.AsyncOpenAI,
    http: Http,
    path: str,
    body: Mapping[str, Json],
    files: Sequence[File],
    query: Mapping[str, str],
    call: Call,
    listener: Listener,
) -> Exchanged:
    """Send a request and read its events: partial images, then the picture.

    Args:
        client: The SDK's client.
        http: Names what goes wrong.
        path: Below the base URL.
        body: Fields.
        files: Files; none: the fields go as JSON.
        query: Parameters of the address.
        call: What is asked.
        listener: Hears of every image.

    Raises:
        ProviderError: An error came, or no picture.
    """
    import openai

    try:
        events = await client.post(
            path,
            cast_to=object,
            body=_form(body) if files else body,
            files=list(files) or None,
            options=_options(files, query),
            stream=True,
            stream_cls=openai.AsyncStream[object],
        )
        headers = _lower(events.response.headers)
        extras: dict[str, bytes] = {}
        partial = body.get("partial_images")
        total = (partial if isinstance(partial, int) else 0) + 1
        async for event in events:
            if not isinstance(event, Mapping):
                continue
            kind, b64 = str(event.get("type", "")), event.get("b64_json")
            if kind.endswith(".partial_image") and isinstance(b64, str):
                if named := partial_file(len(extras), b64):
                    extras[named[0]] = named[1]
                    listener.progress(call, len(extras), total)
            elif kind.endswith(".completed"):
                listener.progress(call, total, total)
                reply = {name: event.get(name) for name in (*EFFECTIVE, "usage")}
                return Exchanged({**reply, "data": [{"b64_json": b64}]}, headers, extras)
    except openai.APIError as error:
        raise classify(http, error) from None
    raise bad_response("a stream that ended without the image", request_id(headers))


def _options(files: Sequence[File], query: Mapping[str, str]) -> RequestOptions:
    import openai

    headers: dict[str, str | openai.Omit] = dict.fromkeys(PER_REQUEST, openai.Omit())
    if files:
        headers["Content-Type"] = "multipart/form-data"
    # What is not said here the SDK would copy, deeply, from its defaults.
    return {
        "headers": headers,
        "params": query,
        "max_retries": 0,
        "timeout": None,  # the session has one
        "security": {"bearer_auth": True},
    }


def _form(body: Mapping[str, Json]) -> dict[str, Json]:
    return {name: json.dumps(held) if name in JSON_TEXT else held for name, held in body.items()}


def _lower(headers: httpx2.Headers) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}
