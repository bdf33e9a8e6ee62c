"""Hugging Face's router, a dedicated endpoint and the Hub's list of who serves what, strictly.

Faithful to the routes and bodies that huggingface_hub 2.4.0 writes for each Inference Provider.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from tests.servers.jobs import Job, JobBoard, hosted
from tests.servers.loopback import (
    RETRY_AFTER_S,
    Loopback,
    Seen,
    Situation,
    image_base64,
    image_bytes,
)
from tests.servers.strict import Int, ListOf, Number, OneOf, Rule, Shape, Text

MODEL = "black-forest-labs/FLUX.1-schnell"
EDITOR = "black-forest-labs/FLUX.1-Kontext-dev"
SIDE, SEED = Int(64, 4096), Int(0, 2**32 - 1)
SERVED: Mapping[str, str] = {
    "fal-ai": "fal-ai/flux/schnell",
    "nscale": "black-forest-labs/FLUX.1-schnell",
    "replicate": "black-forest-labs/flux-schnell",
    "together": "black-forest-labs/FLUX.1-schnell",
    "wavespeed": "wavespeed-ai/flux-schnell",
    "zai-org": "cogview-4",
}
EDITED: Mapping[str, str] = {"fal-ai": "fal-ai/flux-kontext/dev"}
DIFFUSERS: Mapping[str, Rule] = {
    "negative_prompt": Text(),
    "num_inference_steps": Int(1, 500),
    "guidance_scale": Number(0, 100),
    "seed": SEED,
    "scheduler": Text(),
    "strength": Number(0, 1),
    "width": SIDE,
    "height": SIDE,
    "prompt": Text(),
    "target_size": Shape({"width": SIDE, "height": SIDE}, required=("width", "height")),
}
RAW = Shape({"inputs": Text(longest=10_000_000), "parameters": Shape(dict(DIFFUSERS))}, ("inputs",))
PICTURE_URL = Text(longest=10_000_000, pattern="data:image/(png|jpeg|webp);base64,.*")
COMMON = {"num_inference_steps": Int(1, 50), "guidance_scale": Number(0, 20), "seed": SEED}
BODIES: Mapping[str, Shape] = {
    "together": Shape(
        {
            "prompt": Text(),
            "model": OneOf((SERVED["together"],)),
            "response_format": OneOf(("base64",)),
            "steps": Int(1, 50),
            "width": SIDE,
            "height": SIDE,
            "seed": SEED,
        },
        required=("prompt", "model", "response_format"),
    ),
    "nscale": Shape(
        {
            "prompt": Text(),
            "model": OneOf((SERVED["nscale"],)),
            "response_format": OneOf(("b64_json",)),
            "size": Text(pattern=r"\d+x\d+"),
            "seed": SEED,
        },
        required=("prompt", "model"),
    ),
    "fal-ai": Shape(
        {
            "prompt": Text(),
            "image_size": Shape({"width": SIDE, "height": SIDE}),
            "image_url": PICTURE_URL,
            "image_urls": ListOf(PICTURE_URL, 1, 1),
            **COMMON,
        },
        required=("prompt",),
    ),
    "replicate": Shape(
        {"input": Shape({"prompt": Text(), "width": SIDE, "height": SIDE, **COMMON}, ("prompt",))},
        required=("input",),
    ),
    "wavespeed": Shape({"prompt": Text(), "width": SIDE, "height": SIDE, **COMMON}, ("prompt",)),
    "zai-org": Shape(
        {"prompt": Text(), "model": OneOf(("cogview-4",)), "size": Text(pattern=r"\d+x\d+")},
        required=("prompt", "model"),
    ),
}
ERRORS: Mapping[str, tuple[int, str]] = {
    "rate_limit": (429, "Too many requests."),
    "no_credit": (402, "You have exceeded your monthly included credits."),
    "gone": (404, "Not Found"),
    "invalid": (422, "num_inference_steps is too large."),
    "server_error": (500, "Internal Server Error"),
    "refused": (422, "The content was flagged by a content checker."),
}


class HuggingFaceServer(Loopback):
    """Every route below one address; downloads and the Hub need no token."""

    prefix = ""

    def __init__(self) -> None:
        super().__init__()
        self.board = JobBoard()
        self.made = 0

    def is_call(self, seen: Seen) -> bool:
        return seen.method == "POST"

    async def answer(self, seen: Seen, situation: Situation) -> web.StreamResponse:
        if seen.path.startswith("/api/models/"):
            return self.hub(seen)
        if situation == "auth":
            return web.json_response({"error": f"Invalid token {self.key}"}, status=401)
        if seen.path.startswith("/open/"):
            if "authorization" in seen.headers:
                self.problem("a token was sent to an open endpoint")
        elif seen.headers.get("authorization") != f"Bearer {self.key}":
            self.problem(f"{seen.path}: the token is missing")
        if seen.method == "GET":
            return self.poll(seen)
        if situation in ERRORS:
            status, message = ERRORS[situation]
            headers = {"Retry-After": str(RETRY_AFTER_S), "x-request-id": "failed"}
            return web.json_response({"error": message}, status=status, headers=headers)
        route, _, rest = seen.path[1:].partition("/")
        if route in {"hf-inference", "my", "open"}:
            return self.raw(seen, rest, situation)
        return self.routed(seen, route, rest, situation)

    def hub(self, seen: Seen) -> web.Response:
        """Who serves a model."""
        if "authorization" in seen.headers:
            self.problem("the token was sent to the Hub")
        if dict(seen.query) != {"expand": "inferenceProviderMapping"}:
            self.problem(f"query {dict(seen.query)}")
        name = seen.path.removeprefix("/api/models/")
        served, task = {MODEL: (SERVED, "text-to-image"), EDITOR: (EDITED, "image-to-image")}.get(
            name, ({}, "")
        )
        if not served:
            return web.json_response({"error": "Repository not found"}, status=404)
        mapping = {
            route: {"providerId": own, "status": "live", "task": task}
            for route, own in served.items()
        }
        return web.json_response({"id": name, "inferenceProviderMapping": mapping})

    def raw(self, seen: Seen, rest: str, situation: Situation) -> web.Response:
        """An answer that is the picture itself."""
        if seen.path.startswith("/hf-inference") and rest != f"models/{MODEL}":
            return web.json_response({"error": "Not Found"}, status=404)
        for problem in RAW.problems(seen.json):
            self.problem(problem)
        mime = seen.headers.get("accept", "")
        if mime not in {"image/png", "image/jpeg", "image/webp"}:
            self.problem(f"accept is {mime!r}")
        headers = {"x-request-id": f"hf-{len(self.requests)}"}
        if situation == "text":
            return web.json_response({"note": "I would rather not."}, headers=headers)
        self.made += 1
        data = b"" if situation == "empty" else image_bytes(situation, self.made, mime[6:].upper())
        if situation == "bad_base64":
            data = b"!!! noise !!!"
        return web.Response(body=data, content_type=mime, headers=headers)

    def routed(self, seen: Seen, route: str, rest: str, situation: Situation) -> web.Response:
        """An Inference Provider."""
        queued = seen.query.get("_subdomain") == "queue"
        own = (EDITED if queued else SERVED).get(route)
        expected = {
            "together": "v1/images/generations",
            "nscale": "v1/images/generations",
            "fal-ai": own,
            "replicate": f"v1/models/{own}/predictions",
            "wavespeed": f"api/v3/{own}",
            "zai-org": "api/paas/v4/async/images/generations",
        }.get(route)
        if rest != expected or own is None:
            self.problem(f"POST {seen.path} is no route of this API")
            return web.json_response({"error": "Not Found"}, status=404)
        for problem in BODIES[route].problems(seen.json):
            self.problem(problem)
        headers = {"x-request-id": f"routed-{len(self.requests)}"}
        if route in {"together", "nscale"}:
            self.made += 1
            data = [{"b64_json": image_base64(situation, self.made)}]
            return web.json_response({"data": data}, headers=headers)
        if route == "fal-ai" and not queued:
            self.made += 1
            body = {
                "images": [{"url": hosted(self, situation, self.made)}],
                "seed": seen.json.get("seed", 99),
                "has_nsfw_concepts": [situation == "refused_late"],
            }
            return web.json_response(body, headers=headers)
        if route == "replicate" and seen.headers.get("prefer") != "wait":
            self.problem("Prefer is missing")
        return self.submitted(route, self.board.submit(situation, seen.json))

    def submitted(self, route: str, job: Job) -> web.Response:
        """A job that was taken."""
        if route == "fal-ai":
            place = f"https://queue.fal.run/fal-ai/flux-kontext/requests/{job.id}"
            body: dict[str, Any] = {
                "request_id": job.id,
                "response_url": place,
                "status": "IN_QUEUE",
            }
        elif route == "replicate":
            get = f"https://api.replicate.com/v1/predictions/{job.id}"
            body = {"id": job.id, "status": "starting", "output": None, "urls": {"get": get}}
        elif route == "wavespeed":
            get = f"https://api.wavespeed.ai/api/v3/predictions/{job.id}/result"
            body = {"data": {"id": job.id, "status": "created", "urls": {"get": get}}}
        else:
            body = {"id": job.id, "task_status": "PROCESSING"}
        return web.json_response(body)

    def poll(self, seen: Seen) -> web.Response:
        """What has become of a job."""
        found = re.fullmatch(
            r"/(?:(fal-ai)/fal-ai/flux-kontext/requests|(replicate)/v1/predictions"
            r"|(wavespeed)/api/v3/predictions|(zai-org)/api/paas/v4/async-result)"
            r"/([^/]+)(?:/(status|result))?",
            seen.path,
        )
        if found is None:
            self.problem(f"GET {seen.path} is no route of this API")
            return web.json_response({"error": "Not Found"}, status=404)
        route = next(name for name in found.groups()[:4] if name)
        job = self.board.jobs.get(found[5])
        if job is None:
            return web.json_response({"error": "Not Found"}, status=404)
        if route == "fal-ai" and found[6] is None:
            return web.json_response(self.result(route, job))
        state = self.board.poll(job)
        if state in {"unknown", "limited", "broken"}:
            status = {"unknown": 404, "limited": 429, "broken": 500}[state]
            return web.json_response({"error": state}, status=status)
        return web.json_response(self.polled(route, job, state))

    def polled(self, route: str, job: Job, state: str) -> dict[str, Any]:
        """A status, in the words of one provider."""
        said = {"refused": "NSFW content detected", "failed": "out of memory"}.get(state)
        if route == "fal-ai":
            return {"status": {"done": "COMPLETED"}.get(state, "IN_PROGRESS")}
        if route == "zai-org":
            word = {"done": "SUCCESS", "failed": "FAIL", "refused": "FAIL", "odd": "WARMING"}
            done = self.result(route, job) if state == "done" else {"error": said}
            return {"id": job.id, "task_status": word.get(state, "PROCESSING"), **done}
        ended = {"replicate": "succeeded", "wavespeed": "completed"}[route]
        word = {"done": ended, "failed": "failed", "refused": "failed", "odd": "warming"}
        status = {"status": word.get(state, "processing"), "error": said}
        if state == "done":
            status |= self.result(route, job)
        return {"data": status} if route == "wavespeed" else {"id": job.id, **status}

    def result(self, route: str, job: Job) -> dict[str, Any]:
        """The pictures of a job, made once."""
        if job.result is None:
            self.made += 1
            job.result = (
                []
                if job.situation in {"empty", "text"}
                else [hosted(self, job.situation, self.made)]
            )
        if route == "fal-ai":
            return {"images": [{"url": url} for url in job.result]}
        if route == "zai-org":
            return {"image_result": [{"url": url} for url in job.result]}
        return {"output" if route == "replicate" else "outputs": job.result}


def sent_image(seen: Seen) -> bytes:
    """The input image of a request with a raw answer."""
    held = json.loads(seen.body)["inputs"]
    return base64.b64decode(held)
