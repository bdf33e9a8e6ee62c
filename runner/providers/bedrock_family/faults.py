"""What boto3's exceptions mean for a call."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from runner.providers.contract import ProviderError
from runner.providers.net import FaultRules, one_line
from runner.providers.net.faults import status_fault

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

RULES = FaultRules(
    # A refused input comes as a ValidationException, like any wrong field.
    refused_words=("content filter", "content moderation", "responsible ai"),
    no_credit=frozenset({"servicequotaexceededexception"}),
    gone=frozenset({"resourcenotfoundexception"}),
    # 408 is the model that took too long, and may be billed; 424 the model that failed.
    statuses={408: "ambiguous", 424: "transient"},
)

_GONE_WORDS = ("model identifier is invalid", "end of its life", "on-demand throughput isn")
"""Words of a ValidationException that is no fault of this one request."""


def answered(error: ClientError, redact: Callable[[str], str]) -> ProviderError:
    """An answer that is no success."""
    said, about = error.response.get("Error", {}), error.response.get("ResponseMetadata", {})
    fault = status_fault(
        about.get("HTTPStatusCode", 500),
        about.get("HTTPHeaders", {}),
        {"code": said.get("Code"), "message": said.get("Message")},
        RULES,
        redact,
    )
    if fault.kind == "invalid" and any(word in fault.message.lower() for word in _GONE_WORDS):
        fault.kind = "gone"
    elif fault.code == "ModelNotReadyException":  # a 429 that no slower pace helps
        fault.kind = "transient"
    fault.request_id = about.get("RequestId") or fault.request_id
    return fault


def unanswered(error: Exception) -> ProviderError | None:
    """A call that got no answer; ``None`` if the exception is something else."""
    from botocore import exceptions as aws
    from urllib3.exceptions import HTTPError

    never = (
        aws.EndpointConnectionError,
        aws.ConnectTimeoutError,
        aws.ProxyConnectionError,
        aws.SSLError,
    )
    locked = (
        aws.NoCredentialsError,
        aws.PartialCredentialsError,
        aws.CredentialRetrievalError,
        aws.TokenRetrievalError,
        aws.SSOError,
        aws.LoginError,
    )
    if isinstance(error, never):
        return ProviderError("transient", one_line(str(error)), code="no_connection")
    if isinstance(error, aws.ReadTimeoutError):
        return ProviderError("ambiguous", "no answer in time", code="timeout")
    if isinstance(error, (aws.HTTPClientError, aws.IncompleteReadError, HTTPError)):
        return ProviderError(
            "ambiguous",
            f"the connection broke before the whole answer came ({type(error).__name__})",
            code="disconnected",
        )
    if isinstance(error, locked):
        return ProviderError("auth", one_line(str(error)), code=type(error).__name__)
    return None
