"""The way to Amazon Bedrock: boto3's InvokeModel, its credentials, its region, its faults.

Credentials are AWS's own affair: the chain of variables, profiles, single sign-on and roles signs
every request. A Bedrock API key is sent as it is instead, where ``AWS_BEARER_TOKEN_BEDROCK`` or
the variable that ``provider.api_key_env`` names holds one.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from runner import __version__
from runner.providers.bedrock_family.faults import RULES, answered, unanswered
from runner.providers.contract import ProviderError
from runner.providers.lifecycle import replacement
from runner.providers.net import Http, bad_response, json_object, one_line, require
from runner.providers.net.http import MAX_ANSWER_BYTES, bearer
from runner.providers.net.threads import in_thread
from runner.providers.net.wire import CONNECT_S
from runner.settings.cell import Json
from runner.settings.errors import PrerequisiteError, listed
from runner.settings.schema import Section, VariantSettings

if TYPE_CHECKING:
    import boto3

API_KEY = "AWS_BEARER_TOKEN_BEDROCK"
_MODULES = ("boto3", "aiohttp", "pybase64")
_POOL = 4096
"""Connections that are kept: no fewer than calls may be in flight."""
_CHUNK = 1 << 20
_REGION = re.compile(r"[a-z]{2}(-[a-z0-9]+)+")
_TALKATIVE = ("botocore.auth", "botocore.endpoint", "botocore.parsers")
"""Loggers that write signed requests and whole answers, tokens included, at their debug level."""


class Guardrail(Section):
    """A guardrail of the account, applied to prompt and picture."""

    id: str = Field(description="identifier or ARN")
    version: str = Field("DRAFT", description="a number, or DRAFT")
    trace: Literal["ENABLED", "DISABLED", "ENABLED_FULL"] | None = Field(
        None, description="have the guardrail's findings in the answer"
    )


Region = Annotated[
    str | None, Field(description="AWS region; by default AWS_REGION, or the profile's")
]
Profile = Annotated[str | None, Field(description="profile of ~/.aws/config with the credentials")]
GuardrailOption = Annotated[
    Guardrail | None, Field(description="guardrail applied to prompt and picture")
]
ACCESS = frozenset({"region", "profile"})
"""Options that say who asks and where; they change no picture."""
SHARED = ACCESS | {"guardrail"}
"""Options of every provider on Bedrock."""


@dataclass(frozen=True, slots=True)
class Invoked:
    """What a model answered.

    Attributes:
        body: The JSON object.
        request_id: AWS's id of the request.
    """

    body: Mapping[str, Any]
    request_id: str | None

    @property
    def intervened(self) -> bool:
        """Whether a guardrail stepped in."""
        return str(self.body.get("amazon-bedrock-guardrailAction", "")).endswith("INTERVENED")


class Bedrock:
    """One variant's client of Bedrock's runtime.

    Args:
        settings: The variant.
        region: ``provider.options.region``.
        profile: ``provider.options.profile``.
        guardrail: ``provider.options.guardrail``.

    Raises:
        RequestError: ``provider.base_url`` or ``provider.api_key_env`` is wrong.
    """

    def __init__(
        self,
        settings: VariantSettings,
        *,
        region: str | None,
        profile: str | None,
        guardrail: Guardrail | None,
    ) -> None:
        self._settings = settings
        self._given_region = region or os.environ.get("AWS_REGION") or None
        self._profile = profile
        self._guardrail = _guardrail_arguments(guardrail)
        # boto3 knows the address itself; this one says whose limit it is, and that it is public.
        place = self._given_region or ""
        place = place if _REGION.fullmatch(place) else "us-east-1"
        self.http = Http(
            settings,
            base_url=f"https://bedrock-runtime.{place}.amazonaws.com",
            variables=(API_KEY,),
            key_required=settings.provider.api_key_env is not None,
            rules=RULES,
            extra="bedrock",
            modules=_MODULES,
        )
        self._secrets: tuple[str, ...] = ()
        self._source = ""
        self._client: Any = None

    # ------------------------------------------------------------------ before the first call

    def quota_key(self) -> str:
        """Limits are per account, region and model."""
        return self.http.quota_key(self._settings.model.name, self._profile or "")

    def check_ready(self) -> None:
        """Look for boto3, a region and credentials. Nothing is sent to Bedrock.

        Raises:
            PrerequisiteError: One of them is missing.
        """
        require("bedrock", *_MODULES)
        session = self._session()
        if self.http.keys.read() is None:
            self._credentials(session)

    def versions(self) -> Mapping[str, str]:
        """The SDK's."""
        return {name: version(name) for name in ("boto3", "botocore")}

    def _session(self) -> boto3.Session:
        """The AWS session, with a region.

        Raises:
            PrerequisiteError: There is no such profile, or no region.
        """
        import boto3
        from botocore.exceptions import BotoCoreError
        from botocore.session import get_session

        name = self._settings.provider.name
        try:
            session = boto3.Session(profile_name=self._profile, region_name=self._given_region)
            region: str | None = session.region_name
        except BotoCoreError as error:
            known = get_session().available_profiles
            also = f"; known profiles: {listed(known)}" if known else ""
            raise PrerequisiteError(f"provider {name}: {error}{also}") from None
        if not region:
            raise PrerequisiteError(
                f"provider {name}: no AWS region; set it with `export AWS_REGION=us-east-1`, or "
                "with provider.options.region=us-east-1"
            )
        if not _REGION.fullmatch(region):
            raise PrerequisiteError(
                f"provider {name}: {region!r} is no AWS region; write it like us-east-1"
            )
        return session

    def _credentials(self, session: boto3.Session) -> None:
        """Find credentials, and remember what must not be repeated.

        Raises:
            PrerequisiteError: There are none, or only half of them.
        """
        from botocore.exceptions import BotoCoreError

        problem = "no AWS credentials"
        try:
            found = session.get_credentials()
            frozen = found.get_frozen_credentials() if found is not None else None
        except BotoCoreError as error:
            problem, found, frozen = one_line(str(error)).rstrip("."), None, None
        if found is None or frozen is None:
            raise PrerequisiteError(
                f"provider {self._settings.provider.name}: {problem}; set AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, choose a profile with provider.options.profile=NAME, or "
                f"use a Bedrock API key: `export {API_KEY}=…` (or name its variable with "
                "provider.api_key_env=NAME)"
            )
        held = (frozen.secret_key, frozen.token, frozen.access_key)
        self._secrets = tuple(secret for secret in held if secret)
        self._source = (
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" if found.method == "env" else found.method
        )

    # ------------------------------------------------------------------ calls

    async def open(self) -> None:
        """Make the client: boto3 reads its service model, which takes a while."""
        await self.http.open()
        self._client = await asyncio.to_thread(self._make_client)

    def _make_client(self) -> Any:
        import botocore
        from botocore.config import Config

        for name in _TALKATIVE:
            logging.getLogger(name).setLevel(logging.INFO)
        session = self._session()
        key = self.http.keys.read()
        if key is None:
            self._credentials(session)
        else:
            self._source = self.http.keys.variable
        client = session.client(
            "bedrock-runtime",
            endpoint_url=self.http.base.text if self._settings.provider.base_url else None,
            config=Config(
                # boto3 would put a bearer token on https only; on loopback http is as good.
                signature_version="v4" if key is None else botocore.UNSIGNED,
                retries={"total_max_attempts": 1, "mode": "standard"},
                connect_timeout=CONNECT_S,
                read_timeout=self._settings.timeout_s,
                max_pool_connections=_POOL,
                tcp_keepalive=True,
                ignore_configured_endpoint_urls=True,
                user_agent_extra=f"image-batch-runner/{__version__}",
            ),
        )
        if key is not None:
            client.meta.events.register("before-send.bedrock-runtime.InvokeModel", self._add_key)
        return client

    def _add_key(self, request: Any, **_: object) -> None:
        key = self.http.keys.read()
        if key is not None:
            for name, value in bearer(key.reveal()).items():
                request.headers[name] = value

    async def invoke(self, body: Mapping[str, Json]) -> Invoked:
        """Call the variant's model once.

        Raises:
            ProviderError: Anything but an answer in JSON, already classified.
        """
        if self._client is None:
            raise RuntimeError("the provider is not open")
        try:
            data, request_id = await in_thread(lambda: self._invoke(body))
        except Exception as error:
            # boto3's exceptions repeat the server's words, and those may repeat the key.
            raise self.classify(error) from None
        return Invoked(json_object(data, request_id), request_id)

    def _invoke(self, body: Mapping[str, Json]) -> tuple[bytes, str | None]:
        reply = self._client.invoke_model(
            modelId=self._settings.model.name,
            body=json.dumps(body, allow_nan=False).encode("ascii"),
            contentType="application/json",
            accept="application/json",
            **self._guardrail,
        )
        request_id = reply["ResponseMetadata"].get("RequestId")
        chunks: list[bytes] = []
        left = MAX_ANSWER_BYTES
        with closing(reply["body"]) as stream:
            while chunk := stream.read(_CHUNK):
                chunks.append(chunk)
                left -= len(chunk)
                if left < 0:
                    raise bad_response(f"more than {MAX_ANSWER_BYTES:,} bytes", request_id)
        return b"".join(chunks), request_id

    def classify(self, error: Exception) -> ProviderError:
        """Name the kind of anything that a call raised, without secrets."""
        from botocore.exceptions import ClientError

        if isinstance(error, ClientError):
            fault = answered(error, self.redact)
            if fault.kind == "gone":
                fault.message += replacement(self._settings.model)
            elif fault.kind == "auth" and fault.message.startswith(("HTTP 401", "HTTP 403")):
                fault.message += f" (credentials from {self._source})"
            return fault
        fault = unanswered(error) or self.http.classify(error)
        fault.message = self.redact(fault.message)
        return fault

    def redact(self, text: str) -> str:
        """The text without keys, tokens and secrets."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return self.http.keys.redact(text)

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            self._client.close()
            self._client = None
        await self.http.close()


def _guardrail_arguments(guardrail: Guardrail | None) -> dict[str, str]:
    if guardrail is None:
        return {}
    found = {"guardrailIdentifier": guardrail.id, "guardrailVersion": guardrail.version}
    return found if guardrail.trace is None else {**found, "trace": guardrail.trace}
