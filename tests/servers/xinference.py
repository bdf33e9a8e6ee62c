"""Xinference's image routes as its server checks them: JSON or forms, kwargs inside a text."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from typing import Any

from aiohttp import web
from PIL import Image

from tests.servers.loopback import RETRY_AFTER_S, Loopback, Seen, Situation, Upload, image_base64
from tests.servers.strict import Bool, Int, ListOf, Number, OneOf, Shape, Text

LAUNCHED = {
    "sd3.5-medium": ("text2image", "image2image", "inpainting"),
    "stable-diffusion-v1.5": ("text2image", "image2image"),
    "Qwen-Image-Edit-2511": ("image2image",),
}
"""Uid to abilities."""
SAMPLERS = ("default", "DPM++ 2M", "DPM++ 2M Karras", "Euler", "Euler a", "Heun")
COMMON: dict[str, Any] = {
    "model": Text(),
    "prompt": Text(),
    "n": Int(1, 16),
    "size": Text(pattern=r"\d+\*\d+"),
    "response_format": OneOf(("b64_json",)),  # "url" is a path on the server's own disk
    "kwargs": Text(),
}
GENERATE = Shape(
    {**COMMON, "user": Text()}, required=("model", "prompt", "n", "response_format", "kwargs")
)
VARY = Shape({**COMMON, "negative_prompt": Text()}, required=("model", "image", "response_format"))
INPAINT = Shape(
    {**COMMON, "negative_prompt": Text()},
    required=("model", "image", "mask_image", "response_format"),
)
KWARGS: dict[str, Any] = {
    "request_id": Text(shortest=8),
    "num_inference_steps": Int(1, 1000),
    "guidance_scale": Number(0, 100),
    "true_cfg_scale": Number(0, 100),
    "clip_skip": Int(0, 12),
    "sampler_name": OneOf(SAMPLERS),
    "x_extra": Int(17, 17),
}
BESIDE_IMAGES: dict[str, Any] = {
    **KWARGS,
    "strength": Number(0, 1),
    "padding_image_to_multiple": Int(1, 1024),
    "controlnet_conditioning_scale": Number(0, 10),
}
ROUTES = {
    "/v1/images/generations": (GENERATE, {**KWARGS, "negative_prompt": Text()}),
    "/v1/images/variations": (VARY, BESIDE_IMAGES),
    "/v1/images/inpainting": (INPAINT, {**BESIDE_IMAGES, "mask_blur": Int(0, 100)}),
}
UNIT = Shape(
    {
        "enabled": Bool(),
        "image": Text(pattern=r"data:image/[a-z]+;base64,.+", longest=1_000_000),
        "model": OneOf(("canny", "openpose")),
        "module": OneOf(("none", "canny")),
        "weight": Number(0, 2),
    },
    required=("image", "model"),
)
SDAPI = Shape(
    {
        "model": Text(),
        "prompt": Text(),
        "negative_prompt": Text(),
        "steps": Int(1, 1000),
        "seed": Int(-1, 2**31 - 1),
        "batch_size": Int(1, 16),
        "cfg_scale": Number(0, 100),
        "width": Int(8, 4096),
        "height": Int(8, 4096),
        "sampler_name": OneOf(SAMPLERS),
        "request_id": Text(shortest=8),
        "alwayson_scripts": Shape(
            {"ControlNet": Shape({"args": ListOf(UNIT, 1, 4)}, required=("args",))}
        ),
    },
    required=("model", "width", "height", "alwayson_scripts"),  # else 512x512, and no control
)
ERRORS: Mapping[Situation, tuple[int, str]] = {
    "rate_limit": (429, "Rate limit reached for the model. Request limit 1 for the model: x"),
    "gone": (400, "Model not found in the model list, uid: sd3.5-medium"),
    "invalid": (400, "[address=127.0.0.1:1, pid=7] Expected at most 1 image seeds, got 2"),
    "server_error": (500, "[address=127.0.0.1:1, pid=7] CUDA error"),
}


class XinferenceServer(Loopback):
    """Generations, variations, inpainting, ControlNets by name and the progress of a request.

    Attributes:
        open_to_all: The server was started without authentication.
        seed_lists: It is new enough to take one seed per image.
        share: What it says of the progress.
    """

    def __init__(self) -> None:
        super().__init__()
        self.open_to_all = False
        self.seed_lists = True
        self.share: Any = 0.5
        self._made = 0

    def is_call(self, seen: Seen) -> bool:
        """Not the questions about progress."""
        return seen.path.startswith(("/v1/images/", "/sdapi/"))

    async def answer(self, seen: Seen, situation: Situation) -> web.StreamResponse:
        """Check as FastAPI and the model actor do, then answer in the situation's shape."""
        given = seen.headers.get("authorization", "")
        if self.open_to_all and given:
            self.problem(f"{seen.path}: a key was sent to a server that has none")
        if not self.open_to_all and (given != f"Bearer {self.key}" or situation == "auth"):
            if situation != "auth":
                self.problem(f"{seen.path}: the key came as {given!r}")
            return detail(401, f"Could not validate credentials {self.key}")
        if seen.path.startswith("/v1/requests/") and seen.path.endswith("/progress"):
            if self.share is None:
                return detail(400, "'unknown request'")
            return web.json_response({"progress": self.share, "eta_seconds": 3})
        if seen.path == "/sdapi/v1/txt2img":
            for text in SDAPI.problems(seen.json):
                self.problem(f"{seen.path}: {text}")
            self._made += 1
            texts = [image_base64("ok", 29 * self._made)]
            return web.json_response({"images": texts, "info": {}, "parameters": {}})
        if seen.method != "POST" or seen.path not in ROUTES:
            self.problem(f"{seen.method} {seen.path}: there is no such route")
            return detail(404, "Not Found")
        fields = dict(seen.fields) if seen.fields else seen.json
        problems = list(self._problems(seen, fields))
        for text in problems:
            self.problem(f"{seen.path}: {text}")
        if problems:
            return detail(422, problems[0])
        for name, upload in seen.files:
            if name == "mask_image":
                self.repainted.append(opened(upload).convert("L"))  # white is repainted
        if situation in ERRORS:
            return detail(*ERRORS[situation])
        return self._images(int(fields["n"]), situation)

    def _problems(self, seen: Seen, fields: Mapping[str, Any]) -> Iterator[str]:
        shape, kwargs_rules = ROUTES[seen.path]
        files = [name for name, _ in seen.files]
        if seen.path == "/v1/images/generations":
            yield from shape.problems(seen.json)
        else:
            yield from shape.form_problems(seen.fields, files)
            allowed = {"image", "mask_image"} if seen.path.endswith("inpainting") else {"image"}
            for name in set(files) - allowed:
                yield f"{name} is not a file field of this API"
        try:
            kwargs = json.loads(fields.get("kwargs") or "{}")
        except ValueError:
            yield "kwargs is no JSON"
            return
        count = int(fields.get("n", 1))
        seed = (
            ListOf(Int(0, 2**31 - 1), least=count, most=count)
            if count > 1 and self.seed_lists
            else Int(0, 2**31 - 1)
        )
        for text in Shape({**kwargs_rules, "seed": seed}).problems(kwargs):
            yield f"kwargs.{text}"
        ability = {
            "/v1/images/generations": "text2image",
            "/v1/images/variations": "image2image",
            "/v1/images/inpainting": "inpainting",
        }[seen.path]
        if ability not in LAUNCHED.get(str(fields.get("model")), ()):
            yield f"{fields.get('model')} does not support {ability}"
        uploads = dict(seen.files)
        if "mask_image" in uploads:
            mask, image = opened(uploads["mask_image"]), opened(uploads["image"])
            if mask.size != image.size or mask.mode != "L":
                yield f"the mask is {mask.size} {mask.mode}, the image {image.size}"

    def _images(self, count: int, situation: Situation) -> web.Response:
        items: list[dict[str, Any]] = []
        for _ in range(count - (situation == "partial")):
            self._made += 1
            # JPEG, whatever was hoped for.
            kind = "PNG" if situation == "mislabelled" else "JPEG"
            # Colors that JPEG still tells apart.
            text = image_base64(situation, 29 * self._made, kind)
            items.append({"url": None, "b64_json": text})
        if situation == "text":
            items = [{"url": None, "b64_json": None}]
        body = {"created": 1_790_000_000, "data": [] if situation == "empty" else items}
        return web.json_response(body)


def detail(status: int, text: str) -> web.Response:
    """An error in FastAPI's shape; a model that is loading says when to come back."""
    headers = {"Retry-After": str(RETRY_AFTER_S)} if status == 503 else {}
    return web.json_response({"detail": text}, status=status, headers=headers)


def opened(upload: Upload) -> Image.Image:
    """The picture of an upload."""
    image = Image.open(io.BytesIO(upload.data))
    image.load()
    return image
