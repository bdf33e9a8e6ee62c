"""Input images for Leonardo: asked where they belong, then sent there without the key."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from runner.providers.contract import ProviderError
from runner.providers.net import Http, InputImage, Inputs, Part, grey_mask
from runner.settings.cell import Json
from runner.settings.errors import RequestError

EXTENSIONS = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp"}


class Uploads:
    """Uploads each input once, however many cells share it.

    Args:
        http: The API and its base URL.
    """

    def __init__(self, http: Http) -> None:
        self._http = http
        self._inputs = Inputs(http)
        self._done: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._turn = asyncio.Lock()

    async def image(self, path: str, what: str = "pipeline.image") -> str:
        """The id of an input image.

        Args:
            path: A file or an https address.
            what: Which setting named it.

        Raises:
            RequestError: It is not there, or of a type that is not taken.
            ProviderError: It could not be uploaded. Nothing was made and nothing is billed yet.
        """
        async with self._turn:
            if (path,) not in self._done:
                image = await self._inputs.read(path, what)
                body = {"extension": _extension(image, what)}
                place = await self._place("/init-image", body, "uploadInitImage")
                await self._put(place, "url", "fields", image)
                self._done[path,] = (str(place.get("id")),)
            return self._done[path,][0]

    async def canvas(self, path: str, mask_path: str) -> tuple[str, str]:
        """The ids of an image and its mask (white = repaint); faults as of :meth:`image`."""
        async with self._turn:
            if (path, mask_path) not in self._done:
                image = await self._inputs.read(path)
                mask = await self._inputs.mask(mask_path, grey_mask)
                body = {
                    "initExtension": _extension(image, "pipeline.image"),
                    "maskExtension": _extension(mask, "pipeline.mask"),
                }
                place = await self._place("/canvas-init-image", body, "uploadCanvasInitImage")
                await self._put(place, "initUrl", "initFields", image)
                await self._put(place, "maskUrl", "maskFields", mask)
                ids = (str(place.get("initImageId")), str(place.get("maskImageId")))
                self._done[path, mask_path] = ids
            image_id, mask_id = self._done[path, mask_path]
            return image_id, mask_id

    async def _place(self, path: str, body: Json, name: str) -> Mapping[str, Any]:
        try:
            found = (await self._http.send("POST", path, json=body)).json().get(name)
        except Exception as error:
            fault = self._http.classify(error)
            if fault.kind == "ambiguous":
                fault.kind = "transient"
            raise fault from None
        if not isinstance(found, Mapping):
            raise ProviderError("transient", f"no {name} in the answer", code="bad_response")
        return found

    async def _put(self, place: Mapping[str, Any], url: str, form: str, image: InputImage) -> None:
        try:
            fields = json.loads(place[form])
            parts = [Part(str(name), str(value)) for name, value in fields.items()]
            target = str(place[url])
        except (KeyError, TypeError, ValueError, AttributeError):
            raise ProviderError(
                "transient", "no form for the upload in the answer", code="bad_response"
            ) from None
        await self._http.upload(target, [*parts, Part("file", image.data, image.name, image.mime)])


def _extension(image: InputImage, what: str) -> str:
    if image.mime not in EXTENSIONS:
        raise RequestError(f"{what}: {image.mime} is not taken; use PNG, JPEG or WebP")
    return EXTENSIONS[image.mime]
