"""Replicate's HTTP API as documented: predictions, files; strict about every model's input."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping
from typing import Any

from aiohttp import web
from PIL import Image

from tests.servers.jobs import Job, JobBoard, hosted
from tests.servers.loopback import RETRY_AFTER_S, Loopback, Seen, Situation
from tests.servers.strict import Bool, Int, Number, OneOf, Rule, Shape, Text

FILE = Text(
    longest=400_000, pattern=r"data:image/[a-z]+;base64,[A-Za-z0-9+/=]+|http://127.*/files/.*"
)
RATIOS = ("1:1", "16:9", "21:9", "3:2", "2:3", "4:5", "5:4", "3:4", "4:3", "9:16", "9:21")
COMMON: dict[str, Rule] = {
    "prompt": Text(),
    "seed": Int(0, 2**63 - 1),
    "output_format": OneOf(("webp", "jpg", "png")),
    "output_quality": Int(0, 100),
    "disable_safety_checker": Bool(),
}
DEV: dict[str, Rule] = {
    **COMMON,
    "num_outputs": Int(1, 4),
    "num_inference_steps": Int(1, 50),
    "guidance": Number(0, 100),
    "megapixels": OneOf(("1", "0.25", "match_input")),
}
MODELS: Mapping[str, Shape] = {
    "black-forest-labs/flux-dev": Shape(
        {
            **DEV,
            "aspect_ratio": OneOf(RATIOS),
            "go_fast": Bool(),
            "image": FILE,
            "prompt_strength": Number(0, 1),
        },
        required=("prompt",),
    ),
    "black-forest-labs/flux-1.1-pro": Shape(
        {
            **COMMON,
            "aspect_ratio": OneOf(("custom", *RATIOS)),
            "width": Int(256, 1440),
            "height": Int(256, 1440),
            "safety_tolerance": Int(1, 6),
            "prompt_upsampling": Bool(),
        },
        required=("prompt",),
    ),
    "black-forest-labs/flux-fill-pro": Shape(
        {
            "prompt": Text(),
            "seed": Int(0, 2**63 - 1),
            "image": FILE,
            "mask": FILE,
            "steps": Int(1, 50),
            "guidance": Number(2, 5),
            "output_format": OneOf(("jpg", "png")),
            "safety_tolerance": Int(1, 6),
            "prompt_upsampling": Bool(),
        },
        required=("prompt", "image"),
    ),
    "black-forest-labs/flux-canny-dev": Shape(
        {**DEV, "control_image": FILE}, required=("prompt", "control_image")
    ),
}
ROUTE = re.compile(r"/v1/models/([^/]+/[^/]+)/predictions")
ERRORS: Mapping[str, tuple[int, str, str]] = {
    "refused": (422, "Input flagged", "Input is flagged as sensitive. (E005)"),
    "rate_limit": (429, "Too many requests", "Request was throttled."),
    "no_credit": (402, "Insufficient credit", "You have insufficient credit to run this model."),
    "gone": (404, "Model not found", "The requested resource could not be found."),
    "invalid": (422, "Input validation failed", "- input.seed: must be an integer"),
    "server_error": (500, "Internal error", "Something went wrong."),
}


class ReplicateServer(Loopback):
    """``api.replicate.com``."""

    def __init__(self) -> None:
        super().__init__()
        self.board = JobBoard()
        self._made = 0

    def is_call(self, seen: Seen) -> bool:
        return seen.method == "POST" and seen.path.endswith("/predictions")

    async def answer(self, seen: Seen, situation: Situation) -> web.StreamResponse:
        if situation == "auth" or seen.headers.get("authorization") != f"Bearer {self.key}":
            if situation != "auth":
                self.problem(f"{seen.path}: the key is missing")
            return problem(401, "Unauthenticated", f"Invalid token {self.key}")
        if seen.method == "GET" and seen.path.startswith("/v1/predictions/"):
            return self._poll(seen.path.rpartition("/")[2])
        if seen.method == "POST" and seen.path == "/v1/files":
            return self._upload(seen)
        if seen.method == "POST" and (match := ROUTE.fullmatch(seen.path)):
            return self._create(seen, situation, match[1])
        if seen.method == "POST" and seen.path == "/v1/predictions":
            if not re.fullmatch(r"[0-9a-f]{64}", str(seen.json.get("version"))):
                self.problem(f"version is {seen.json.get('version')!r}")
            return self._create(seen, situation, "black-forest-labs/flux-dev")
        self.problem(f"{seen.method} {seen.path}: there is no such route")
        return problem(404, "Not found", "There is no such route.")

    def _create(self, seen: Seen, situation: Situation, model: str) -> web.Response:
        shape = MODELS.get(model)
        if shape is None:
            self.problem(f"{model}: there is no such model here")
            return problem(*ERRORS["gone"])
        body = seen.json if isinstance(seen.json, Mapping) else {}
        asked = body.get("input")
        found = list(shape.problems(asked))
        found += [f"{name} is no field" for name in body if name not in {"input", "version"}]
        if isinstance(asked, Mapping) and ("width" in asked) != (
            asked.get("aspect_ratio") == "custom"
        ):
            found.append("width and height belong to aspect_ratio=custom")
        if found:
            for text in found:
                self.problem(f"{model}: {text}")
            return problem(422, "Input validation failed", found[0])
        if situation in ERRORS:
            return problem(*ERRORS[situation])
        if "mask" in body["input"]:
            data = base64.b64decode(body["input"]["mask"].partition(",")[2])
            self.repainted.append(Image.open(io.BytesIO(data)).convert("L"))
        job = self.board.submit(situation, {**body["input"], "model": model})
        return web.json_response(self._shown(job, "starting"), status=201)

    def _shown(self, job: Job, status: str, **more: Any) -> dict[str, Any]:
        place = f"{self.base_url}/predictions/{job.id}"
        return {
            "id": job.id,
            "model": job.body["model"],
            "version": "hidden",
            "input": dict(job.body),
            "status": status,
            "output": None,
            "error": None,
            "logs": "",
            "urls": {"get": place, "cancel": f"{place}/cancel"},
            **more,
        }

    def _poll(self, name: str) -> web.Response:
        job = self.board.jobs.get(name)
        state = self.board.poll(job) if job else "unknown"
        if state == "limited":
            return problem(*ERRORS["rate_limit"])
        if state == "broken":
            return problem(*ERRORS["server_error"])
        if job is None or state == "unknown":
            return problem(404, "Not found", "The requested resource could not be found.")
        if state in {"running", "odd"}:
            return web.json_response(
                self._shown(job, "processing" if state == "running" else "dreaming")
            )
        if state == "failed":
            return web.json_response(self._shown(job, "failed", error="CUDA out of memory"))
        if state == "refused":
            error = "NSFW content detected. Try running it again, or try a different prompt."
            return web.json_response(self._shown(job, "failed", error=error))
        job.result = job.result or self._outputs(job)
        return web.json_response(
            self._shown(
                job, "succeeded", output=job.result, metrics={"predict_time": 1.5, "image_count": 1}
            )
        )

    def _outputs(self, job: Job) -> Any:
        if job.situation == "text":
            return {"caption": "I would rather not."}
        outputs: list[str | None] = []
        count = job.body.get("num_outputs", 1) - (job.situation == "partial")
        for _ in range(0 if job.situation == "empty" else count):
            self._made += 1
            outputs.append(hosted(self, job.situation, self._made))
        return outputs if "num_outputs" in job.body else (outputs or [None])[0]

    def _upload(self, seen: Seen) -> web.Response:
        files = dict(seen.files)
        if list(files) != ["content"] or seen.fields:
            self.problem(f"the upload has {sorted(files)} and {seen.fields}")
        name = f"upload-{len(self.files)}.png"
        url = self.host_file(name, files["content"].data)
        return web.json_response({"id": name, "urls": {"get": url}}, status=201)


def problem(status: int, title: str, detail: str) -> web.Response:
    """An error in Replicate's shape."""
    headers = {"Retry-After": str(RETRY_AFTER_S)} if status == 429 else {}
    body = {"title": title, "detail": detail, "status": status}
    return web.json_response(body, status=status, headers=headers)
