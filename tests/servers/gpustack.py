"""GPUStack 2.3 before SGLang and before vLLM-Omni: its own errors, its own label of answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from aiohttp import web

from tests.servers.compatible import SglangServer, VllmOmniServer
from tests.servers.images import Fault, ImagesServer
from tests.servers.loopback import Seen, Situation

MODEL = "qwen-image"


def refused(status: int, reason: str, message: str) -> Fault:
    """An error as GPUStack words it."""
    return status, {"code": status, "reason": reason, "message": message}


FAULTS: Mapping[str, Fault] = {
    "auth": refused(401, "Unauthorized", "Invalid authentication credentials"),
    "gone": (
        404,
        {"error": {"message": "Model not found", "type": "NotFound", "code": 404, "param": None}},
    ),
    "rate_limit": refused(429, "TooManyRequests", "Too many requests"),
    "invalid": refused(400, "BadRequest", "Missing 'model' field"),
    "server_error": refused(503, "ServiceUnavailable", "No running instances available"),
}


class Gateway(ImagesServer):
    """What GPUStack adds before an engine."""

    def rules(self, fields: Mapping[str, Any], seen: Seen) -> Iterator[str]:
        """A model must be named; of several files of one name the last is passed on."""
        if fields.get("model") != MODEL:
            yield f"the model came as {fields.get('model')!r}"
        names = [name for name, _ in seen.files]
        if len(names) != len(set(names)):
            yield f"several files of one name came: {names}"
        if "stream" in fields:
            yield "the engine behind it does not stream"

    async def answer(self, seen: Seen, situation: Situation) -> web.StreamResponse:
        """Answers are labelled as events, though they are JSON."""
        answer = await super().answer(seen, situation)
        if answer.status == 200:
            answer.content_type = "text/event-stream"
        return answer

    def headers(self, count: int) -> dict[str, str]:
        """Of a good answer."""
        return {"x-request-id": f"gpustack-{self.made}"}


class GPUStackSglangServer(Gateway, SglangServer):
    """A deployment on SGLang."""

    faults: ClassVar[Mapping[str, Fault]] = FAULTS


class GPUStackVllmServer(Gateway, VllmOmniServer):
    """A deployment on vLLM-Omni."""

    faults: ClassVar[Mapping[str, Fault]] = FAULTS
