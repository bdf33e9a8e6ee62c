"""Azure's image endpoints: OpenAI's fields, other addresses, keys and errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from aiohttp import web

from tests.servers.loopback import RETRY_AFTER_S, Seen, Situation
from tests.servers.openai import RETIRED, OpenAIServer


class AzureServer(OpenAIServer):
    """``/openai/v1/images/…``; the deployment is the body's model."""

    prefix = "/openai/v1"

    def __init__(self) -> None:
        super().__init__()
        self.token = ""
        """The only Entra token that is right; empty: the key serves as one."""

    async def answer(self, seen: Seen, situation: Situation) -> web.StreamResponse:
        """Check what is Azure's own, then answer as OpenAI does."""
        if not self._is_let_in(seen):
            self.problem(f"{seen.path}: neither a good api-key nor a good token came")
            situation = "auth"
        problems = list(self._address_problems(seen))
        for text in problems:
            self.problem(f"{seen.path}: {text}")
        plain = self._as_openai(seen)
        model = dict(plain.fields).get("model") if plain.fields else (plain.json or {}).get("model")
        if model in RETIRED or problems:
            situation = "gone"
        if situation in FAULTS:
            status, body = FAULTS[situation]
            text = str(body).replace("KEY", self.key)
            headers = {"apim-request-id": "azure-1"}
            if status == 429:
                headers |= {"retry-after": str(RETRY_AFTER_S), "retry-after-ms": "7000"}
            if "KEY" in str(body):
                body = {"error": {"code": "401", "message": text}}
            return web.json_response(body, status=status, headers=headers)
        return await super().answer(plain, situation)

    def _is_let_in(self, seen: Seen) -> bool:
        key, authorization = seen.headers.get("api-key"), seen.headers.get("authorization")
        if key is not None:
            return key == self.key and authorization is None
        return authorization == f"Bearer {self.token or self.key}"

    def _address_problems(self, seen: Seen) -> Iterator[str]:
        if not seen.path.startswith(f"{self.prefix}/images/"):
            yield "there is no such route"
        if seen.query.get("api-version", "preview") not in {"v1", "preview"}:
            yield f"{dict(seen.query)}: the v1 endpoint has no dated versions"

    def _as_openai(self, seen: Seen) -> Seen:
        route = seen.path.partition("/images/")[2]
        headers = {**seen.headers, "authorization": f"Bearer {self.key}"}
        return replace(seen, path=f"/v1/images/{route}", headers=headers)


class DatedAzureServer(AzureServer):
    """``/openai/deployments/NAME/images/…?api-version=DATE``; the body names no model."""

    prefix = ""

    def _address_problems(self, seen: Seen) -> Iterator[str]:
        if not seen.path.startswith("/openai/deployments/"):
            yield "there is no such route"
        if seen.query.get("api-version") != "2025-04-01-preview":
            yield f"{dict(seen.query)} names no version that exists"
        if "model" in dict(seen.fields) or "model" in (seen.json or {}):
            yield "model is refused beside a deployment"

    def _as_openai(self, seen: Seen) -> Seen:
        plain = super()._as_openai(seen)
        deployment = seen.path.removeprefix("/openai/deployments/").partition("/")[0]
        if seen.json is None:
            return replace(plain, fields=(*seen.fields, ("model", deployment)))
        return replace(plain, json={**seen.json, "model": deployment})


FAULTS: Mapping[str, tuple[int, Any]] = {
    "auth": (401, {"error": {"code": "401", "message": "Access denied due to the key KEY."}}),
    "refused": (
        400,
        {
            "error": {
                "code": "content_policy_violation",
                "inner_error": {
                    "code": "ResponsibleAIPolicyViolation",
                    "content_filter_results": {"violence": {"filtered": True, "severity": "high"}},
                },
                "message": "Your request was rejected as a result of our safety system.",
                "type": "invalid_request_error",
            }
        },
    ),
    "rate_limit": (
        429,
        {"error": {"code": "429", "message": "You have exceeded call rate limit of your tier."}},
    ),
    "no_credit": (
        403,
        {
            "error": {
                "code": "Forbidden",
                "message": "Your resource has been temporarily blocked because of your prompts.",
            }
        },
    ),
    "gone": (
        404,
        {
            "error": {
                "code": "DeploymentNotFound",
                "message": "The API deployment for this resource does not exist.",
            }
        },
    ),
}
