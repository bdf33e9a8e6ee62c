"""Amazon Bedrock's runtime: InvokeModel with AWS's signatures, errors and headers.

What a model takes and answers is in ``bedrock_amazon.py`` and ``bedrock_stability.py``.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar
from urllib.parse import quote

from aiohttp import web
from PIL import Image

from tests.servers.loopback import RETRY_AFTER_S, Loopback, Seen, Situation

ACCESS_KEY_ID = "AKIDEXAMPLE"
_PATH = re.compile(r"/model/(.+)/invoke")
_SIGNED = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/bedrock/aws4_request, "
    r"SignedHeaders=([^,]+), Signature=([0-9a-f]{64})"
)

Shaped = Mapping[Situation, tuple[int, str, str]]
"""Situations that a model answers with an error: status, name, message."""

ERRORS: Shaped = {
    "rate_limit": (429, "ThrottlingException", "Too many requests, please wait."),
    "no_credit": (400, "ServiceQuotaExceededException", "Your request exceeds the service quota."),
    "gone": (
        404,
        "ResourceNotFoundException",
        "This model version has reached the end of its life.",
    ),
    "invalid": (
        400,
        "ValidationException",
        "Malformed input request: #/imageGenerationConfig/cfgScale: 99 is not less or equal to 10",
    ),
    "server_error": (500, "InternalServerException", "The system encountered an error."),
}


@dataclass
class Asked:
    """One request for a model, and the masks that the server keeps.

    Attributes:
        model: Its id.
        body: The JSON object.
        situation: How to answer.
        number: How many images were made before.
        repainted: Where masks are kept, as white = repaint.
    """

    model: str
    body: Mapping[str, Any]
    situation: Situation
    number: int
    repainted: list[Image.Image]


@dataclass(frozen=True)
class Model:
    """What a model takes and answers.

    Attributes:
        problems: Everything that is wrong with a request.
        answer: A good answer, or one of its own shapes of refusal.
        refusal: The error with which it refuses, if it does so by HTTP status.
    """

    problems: Callable[[Asked], Iterator[str]]
    answer: Callable[[Asked], Mapping[str, Any]]
    refusal: tuple[int, str, str] | None = None


@dataclass(frozen=True)
class Signed:
    """What a signature says of itself."""

    key_id: str
    date: str
    region: str
    headers: tuple[str, ...] = field(default=())
    signature: str = ""


class BedrockServer(Loopback):
    """``/model/{id}/invoke``.

    Attributes:
        models: What is offered, by id.
        ended: Ids of models past their end of life.
        region: The only region that signatures may be for.
    """

    prefix = ""
    models: ClassVar[Mapping[str, Model]] = {}
    ended: ClassVar[frozenset[str]] = frozenset()
    region = "us-west-2"

    def __init__(self) -> None:
        super().__init__()
        self._made = 0

    async def answer(self, seen: Seen, situation: Situation) -> web.StreamResponse:
        """Check the request as AWS does, then answer in the situation's shape."""
        found = _PATH.fullmatch(seen.path)
        if seen.method != "POST" or found is None:
            self.problem(f"{seen.method} {seen.path}: there is no such route")
            return error(404, "UnknownOperationException", "")
        if self.key.encode() in seen.body:
            self.problem("the secret is in the body")
        if (refusal := self._authorize(seen)) is not None:
            return refusal
        if situation == "auth":
            return error(
                403,
                "UnrecognizedClientException",
                f"The security token included in the request is invalid: {self.key}",
            )
        for name, value in (("content-type", "application/json"), ("accept", "application/json")):
            if seen.headers.get(name) != value:
                self.problem(f"{name} is {seen.headers.get(name)}")
        guarded = [f"x-amzn-bedrock-guardrail{part}" in seen.headers for part in GUARD_PARTS]
        if guarded[0] != guarded[1]:
            return error(400, "ValidationException", "guardrail identifier and version go together")
        return self._invoke(found[1], seen, situation)

    def _invoke(self, name: str, seen: Seen, situation: Situation) -> web.Response:
        model = self.models.get(name)
        if model is None:
            self.problem(f"{name} is no model of Bedrock")
            return error(400, "ValidationException", "The provided model identifier is invalid.")
        asked = Asked(name, seen.json, situation, self._made, self.repainted)
        problems = list(model.problems(asked))
        for text in problems:
            self.problem(f"{name}: {text}")
        if problems:
            return error(400, "ValidationException", f"Malformed input request: {problems[0]}")
        if name in self.ended:
            situation = "gone"
        if situation in ERRORS:
            return error(*ERRORS[situation])
        if situation == "refused" and model.refusal is not None:
            return error(*model.refusal)
        body = model.answer(asked)
        self._made += 10
        headers = {"x-amzn-RequestId": f"aws-request-{self._made}"}
        if name.startswith("amazon.") and guarded_out(seen):
            body = {"amazon-bedrock-guardrailAction": "INTERVENED", "images": []}
        return web.json_response(body, headers=headers)

    def _authorize(self, seen: Seen) -> web.Response | None:
        given = seen.headers.get("authorization", "")
        if given.startswith("Bearer "):
            if given == f"Bearer {self.key}":
                return None
            self.problem("the bearer key is wrong")
            return error(403, "AccessDeniedException", "The bearer key is wrong.")
        found = _SIGNED.fullmatch(given)
        if found is None:
            self.problem("the request is not signed")
            return error(403, "MissingAuthenticationTokenException", "Missing token")
        signed = Signed(found[1], found[2], found[3], tuple(found[4].split(";")), found[5])
        if signed.key_id != ACCESS_KEY_ID or signed.region != self.region:
            self.problem(f"signed by {signed.key_id} for {signed.region}")
        if not {"host", "x-amz-date"} <= set(signed.headers):
            self.problem(f"only {signed.headers} are signed")
        if signature(seen, signed, self.key) != signed.signature:
            self.problem("the signature does not match")
            return error(403, "InvalidSignatureException", "The signature does not match.")
        if self.key in str(seen.headers):
            self.problem("the secret itself was sent")
        return None


GUARD_PARTS = ("identifier", "version")


def guarded_out(seen: Seen) -> bool:
    """Whether the guardrail of this name steps in."""
    return seen.headers.get("x-amzn-bedrock-guardrailidentifier") == "blocks-everything"


def error(status: int, name: str, message: str) -> web.Response:
    """An error in AWS's shape: the name in a header, the message in the body."""
    headers = {
        "x-amzn-ErrorType": f"{name}:http://internal.amazon.com/coral/com.amazon.bedrock/",
        "x-amzn-RequestId": "aws-request-error",
    }
    if status == 429:
        headers["Retry-After"] = str(RETRY_AFTER_S)
    return web.json_response({"message": message}, status=status, headers=headers)


def signature(seen: Seen, signed: Signed, secret: str) -> str:
    """AWS Signature Version 4 of a request, from the secret."""
    path = quote(quote(seen.path, safe="/-_.~"), safe="/-_.~")
    lines = "".join(f"{name}:{seen.headers.get(name, '').strip()}\n" for name in signed.headers)
    body = hashlib.sha256(seen.body).hexdigest()
    request = "\n".join((seen.method, path, "", lines, ";".join(signed.headers), body))
    scope = f"{signed.date}/{signed.region}/bedrock/aws4_request"
    text = "\n".join(
        (
            "AWS4-HMAC-SHA256",
            seen.headers.get("x-amz-date", ""),
            scope,
            hashlib.sha256(request.encode()).hexdigest(),
        )
    )
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
