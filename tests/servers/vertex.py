"""Vertex AI as a strict server: tokens for credentials files, ``generateContent``, ``predict``.

Faithful to the shapes in google-genai 2.34.0, google-cloud-aiplatform 2.7.0 and google-auth 2.62.
"""

from __future__ import annotations

import base64
import functools
import io
import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from PIL import Image

from tests.servers.google import ERRORS, IMAGE, GeminiServer, generate_shape, google_error
from tests.servers.loopback import Seen, Situation, image_base64
from tests.servers.strict import Anything, Bool, Int, ListOf, Number, OneOf, Shape, Text

PROJECT, EMAIL = "proj-1", "batch@proj-1.iam.gserviceaccount.com"
RATIOS = ("1:1", "3:4", "4:3", "9:16", "16:9")
BYTES = Shape(
    {
        "bytesBase64Encoded": Text(longest=10_000_000),
        "mimeType": OneOf(("image/png", "image/jpeg", "image/webp")),
    },
    required=("bytesBase64Encoded", "mimeType"),
)
REFERENCE = Shape(
    {
        "referenceType": OneOf(
            ("REFERENCE_TYPE_RAW", "REFERENCE_TYPE_MASK", "REFERENCE_TYPE_CONTROL")
        ),
        "referenceId": Int(1, 9),
        "referenceImage": BYTES,
        "maskImageConfig": Shape(
            {
                "maskMode": OneOf(
                    tuple(
                        f"MASK_MODE_{mode}"
                        for mode in ("USER_PROVIDED", "BACKGROUND", "FOREGROUND", "SEMANTIC")
                    )
                ),
                "maskClasses": ListOf(Int(0, 200), 1, 5),
                "dilation": Number(0, 1),
            },
            required=("maskMode",),
        ),
        "controlImageConfig": Shape(
            {
                "controlType": OneOf(
                    ("CONTROL_TYPE_CANNY", "CONTROL_TYPE_SCRIBBLE", "CONTROL_TYPE_FACE_MESH")
                ),
                "computeControl": Bool(),
            },
            required=("controlType",),
        ),
    },
    required=("referenceType", "referenceId"),
)
PARAMETERS: Mapping[str, Any] = {
    "sampleCount": Int(1, 4),
    "aspectRatio": OneOf(RATIOS),
    "sampleImageSize": OneOf(("1K", "2K")),
    "negativePrompt": Text(),
    "guidanceScale": Number(0, 500),
    "seed": Int(1, 2**31 - 1),
    "addWatermark": Bool(),
    "enhancePrompt": Bool(),
    "language": OneOf(("auto", "en", "ja")),
    "safetySetting": OneOf(
        ("BLOCK_LOW_AND_ABOVE", "BLOCK_MEDIUM_AND_ABOVE", "BLOCK_ONLY_HIGH", "BLOCK_NONE")
    ),
    "personGeneration": OneOf(("DONT_ALLOW", "ALLOW_ADULT", "ALLOW_ALL")),
    "includeRaiReason": Bool(),
    "outputOptions": Shape(
        {"mimeType": OneOf(("image/png", "image/jpeg")), "compressionQuality": Int(0, 100)}
    ),
    "editMode": OneOf(
        tuple(
            f"EDIT_MODE_{mode}"
            for mode in (
                "DEFAULT",
                "INPAINT_INSERTION",
                "INPAINT_REMOVAL",
                "OUTPAINT",
                "BGSWAP",
                "PRODUCT_IMAGE",
            )
        )
    ),
    "editConfig": Shape({"baseSteps": Int(1, 100)}),
    "mode": OneOf(("upscale",)),
    "upscaleConfig": Shape(
        {
            "upscaleFactor": OneOf(("x2", "x4")),
            "enhanceInputImage": Bool(),
            "imagePreservationFactor": Number(0, 1),
        },
        required=("upscaleFactor",),
    ),
}
IMAGEN = Shape(
    {
        "instances": ListOf(
            Shape({"prompt": Text(), "image": BYTES, "referenceImages": ListOf(REFERENCE, 1)}), 1, 1
        ),
        "parameters": Shape(dict(PARAMETERS), required=("sampleCount",)),
        "labels": Anything(),
    },
    required=("instances", "parameters"),
)
GARDEN = Shape(
    {
        "instances": ListOf(
            Shape(
                {
                    "prompt": Text(),
                    "negative_prompt": Text(),
                    # protobuf has no whole numbers in a Value, so the SDK writes 512.0.
                    "width": Number(64, 4096),
                    "height": Number(64, 4096),
                    "num_inference_steps": Number(1, 500),
                    "guidance_scale": Number(0, 100),
                    "seed": Number(0, 2**53),
                    "image": Text(longest=10_000_000),
                    "mask_image": Text(longest=10_000_000),
                },
                required=("prompt",),
            ),
            1,
        ),
        "parameters": Shape({}),
    },
    required=("instances",),
)
LIVE_IMAGEN = ("imagen-4.0-generate-001", "imagen-4.0-upscale-preview", "imagen-3.0-capability-001")
"""Here they still live, as in the endpoints of a private arrangement."""


