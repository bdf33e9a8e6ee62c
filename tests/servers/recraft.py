"""Recraft's API as documented: which model takes what, masks of two values, prices in units."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator, Mapping
from typing import Any

from aiohttp import web
from PIL import Image

from tests.servers.loopback import (
    RETRY_AFTER_S,
    Loopback,
    Seen,
    Situation,
    image_base64,
    picture,
)
from tests.servers.strict import Bool, Int, ListOf, Number, OneOf, Shape, Text

RATIOS = (
    *("1:1", "2:1", "1:2", "3:2", "2:3", "4:3", "3:4"),
    *("5:4", "4:5", "6:10", "14:10", "10:14", "16:9", "9:16"),
)
SIZES_1K = (
    *("1024x1024", "1536x768", "768x1536", "1280x832", "832x1280", "1216x896", "896x1216"),
    *("1152x896", "896x1152", "832x1344", "1280x896", "896x1280", "1344x768", "768x1344"),
)
SIZES_2K = tuple("x".join(str(2 * int(side)) for side in size.split("x")) for size in SIZES_1K)
SIZES_V3 = (
    *("1024x1024", "1365x1024", "1024x1365", "1536x1024", "1024x1536", "1820x1024", "1024x1820"),
    *("1024x2048", "2048x1024", "1434x1024", "1024x1434", "1024x1280", "1280x1024", "1024x1707"),
    "1707x1024",
)
MODEL = re.compile(
    r"recraft(?P<family>v4_1|v4_styles|v4|v3|v2)(?P<tier>_flash|_utility)?(?P<pro>_pro)?(?P<v>_vector)?"
)
UUID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
DATA_URL = Text(pattern=r"data:image/[a-z+]+;base64,.+", longest=20_000_000)
COLOR = Shape({"rgb": ListOf(Int(0, 255), 3, 3), "weight": Number(0, 1)}, required=("rgb",))
POINT = ListOf(Number(-10, 10), 2, 2)
CONTROLS = Shape(
    {
        "colors": ListOf(COLOR),
        "background_color": COLOR,
        "artistic_level": Int(0, 5),
        "no_text": Bool(),
    }
)
LOOK: dict[str, Any] = {
    "prompt": Text(shortest=1, longest=10_000),
    "model": Text(pattern=MODEL.pattern),
    "n": Int(1, 6),
    "response_format": OneOf(("b64_json", "url")),
    "image_format": OneOf(("png", "webp")),
    "style": Text(shortest=1),
    "substyle": Text(shortest=1),
    "style_id": Text(pattern=UUID),
    "style_reference_urls": ListOf(DATA_URL, 1, 10),
    "style_match": OneOf(("precise", "flexible")),
    "negative_prompt": Text(),
    "text_layout": ListOf(
        Shape({"text": Text(), "bbox": ListOf(POINT, 4, 4)}, required=("text", "bbox"))
    ),
    "block_nsfw": Bool(),
    "expire": Bool(),
    "x_extra": Int(17, 17),
}
SEED, CONTROLLED = {"random_seed": Int(0, 2**32 - 1)}, {"controls": CONTROLS}
SIZE = {"size": Text(pattern=r"\d+x\d+|\d+:\d+")}
IMAGE, MASK = {"image_url": DATA_URL}, {"mask_url": DATA_URL}
OUT = {f"expand_{side}": Int(0, 4096) for side in ("left", "right", "top", "bottom")}
TOOL = {"response_format": OneOf(("b64_json", "url"))}
V3 = frozenset({"v3"})
ROUTES: Mapping[str, tuple[Shape, frozenset[str] | None]] = {
    "generations": (
        Shape({**LOOK, **SIZE, **SEED, **CONTROLLED}, ("prompt", "model", "n")),
        frozenset({"v2", "v3", "v4", "v4_1", "v4_styles"}),
    ),
    "imageToImage": (
        Shape(
            {**LOOK, **SEED, **CONTROLLED, **IMAGE, "strength": Number(0, 1)},
            ("prompt", "image_url", "strength"),
        ),
        frozenset({"v3", "v4", "v4_1"}),
    ),
    "inpaint": (Shape({**LOOK, **IMAGE, **MASK}, ("prompt", "image_url", "mask_url")), V3),
    "outpaint": (
        Shape(
            {**LOOK, **IMAGE, **SIZE, **OUT, "zoom_out_percentage": Number(0, 99.999)},
            ("prompt", "image_url"),
        ),
        V3,
    ),
    "replaceBackground": (Shape({**LOOK, **IMAGE}, ("prompt", "image_url")), V3),
    "generateBackground": (
        Shape({**LOOK, **IMAGE, **MASK}, ("prompt", "image_url", "mask_url")),
        V3,
    ),
    "variateImage": (
        Shape(
            {name: LOOK[name] for name in ("model", "n", "response_format", "image_format")}
            | {**SIZE, **SEED, **IMAGE},
            ("image_url", "size"),
        ),
        V3,
    ),
    **{
        name: (Shape({**TOOL, **IMAGE}, ("image_url",)), None)
        for name in ("vectorize", "removeBackground", "crispUpscale", "creativeUpscale")
    },
    "eraseRegion": (Shape({**TOOL, **IMAGE, **MASK}, ("image_url", "mask_url")), None),
}
UNITS = {"vectorize": 10, "removeBackground": 10, "crispUpscale": 4, "creativeUpscale": 250}
ERRORS: Mapping[Situation, tuple[int, str]] = {
    "refused": (400, "The prompt did not pass moderation."),
    "rate_limit": (429, "Too many requests"),
    "no_credit": (400, "not enough credits"),
    "invalid": (400, "invalid size"),
    "server_error": (500, "internal error"),
}


class RecraftServer(Loopback):
    """Generations, edits and tools, all as JSON."""

    def __init__(self) -> None:
        super().__init__()
        self._made = 0

    async def answer(self, seen: Seen, situation: Situation) -> web.StreamResponse:
        """Check as the API does, then answer in the situation's shape."""
        given = seen.headers.get("authorization", "")
        if given != f"Bearer {self.key}" or situation == "auth":
            if situation != "auth":
                self.problem(f"{seen.path}: the key came as {given!r}")
            return web.Response(status=401, text=f"request unauthorized {self.key}")
        name = seen.path.removeprefix("/v1/images/")
        if situation == "gone" or seen.method != "POST" or name not in ROUTES:
            if situation != "gone":
                self.problem(f"{seen.method} {seen.path}: there is no such route")
            return web.Response(status=404, text="404 page not found")
        problems = list(_problems(name, seen))
        for text in problems:
            self.problem(f"{seen.path}: {text}")
        if problems:
            return web.json_response(
                {"code": "invalid_request", "message": problems[0]}, status=400
            )
        if "mask_url" in seen.json:
            self.repainted.append(opened(seen.json["mask_url"]))
        if situation in ERRORS:
            status, text = ERRORS[situation]
            headers = {"Retry-After": str(RETRY_AFTER_S)} if status == 429 else {}
            if situation == "refused":  # some errors are JSON, some plain text
                return web.json_response({"code": "bad_prompt", "message": text}, status=status)
            return web.Response(status=status, text=text, headers=headers)
        return self._images(name, seen.json, situation)

    def _images(self, name: str, fields: Mapping[str, Any], situation: Situation) -> web.Response:
        tool = ROUTES[name][1] is None
        vector = "vector" in fields.get("model", "") or name == "vectorize"
        kind = "SVG" if vector else "WEBP"
        items = []
        for _ in range(1 if tool else fields.get("n", 1) - (situation == "partial")):
            self._made += 1
            number = 29 * self._made  # colors that WebP still tells apart
            item: dict[str, Any] = {"image_id": f"id-{self._made}"}
            if situation == "url":
                item["url"] = self.host_file(f"{self._made}.webp", picture(number, kind))
            elif situation == "private_url":
                item["url"] = "https://169.254.169.254/latest/meta-data"
            elif situation == "lost_url":
                item["url"] = self.base_url.replace("/v1", "/files/none.png")
            elif situation != "text":
                mislabelled = situation == "mislabelled"
                item["b64_json"] = image_base64(situation, number, "PNG" if mislabelled else kind)
            items.append(item)
        body: dict[str, Any] = {"created": 1_790_000_000}
        if situation == "empty":
            items = []
        if tool:
            body |= {"image": items[0]} if items else {}
        else:
            body["data"] = items
        if items:
            body["credits"] = UNITS.get(name, 35) * len(items)
        if "style_reference_urls" in fields:
            body["style_id"] = "229b2a75-05e4-4580-85f9-b47ee521a00d"
        return web.json_response(body, headers={"x-request-id": f"recraft-{self._made}"})


