"""How Bedrock is reached: credentials, regions, API keys, AWS's names of faults, threads."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web
from botocore import exceptions as aws

from runner.providers.bedrock_family import client as bedrock_client
from runner.providers.bedrock_family.client import API_KEY
from runner.providers.contract import Missing
from runner.providers.registry import make_provider
from runner.settings.errors import PrerequisiteError
from tests.contract.aws import VARIABLES, aws_environment
from tests.contract.machinery import Machinery
from tests.contract.support import ask, ask_open, opened, variant
from tests.servers.bedrock import BedrockServer, error
from tests.servers.bedrock_amazon import TitanServer
from tests.servers.loopback import Loopback, Seen, Situation

__all__ = ["aws_environment"]

AT_ONCE = 24


class CrowdedServer(TitanServer):
    """Answers nobody until so many have asked."""

    def __init__(self) -> None:
        super().__init__()
        self._all_here = asyncio.Event()

    async def answer(self, seen: Seen, situation: Situation) -> web.StreamResponse:
        if len(self.requests) >= AT_ONCE:
            self._all_here.set()
        await self._all_here.wait()
        return await super().answer(seen, situation)


class TestAccess(Machinery):
    provider = "bedrock_titan"
    server_type = TitanServer
    variables = VARIABLES

    # ------------------------------------------------------------------ credentials

    def test_requests_are_signed(self, server: Loopback) -> None:
        assert self.ask(server).pictures
        headers = server.calls()[0].headers
        assert headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/")
        assert headers["amz-sdk-request"] == "attempt=1; max=1"
        assert "image-batch-runner/" in headers["user-agent"]

    def test_another_secret_is_refused(
        self, server: Loopback, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another-secret-0123456789")
        fault = self.ask(server).fault
        assert fault is not None
        assert fault.kind == "auth"
        assert "AWS_SECRET_ACCESS_KEY" in fault.message
        assert fault.code == "InvalidSignatureException"
        assert server.problems == ["the signature does not match"]
        server.problems.clear()

    def test_session_tokens_are_sent_and_not_logged(
        self,
        server: Loopback,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        monkeypatch.setenv("AWS_SESSION_TOKEN", "session-token-0123456789")
        caplog.set_level(logging.DEBUG, logger="botocore")
        server.script(
            lambda seen: error(403, "ExpiredTokenException", seen.headers["x-amz-security-token"])
        )
        asked = self.ask(server)
        assert asked.fault is not None
        assert asked.fault.kind == "auth"
        assert server.calls()[0].headers["x-amz-security-token"] == "session-token-0123456789"
        assert "session-token" not in caplog.text
        assert "session-token" not in asked.text()

    def test_profiles(
        self, server: Loopback, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        config = tmp_path / "config"
        config.write_text(
            "[profile studio]\nregion = eu-west-1\naws_access_key_id = AKIDEXAMPLE\n"
            f"aws_secret_access_key = {server.key}\n[profile broken]\nregion = eu-west-1\n"
            "credential_process = /bin/false\n"
        )
        monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
        for name in ("AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        assert isinstance(server, BedrockServer)
        server.region = "eu-west-1"
        settings = self.settings(server, "+provider.options.profile=studio")
        asked = ask(settings, self.params())
        assert asked.pictures, asked.fault
        assert server.key not in asked.text()
        for name, word in (("nobody", "studio"), ("broken", "credential")):
            settings = self.settings(server, f"+provider.options.profile={name}")
            with pytest.raises(PrerequisiteError, match=word) as caught:
                make_provider(settings).check_ready()
            assert "\n" not in str(caught.value)

    def test_no_region(
        self, server: Loopback, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.delenv("AWS_REGION")
        done = self.run(server, tmp_path / "run")
        assert done.returncode == 3, done.stderr
        assert "AWS_REGION" in done.stderr
        assert "provider.options.region" in done.stderr
        assert "Traceback" not in done.stderr
        assert server.requests == []
        done = self.run(server, tmp_path / "run", "provider.options.region=us-west-2")
        assert done.returncode == 0, done.stderr

    @pytest.mark.parametrize("region", ["us west 2", "evil.example/", "eu-west-1\n", "US-EAST-1"])
    def test_regions_that_are_none(
        self, server: Loopback, monkeypatch: pytest.MonkeyPatch, region: str
    ) -> None:
        monkeypatch.setenv("AWS_REGION", region)
        with pytest.raises(PrerequisiteError, match="is no AWS region") as caught:
            make_provider(self.settings(server)).check_ready()
        assert "\n" not in str(caught.value)

    def test_no_credentials(self, server: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        with pytest.raises(PrerequisiteError) as caught:
            make_provider(self.settings(server)).check_ready()
        for word in ("AWS_ACCESS_KEY_ID", "provider.options.profile", API_KEY, "api_key_env"):
            assert word in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_a_named_api_key_is_the_only_way(
        self, server: Loopback, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        settings = self.settings(server, "provider.api_key_env=MY_KEY")
        monkeypatch.delenv("MY_KEY", raising=False)
        with pytest.raises(PrerequisiteError, match="MY_KEY"):
            make_provider(settings).check_ready()
        monkeypatch.setenv("MY_KEY", server.key)
        assert ask(settings, self.params()).pictures
        assert server.calls()[0].headers["authorization"] == f"Bearer {server.key}"

    # ------------------------------------------------------------------ the client

    def test_the_client_of_the_region(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nobody but ``provider.base_url`` leads requests, and keys, somewhere else."""
        monkeypatch.setenv("AWS_ENDPOINT_URL_BEDROCK_RUNTIME", "http://elsewhere.invalid")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "anything-0123456789")

        async def endpoint() -> tuple[str, object]:
            settings = variant("provider=bedrock_titan", "limits.timeout_s=321")
            async with opened(settings) as provider:
                meta = provider.bedrock._client.meta
                return meta.endpoint_url, meta.config

        url, config = asyncio.run(endpoint())
        assert url == "https://bedrock-runtime.us-west-2.amazonaws.com"
        assert config.retries["total_max_attempts"] == 1  # type: ignore[attr-defined]
        assert config.read_timeout == 321  # type: ignore[attr-defined]

    def test_every_call_in_flight_has_its_thread(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def run(server: Loopback) -> int:
            async with opened(self.settings(server)) as provider:
                calls = (ask_open(provider, self.params(seed=at)) for at in range(AT_ONCE))
                return sum(len(asked.pictures) for asked in await asyncio.gather(*calls))

        with CrowdedServer() as server:
            monkeypatch.setenv(VARIABLES[0], server.key)
            assert asyncio.run(run(server)) == AT_ONCE
            assert server.problems == []

    def test_a_call_that_was_given_up_holds_nobody(self, server: Loopback) -> None:
        async def run() -> list[threading.Thread]:
            async with opened(self.settings(server)) as provider:
                server.script("hang")
                task = asyncio.create_task(ask_open(provider, self.params()))
                while not server.calls():
                    await asyncio.sleep(0.01)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                return [each for each in threading.enumerate() if each.name == "sdk-call"]

        (waiting,) = asyncio.run(run())
        assert waiting.daemon

    def test_endless_answers_are_cut(
        self, server: Loopback, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(bedrock_client, "MAX_ANSWER_BYTES", 1000)
        server.script(lambda _: web.Response(body=b" " * 5000))
        fault = self.ask(server).fault
        assert fault is not None
        assert fault.kind == "ambiguous"
        assert fault.code == "bad_response"

    # ------------------------------------------------------------------ faults

    @pytest.mark.parametrize(
        ("status", "name", "message", "kind"),
        [
            (429, "ThrottlingException", "Too many requests", "rate_limit"),
            (400, "ServiceQuotaExceededException", "Your quota is exceeded", "auth"),
            (408, "ModelTimeoutException", "Processing took too long", "ambiguous"),
            (424, "ModelErrorException", "The model failed", "transient"),
            (429, "ModelNotReadyException", "The model is being loaded", "transient"),
            (503, "ServiceUnavailableException", "Not available", "transient"),
            (403, "AccessDeniedException", "You don't have access to the model", "auth"),
            (400, "ValidationException", "The provided model identifier is invalid.", "gone"),
            (
                400,
                "ValidationException",
                "Invocation of model ID x with on-demand throughput isn't supported. Retry with "
                "the ID of an inference profile",
                "gone",
            ),
            (404, "ResourceNotFoundException", "Could not resolve the model", "gone"),
            (400, "ValidationException", "Malformed input request: extraneous key", "invalid"),
            (
                400,
                "ValidationException",
                "This request has been blocked by our content filters.",
                "refused",
            ),
        ],
    )
    def test_names_of_faults(
        self, server: Loopback, status: int, name: str, message: str, kind: str
    ) -> None:
        server.script(lambda _: error(status, name, message))
        fault = self.ask(server).fault
        assert fault is not None
        assert fault.kind == kind
        assert fault.code == name
        assert message[:40] in fault.message
        assert fault.request_id == "aws-request-error"
        assert ("credentials" in fault.message) == (status == 403)

    @pytest.mark.parametrize(
        ("raised", "kind"),
        [
            (aws.NoCredentialsError(), "auth"),
            (aws.CredentialRetrievalError(provider="sso", error_msg="expired"), "auth"),
            (aws.UnauthorizedSSOTokenError(), "auth"),
            (aws.ConnectTimeoutError(endpoint_url="https://x"), "transient"),
            (aws.EndpointConnectionError(endpoint_url="https://x"), "transient"),
            (aws.SSLError(endpoint_url="https://x", error="bad certificate"), "transient"),
            (aws.ProxyConnectionError(proxy_url="http://p"), "transient"),
            (aws.ReadTimeoutError(endpoint_url="https://x"), "ambiguous"),
            (aws.ConnectionClosedError(endpoint_url="https://x"), "ambiguous"),
            (aws.ResponseStreamingError(error="broken"), "ambiguous"),
            (aws.IncompleteReadError(actual_bytes=1, expected_bytes=2), "ambiguous"),
            (aws.ParamValidationError(report="modelId"), "invalid"),
        ],
    )
    def test_what_never_was_an_answer(self, raised: Exception, kind: str) -> None:
        provider = make_provider(variant("provider=bedrock_titan"))
        fault = provider.classify(raised)
        assert fault.kind == kind
        assert "\n" not in fault.message

    # ------------------------------------------------------------------ guardrails

    def test_a_guardrail_goes_along(self, server: Loopback) -> None:
        settings = self.settings(
            server,
            "+provider.options.guardrail.id=gr-17",
            "+provider.options.guardrail.version='3'",
            "+provider.options.guardrail.trace=ENABLED",
        )
        assert ask(settings, self.params()).pictures
        headers = server.calls()[0].headers
        assert headers["x-amzn-bedrock-guardrailidentifier"] == "gr-17"
        assert headers["x-amzn-bedrock-guardrailversion"] == "3"
        assert headers["x-amzn-bedrock-trace"] == "ENABLED"

    def test_a_guardrail_that_steps_in_is_a_refusal(self, server: Loopback) -> None:
        settings = self.settings(server, "+provider.options.guardrail.id=blocks-everything")
        answer = ask(settings, self.params()).answer
        assert answer is not None
        (missing,) = answer.outputs
        assert isinstance(missing, Missing)
        assert (missing.outcome, missing.kind) == ("refused", "guardrail")

    # ------------------------------------------------------------------ who is asked

    def test_identity_and_quota(self) -> None:
        def made(*overrides: str) -> tuple[object, str]:
            provider = make_provider(variant("provider=bedrock_titan", *overrides))
            return provider.identity(), provider.quota_key()

        here = made()
        elsewhere = made("+provider.options.region=us-east-1")
        other = made("+provider.options.profile=studio")
        assert here[0] == elsewhere[0] == other[0]
        assert len({here[1], elsewhere[1], other[1]}) == 3
        assert made("model=bedrock_titan/v1")[1] != here[1]
        assert made("+provider.options.guardrail.id=gr-17")[0] != here[0]


@pytest.fixture(autouse=True)
def _quiet_loggers() -> Iterator[None]:
    """Each test starts with boto's loggers as a program finds them."""
    for name in bedrock_client._TALKATIVE:
        logging.getLogger(name).setLevel(logging.NOTSET)
    yield