@functools.cache
def private_key() -> str:
    """A key that signs tokens: made once, worth nothing."""
    made = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return made.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


class VertexServer(GeminiServer):
    """Tokens at ``/token``; ``{v1|v1beta1}/projects/…/locations/…`` for everything else."""

    body = generate_shape(
        {
            **IMAGE,
            "imageOutputOptions": Shape({"mimeType": OneOf(("image/png", "image/jpeg"))}),
        },
        labels=Shape({"team": Text()}),
    )
    location = "global"
    token_status = 200

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        for seen in self.requests:
            if private_key()[40:80].encode() in seen.body or b"PRIVATE KEY" in seen.body:
                self.problem(f"{seen.path}: the service account's key was sent")
        self.folder.cleanup()

    @property
    def credential(self) -> str:
        """The path of a service account's key whose tokens come from this server."""
        return self.write(
            {
                "type": "service_account",
                "project_id": "project-of-the-file",
                "private_key_id": "key-1",
                "private_key": private_key(),
                "client_email": EMAIL,
                "client_id": "1",
                "token_uri": f"http://127.0.0.1:{self._port}/token",
            }
        )

    def write(self, held: Mapping[str, Any]) -> str:
        """Write a credentials file; returns its path."""
        path = Path(self.folder.name, "credentials.json")
        path.write_text(json.dumps(held))
        return str(path)

    def is_call(self, seen: Seen) -> bool:
        return seen.path != "/token" and super().is_call(seen)

    async def answer(self, seen: Seen, situation: Situation) -> web.StreamResponse:
        if seen.path == "/token":
            return self.token(seen)
        if seen.headers.get("authorization") != f"Bearer {self.key}":
            self.problem("the token is missing")
        if "x-goog-api-key" in seen.headers:
            self.problem("an API key was sent")
        if situation == "auth":
            return google_error(401, "UNAUTHENTICATED", f"Request had invalid {self.key}.")
        place = f"projects/{PROJECT}/locations/{self.location}"
        found = re.fullmatch(
            rf"/v1(?:beta1)?/{place}/(?:publishers/google/models|endpoints)/([^/:]+):(\w+)",
            seen.path,
        )
        if seen.method != "POST" or found is None:
            self.problem(f"{seen.method} {seen.path} is no route of this API")
            return google_error(404, "NOT_FOUND", "no route")
        model, method = found.groups()
        if method == "generateContent":
            return self.generate(seen, model, situation)
        if "/endpoints/" in seen.path:
            return self.garden(seen, situation)
        return self.imagen(seen, model, situation)

    def token(self, seen: Seen) -> web.Response:
        """Give a token for a signed claim or a refresh token."""
        form = {name: values[0] for name, values in parse_qs(seen.body.decode()).items()}
        if self.token_status != 200:
            return web.json_response({"error": "invalid_grant"}, status=self.token_status)
        if form.get("grant_type") == "urn:ietf:params:oauth:grant-type:jwt-bearer":
            claim = form["assertion"].split(".")[1]
            claims = json.loads(base64.urlsafe_b64decode(claim + "=" * (-len(claim) % 4)))
            if claims["iss"] != EMAIL or "cloud-platform" not in claims["scope"]:
                self.problem(f"claims {claims}")
        elif form.get("grant_type") != "refresh_token" or form["refresh_token"] != "refresh-1":
            self.problem(f"a token was asked for with {sorted(form)}")
        return web.json_response(
            {"access_token": self.key, "expires_in": 3600, "token_type": "Bearer"}
        )

    def imagen(self, seen: Seen, model: str, situation: Situation) -> web.Response:
        """Imagen's ``predict``."""
        if model not in LIVE_IMAGEN:
            return google_error(404, "NOT_FOUND", f"Publisher Model {model} was not found.")
        for problem in (*IMAGEN.problems(seen.json), *_rules(seen.json)):
            self.problem(problem)
        if situation in ERRORS:
            return google_error(*ERRORS[situation])
        instance, parameters = seen.json["instances"][0], seen.json["parameters"]
        for reference in instance.get("referenceImages", []):
            if (
                reference["referenceType"] == "REFERENCE_TYPE_MASK"
                and "referenceImage" in reference
            ):
                data = base64.b64decode(reference["referenceImage"]["bytesBase64Encoded"])
                self.repainted.append(Image.open(io.BytesIO(data)).convert("L"))
        if situation == "empty":
            return web.json_response({})
        if situation == "refused":
            return web.json_response({"predictions": [{"raiFilteredReason": "Not this. 58061214"}]})
        if situation == "text":
            return web.json_response({"predictions": [{"prompt": "words"}]})
        mime = parameters.get("outputOptions", {}).get("mimeType", "image/png")
        kind = mime.removeprefix("image/").upper()
        predictions = []
        for _ in range(parameters["sampleCount"] - (situation == "partial")):
            self.made += 1
            data = image_base64(situation, self.made, kind)
            predictions.append({"mimeType": mime, "bytesBase64Encoded": data})
        return web.json_response({"predictions": predictions})

    def garden(self, seen: Seen, situation: Situation) -> web.Response:
        """A diffusers container of Model Garden."""
        for problem in GARDEN.problems(seen.json):
            self.problem(problem)
        if situation in ERRORS:
            return google_error(*ERRORS[situation])
        for instance in seen.json["instances"]:
            if "mask_image" in instance:
                data = base64.b64decode(instance["mask_image"])
                self.repainted.append(Image.open(io.BytesIO(data)).convert("L"))
        found: list[Any] = []
        for _ in seen.json["instances"][situation == "partial" :]:
            self.made += 1
            found.append(image_base64(situation, self.made))
        if situation in {"empty", "text"}:
            found = [{"note": "I would rather not."}] if situation == "text" else []
        return web.json_response({"predictions": found, "deployedModelId": "deployed-1"})


def _rules(body: Mapping[str, Any]) -> Iterator[str]:
    parameters = body.get("parameters", {})
    if "seed" in parameters and parameters.get("addWatermark") is not False:
        yield "a seed needs addWatermark=false"
    if "seed" in parameters and parameters.get("enhancePrompt"):
        yield "a seed needs enhancePrompt=false"
    upscales = parameters.get("mode") == "upscale"
    if upscales != ("upscaleConfig" in parameters):
        yield "mode=upscale and upscaleConfig belong together"
    if upscales and parameters.get("sampleCount") != 1:
        yield "upscaling makes one picture"