def _problems(name: str, seen: Seen) -> Iterator[str]:
    if seen.headers.get("content-type") != "application/json":
        yield f"Content-Type is {seen.headers.get('content-type')}"
    shape, families = ROUTES[name]
    yield from shape.problems(seen.json)
    for field in ("image_url", "mask_url"):
        if len(seen.json.get(field, "")) > 14_000_000:
            yield f"{field} is larger than 10 MB"
    if families is not None:
        yield from _model_problems(name, seen.json, families)
    if "mask_url" in seen.json:
        mask, image = opened(seen.json["mask_url"]), opened(seen.json["image_url"])
        if mask.size != image.size or mask.mode != "L":
            yield f"the mask is {mask.size} {mask.mode}, the image {image.size}"
        if set(mask.tobytes()) - {0, 255}:
            yield "the mask holds more than black and white"


def _model_problems(
    name: str, fields: Mapping[str, Any], families: frozenset[str]
) -> Iterator[str]:
    found = MODEL.fullmatch(str(fields.get("model")))
    if found is None or found["family"] not in families:
        yield f"{name} has no model {fields.get('model')}"
        return
    family, vector, flash = found["family"], bool(found["v"]), found["tier"] == "_flash"
    old = family in {"v2", "v3"}
    if not old:
        for field in {"style", "substyle", "negative_prompt", "text_layout"} & fields.keys():
            yield f"{field} is for V2 and V3"
    if old:
        for field in {"style_match", "style_reference_urls"} & fields.keys():
            yield f"{field} is for V4"
        if len(fields.get("prompt", "")) > 1000:
            yield "the prompt is longer than 1000 characters"
    if family != "v3":
        if "text_layout" in fields:
            yield "text_layout is for V3"
        for field in {"artistic_level", "no_text"} & fields.get("controls", {}).keys():
            yield f"controls.{field} is for V3"
    styled = {"style_id", "style_reference_urls"} & fields.keys()
    if flash and (styled or name != "generations"):
        yield "flash takes no style, and makes pictures only"
    if family == "v4_styles" and not styled:
        yield "a style is needed"
    if {"style", "style_id"} <= fields.keys() or len(styled) > 1:
        yield "styles exclude each other"
    if vector and "image_format" in fields:
        yield "image_format means nothing to vectors"
    if name == "outpaint":
        yield from _outpaint_problems(fields)
    table = SIZES_V3 if old else SIZES_2K if found["pro"] else SIZES_1K
    if "size" in fields and fields["size"] not in (*RATIOS, *(() if vector else table)):
        yield f"{fields['model']} has no size {fields['size']}"


def _outpaint_problems(fields: Mapping[str, Any]) -> Iterator[str]:
    expands = OUT.keys() & fields.keys()
    if expands and "size" in fields:
        yield "size and expand_* exclude each other"
    if not expands and "size" not in fields and "zoom_out_percentage" not in fields:
        yield "one of size, expand_* and zoom_out_percentage is needed"


def opened(url: str) -> Image.Image:
    """The picture of a ``data:`` URL."""
    image = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))
    image.load()
    return image
