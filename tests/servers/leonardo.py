"""Leonardo's REST API v1 as documented: generations, uploads by presigned forms, the storage."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

from aiohttp import web
from PIL import Image

from runner.providers.leonardo_options import PRESET_STYLES
from tests.servers.jobs import Job, JobBoard, hosted
from tests.servers.loopback import RETRY_AFTER_S, Loopback, Seen, Situation
from tests.servers.strict import Bool, Int, ListOf, Number, OneOf, Shape, Text

UUID = Text(pattern=r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
UPLOADED = Text(pattern=r"upload-\d+")
CREATE = Shape(
    {
        "prompt": Text(longest=1500, shortest=1),
        "negative_prompt": Text(longest=1000),
        "modelId": UUID,
        "width": Int(32, 1920),
        "height": Int(32, 1920),
        "num_images": Int(1, 8),
        "num_inference_steps": Int(10, 60),
        "guidance_scale": Number(1, 20),
        "seed": Int(0, 9_999_999_998),
        "scheduler": OneOf(("KLMS", "EULER_DISCRETE", "DDIM", "LEONARDO")),
        "presetStyle": OneOf(PRESET_STYLES),
        "styleUUID": UUID,
        "contrast": OneOf((1.0, 1.3, 1.8, 2.5, 3.0, 3.5, 4.0, 4.5)),
        "contrastRatio": Number(0, 1),
        "alchemy": Bool(),
        "ultra": Bool(),
        "photoReal": Bool(),
        "photoRealVersion": OneOf(("v1", "v2")),
        "photoRealStrength": OneOf((0.55, 0.5, 0.45)),
        "promptMagic": Bool(),
        "promptMagicVersion": OneOf(("v2", "v3")),
        "promptMagicStrength": Number(0.1, 1),
        "highContrast": Bool(),
        "highResolution": Bool(),
        "expandedDomain": Bool(),
        "enhancePrompt": Bool(),
        "enhancePromptInstruction": Text(),
        "tiling": Bool(),
        "transparency": OneOf(("disabled", "foreground_only")),
        "public": Bool(),
        "init_image_id": UPLOADED,
        "init_strength": Number(0.1, 0.9),
        "canvasRequest": Bool(),
        "canvasRequestType": OneOf(("INPAINT", "OUTPAINT", "SKETCH2IMG", "IMG2IMG")),
        "canvasInitId": UPLOADED,
        "canvasMaskId": UPLOADED,
        "elements": ListOf(
            Shape({"akUUID": Text(), "weight": Number(-1, 2)}, required=("akUUID",))
        ),
        "userElements": ListOf(Shape({"userLoraId": Int(1, 2**31), "weight": Number(-1, 2)})),
        "controlnets": ListOf(
            Shape(
                {
                    "initImageId": UPLOADED,
                    "initImageType": OneOf(("UPLOADED", "GENERATED")),
                    "preprocessorId": Int(1, 500),
                    "strengthType": OneOf(("Low", "Mid", "High", "Ultra", "Max")),
                    "weight": Number(0, 2),
                },
                required=("initImageId", "initImageType", "preprocessorId"),
            ),
            most=4,
        ),
    },
    required=("prompt", "modelId", "num_images", "width", "height"),
)
EXTENSION = OneOf(("png", "jpg", "jpeg", "webp"))
INIT = Shape({"extension": EXTENSION}, required=("extension",))
CANVAS = Shape(
    {"initExtension": EXTENSION, "maskExtension": EXTENSION},
    required=("initExtension", "maskExtension"),
)
ERRORS: Mapping[str, tuple[int, str]] = {
    "refused": (403, "The prompt was blocked by content moderation"),
    "rate_limit": (429, "Too many requests"),
    "no_credit": (400, "not enough api tokens userId: 3aa5736c"),
    "gone": (404, "model not found"),
    "invalid": (400, "Invalid value for num_inference_steps"),
    "server_error": (500, "Internal error"),
}
COST_USD = 0.012


class LeonardoServer(Loopback):
    """The API, and under ``/storage/`` the host that takes uploads."""

    prefix = "/api/rest/v1"

    def __init__(self) -> None:
        super().__init__()
        self.board = JobBoard()
        self.uploads: dict[str, bytes] = {}
        self._forms: set[str] = set()
        self._made = 0

    def is_call(self, seen: Seen) -> bool:
        return seen.path == "/api/rest/v1/generations"

    async def answer(self, seen: Seen, situation: Situation) -> web.StreamResponse:
        if seen.path == "/storage":
            return self._take_upload(seen)
        if situation == "auth" or seen.headers.get("authorization") != f"Bearer {self.key}":
            if situation != "auth":
                self.problem(f"{seen.path}: the key is missing")
            return problem(401, f"Authentication failed for {self.key}")
        route = seen.path.removeprefix("/api/rest/v1")
        if seen.method == "GET" and route.startswith("/generations/"):
            return self._poll(route.removeprefix("/generations/"))
        if seen.method == "POST" and route == "/init-image":
            return self._init(seen)
        if seen.method == "POST" and route == "/canvas-init-image":
            return self._canvas(seen)
        if seen.method == "POST" and route == "/generations":
            return self._create(seen, situation)
        self.problem(f"{seen.method} {seen.path}: there is no such route")
        return problem(404, "not found")

    def _create(self, seen: Seen, situation: Situation) -> web.Response:
        found = list(CREATE.problems(seen.json))
        body = seen.json if isinstance(seen.json, Mapping) else {}
        if body.get("num_images", 1) > 4 and max(body.get("width", 0), body.get("height", 0)) > 768:
            found.append("num_images must be 1 to 4 where a side is over 768")
        if body.get("width", 0) % 8 or body.get("height", 0) % 8:
            found.append("sides must be multiples of 8")
        if "presetStyle" in body and "styleUUID" in body:
            found.append("one of presetStyle and styleUUID")
        named = [body.get(key) for key in ("init_image_id", "canvasInitId", "canvasMaskId")]
        guides = body.get("controlnets", [])
        for upload in [*named, *(guide.get("initImageId") for guide in guides)]:
            if upload is not None and upload not in self.uploads:
                found.append(f"{upload} was never uploaded")
        for guide in guides:
            if "weight" in guide and "strengthType" in guide:
                found.append("a guide has weight or strengthType, not both")
        if found:
            for text in found:
                self.problem(f"{seen.path}: {text}")
            return problem(400, found[0])
        if situation in ERRORS:
            return problem(*ERRORS[situation])
        if "canvasMaskId" in body:
            mask = Image.open(io.BytesIO(self.uploads[body["canvasMaskId"]]))
            self.repainted.append(mask.convert("L"))
        job = self.board.submit(situation, body)
        cost = {"amount": f"{COST_USD * body['num_images']:.4f}", "unit": "DOLLARS"}
        made = {"generationId": job.id, "apiCreditCost": 8, "cost": cost}
        return web.json_response({"sdGenerationJob": made})

    def _poll(self, name: str) -> web.Response:
        job = self.board.jobs.get(name)
        state = self.board.poll(job) if job else "unknown"
        if state == "limited":
            return problem(429, "Too many requests")
        if state == "broken":
            return problem(500, "Internal error")
        if job is None or state == "unknown":
            return web.json_response({"generations_by_pk": None})
        words = {"running": "PENDING", "odd": "DREAMING", "failed": "FAILED"}
        body: dict[str, Any] = {
            "id": job.id,
            "status": words.get(state, "COMPLETE"),
            "modelId": job.body["modelId"],
            "seed": job.body.get("seed", 4711),
            "imageWidth": job.body["width"],
            "imageHeight": job.body["height"],
            "generated_images": [],
        }
        if state == "refused":
            body["generated_images"] = [{"id": "i", "url": None, "nsfw": True}]
        elif state == "done":
            job.result = job.result or self._images(job)
            body["generated_images"] = job.result
        return web.json_response({"generations_by_pk": body})

    def _images(self, job: Job) -> list[dict[str, Any]]:
        if job.situation == "empty":
            return []
        if job.situation == "text":
            return [{"id": "i", "url": None, "nsfw": False}]
        images = []
        for _ in range(job.body["num_images"] - (job.situation == "partial")):
            self._made += 1
            url = hosted(self, job.situation, self._made)
            images.append({"id": f"image-{self._made}", "url": url, "nsfw": False})
        return images

    def _init(self, seen: Seen) -> web.Response:
        for text in INIT.problems(seen.json):
            self.problem(f"{seen.path}: {text}")
        upload, place = self._place()
        return web.json_response({"uploadInitImage": {"id": upload, **place}})

    def _canvas(self, seen: Seen) -> web.Response:
        for text in CANVAS.problems(seen.json):
            self.problem(f"{seen.path}: {text}")
        (image, first), (mask, second) = self._place(), self._place()
        body = {
            "initImageId": image,
            "initUrl": first["url"],
            "initFields": first["fields"],
            "initKey": first["key"],
            "maskImageId": mask,
            "maskUrl": second["url"],
            "maskFields": second["fields"],
            "maskKey": second["key"],
        }
        return web.json_response({"uploadCanvasInitImage": body})

    def _place(self) -> tuple[str, dict[str, str]]:
        upload = f"upload-{len(self._forms) + 1}"
        self._forms.add(upload)
        fields = {"Content-Type": "image/png", "key": upload, "policy": "signed"}
        url = self.base_url.replace(self.prefix, "/storage")
        return upload, {"url": url, "fields": json.dumps(fields), "key": upload}

    def _take_upload(self, seen: Seen) -> web.Response:
        fields, files = dict(seen.fields), dict(seen.files)
        if "authorization" in seen.headers or self.key in str(seen):
            self.problem("the key was sent to the storage")
        if set(fields) != {"Content-Type", "key", "policy"} or list(files) != ["file"]:
            self.problem(f"the upload has {sorted(fields)} and {sorted(files)}")
        if fields.get("key") not in self._forms:
            return web.Response(status=403)
        self.uploads[fields["key"]] = files["file"].data
        return web.Response(status=204)


def problem(status: int, message: str) -> web.Response:
    """An error in Leonardo's shape."""
    headers = {"Retry-After": str(RETRY_AFTER_S)} if status == 429 else {}
    body = {"error": message, "path": "$", "code": "unexpected"}
    return web.json_response(body, status=status, headers=headers)
