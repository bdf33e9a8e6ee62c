"""The AWS environment of contract tests: fixed credentials, no file, no metadata service."""

from __future__ import annotations

import pytest

from tests.servers.bedrock import ACCESS_KEY_ID, BedrockServer

VARIABLES = ("AWS_SECRET_ACCESS_KEY", "AWS_BEARER_TOKEN_BEDROCK")
"""The secret that signs, and the key that is sent instead where there is one."""


@pytest.fixture(autouse=True)
def aws_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything of AWS's chain but the secret itself; the suite sets and takes that away."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID)
    monkeypatch.setenv("AWS_REGION", BedrockServer.region)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
