"""What an HTTP answer or a broken connection means for a call: one table for every API.

A provider adds its own codes with :class:`FaultRules`; the shapes of error bodies that servers
use are all understood: ``{"error": {…}}``, ``{"error": "…"}``, ``{"detail": "…" | […]}``,
``{"code", "reason", "message"}``, plain text, HTML.
"""

from __future__ import annotations

import email.utils
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pydantic_core import from_json

from runner.providers.contract import FaultKind, ProviderError
from runner.providers.net.address import origin

_LONGEST_MESSAGE = 300
_TAG = re.compile(r"<(script|style).*?</\1>|<[^>]*>", re.IGNORECASE | re.DOTALL)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)s\Z")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f]+")

REFUSED = frozenset(
    {
        "moderation_blocked",
        "content_policy_violation",
        "content_filter",
        "content_moderation",
        "responsibleaipolicyviolation",
    }
)
"""Codes and types that mean a refusal wherever they are seen."""

NO_CREDIT = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})
"""Codes that mean: no money, and no retry will help."""

GONE = frozenset({"model_not_found", "deploymentnotfound", "model_deprecated", "model_retired"})
"""Codes that mean: this model is not here, or no longer."""


@dataclass(frozen=True, slots=True)
class ErrorText:
    """What an error body says.

    Attributes:
        message: One line, shortened; empty if it says nothing.
        codes: Every code and type in it, as written, the most telling first.
        retry_after_s: Seconds to wait, where the body says so: Google's ``RetryInfo``.
    """

    message: str
    codes: tuple[str, ...] = ()
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultRules:
    """What a provider's own codes mean, besides the common ones. Lower case throughout.

    Attributes:
        refused: Codes or types of a safety refusal.
        refused_words: Words in the message that mean a refusal, for servers that lose the code.
        no_credit: Codes of an empty account.
        no_credit_words: Words in the message that mean one, for servers without such a code.
        auth: Codes of a key or account that is not accepted, where the status does not say so.
        gone: Codes of a model that is not offered.
        gone_words: Words in the message that mean one, for servers without such a code.
        invalid_words: Words in the message of a wrong request, for servers that answer it with 500.
        statuses: HTTP statuses that mean something else here than usual.
    """

    refused: frozenset[str] = frozenset()
    refused_words: tuple[str, ...] = ()
    no_credit: frozenset[str] = frozenset()
    no_credit_words: tuple[str, ...] = ()
    auth: frozenset[str] = frozenset()
    gone: frozenset[str] = frozenset()
    gone_words: tuple[str, ...] = ()
    invalid_words: tuple[str, ...] = ()
    statuses: Mapping[int, FaultKind] | None = None


COMMON_RULES = FaultRules()
"""Nothing beyond the common codes."""


def error_text(body: object) -> ErrorText:
    """Read an error body of any known shape.

    Args:
        body: Bytes as they came, or what an SDK parsed from them.
    """
    if isinstance(body, (bytes, bytearray)):
        text = bytes(body).decode("utf-8", "replace")
        try:
            body = from_json(bytes(body))
        except ValueError:
            return ErrorText(one_line(_TAG.sub(" ", text)))
    if not isinstance(body, Mapping):
        return ErrorText(one_line(_words(body)))
    inner = body.get("error", body)
    if not isinstance(inner, Mapping):
        words = body.get("message")
        if isinstance(inner, str) and isinstance(words, str) and " " not in inner:
            return ErrorText(one_line(words), (inner, *_codes(body)))
        return ErrorText(one_line(_words(inner)), _codes(body))
    deeper = inner.get("inner_error", inner.get("innererror"))
    nested = _codes(deeper) if isinstance(deeper, Mapping) else ()
    found = inner.get("details", inner.get("detail"))
    details = (
        [item for item in found if isinstance(item, Mapping)] if isinstance(found, list) else []
    )
    for item in details:
        nested += _codes(item)
    waits = [wait for item in details if (wait := _seconds(item.get("retryDelay"))) is not None]
    message = next(
        (
            inner[key]
            for key in ("message", "detail", "reason", "error", "errors")
            if inner.get(key)
        ),
        "",
    )
    codes = (*_codes(inner), *nested)
    return ErrorText(one_line(_words(message)), codes, max(waits, default=None))


def _seconds(text: object) -> float | None:
    """A duration as Google writes it: ``7s`` or ``0.5s``."""
    match = _DURATION.match(text) if isinstance(text, str) else None
    return float(match[1]) if match else None


def one_line(text: str) -> str:
    """Text for a message: no control characters, no line breaks, not too long."""
    text = " ".join(_UNPRINTABLE.sub(" ", text).split())
    return text if len(text) <= _LONGEST_MESSAGE else f"{text[: _LONGEST_MESSAGE - 1]}…"


def _codes(body: Mapping[object, object]) -> tuple[str, ...]:
    found = (body.get(key) for key in ("code", "type", "error_type", "name", "status", "reason"))
    texts = (str(code) for code in found if isinstance(code, (str, int)))
    return tuple(text for text in texts if _is_code(text))


def _is_code(text: str) -> bool:
    return 0 < len(text) <= 80 and " " not in text and text.isprintable()


def _words(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return "; ".join(_words(item) for item in value)
    if isinstance(value, Mapping):
        place = value.get("loc")
        where = ".".join(map(str, place)) if isinstance(place, (list, tuple)) else ""
        said = str(value.get("msg") or value.get("message") or "")
        return f"{where}: {said}" if where else said
    return "" if value is None else str(value)


def status_fault(
    status: int,
    headers: Mapping[str, str],
    body: object,
    rules: FaultRules,
    redact: Callable[[str], str] = str,
) -> ProviderError:
    """Name the kind of an HTTP answer that is not a success.

    Args:
        status: HTTP status.
        headers: Of the answer; looked up without regard to case.
        body: See :func:`error_text`.
        rules: The provider's own codes.
        redact: Takes keys out of a text.
    """
    said = error_text(body)
    message = redact(said.message)
    lower = {name.lower(): value for name, value in headers.items()}
    code = next((code for code in said.codes if not code.isdigit()), str(status))
    kind = _kind(status, said, rules)
    if 300 <= status < 400:
        place = origin(lower.get("location", ""))
        message = f"a redirect to {place}, which is not followed: check provider.base_url"
    elif status == 401:
        # Servers repeat parts of the key in this message.
        message = "the key was not accepted"
    return ProviderError(
        kind,
        f"HTTP {status} {'' if code == str(status) else code}".rstrip()
        + (f": {message}" if message else ""),
        code=code,
        retry_after=retry_after(lower) if said.retry_after_s is None else said.retry_after_s,
        request_id=request_id(lower),
    )


def _kind(status: int, said: ErrorText, rules: FaultRules) -> FaultKind:
    codes = {code.lower() for code in said.codes}
    words = said.message.lower()

    def said_any(of: tuple[str, ...]) -> bool:
        return any(word in words for word in of)

    if codes & (REFUSED | rules.refused) or said_any(rules.refused_words):
        return "refused"
    if status == 402 or codes & (NO_CREDIT | rules.no_credit) or said_any(rules.no_credit_words):
        return "auth"
    if rules.statuses and status in rules.statuses:
        return rules.statuses[status]
    if codes & (GONE | rules.gone) or said_any(rules.gone_words):
        return "gone"
    if said_any(rules.invalid_words):
        return "invalid"
    if status in {404, 410} or 300 <= status < 400:
        return "gone"
    if status in {401, 403, 407} or codes & rules.auth:
        return "auth"
    if status in {429, 529}:
        return "rate_limit"
    if status in {504, 524}:
        # A gateway gave up waiting: the model may well have finished, and billed.
        return "ambiguous"
    if status in {408, 409, 425} or status >= 500:
        return "transient"
    return "invalid"


def request_id(headers: Mapping[str, str]) -> str | None:
    """The provider's id of a request, from lower-case header names."""
    for name in (
        "x-request-id",
        "request-id",
        "x-ms-request-id",
        "apim-request-id",
        "x-litellm-call-id",
        "cf-ray",
    ):
        if headers.get(name):
            return headers[name][:200]
    return None


def retry_after(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """Seconds that the server asked us to wait, from lower-case header names.

    Understands ``retry-after-ms``, and ``retry-after`` in seconds or as an HTTP date. A date in
    the past is 0; a negative or unreadable value is as if it were not there.

    Args:
        headers: Of the answer.
        now: Seconds since 1970; the clock's time by default.
    """
    milliseconds, seconds = headers.get("retry-after-ms"), headers.get("retry-after")
    for text, unit in ((milliseconds, 0.001), (seconds, 1.0)):
        try:
            wait = float(text or "nan") * unit
        except ValueError:
            continue
        if 0 <= wait < float("inf"):
            return wait
    try:
        date = email.utils.parsedate_to_datetime(seconds or "")
    except ValueError:
        return None
    return max(0.0, date.timestamp() - (time.time() if now is None else now))


def network_fault(error: BaseException) -> ProviderError | None:
    """Name the kind of a broken connection; ``None`` if the exception is something else.

    A connection that never came about is ``transient``: nothing was sent. One that broke
    afterwards is ``ambiguous``: the server may have worked, and may bill.
    """
    import aiohttp

    for link in _chain(error):
        if isinstance(link, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)):
            return ProviderError("transient", one_line(str(link)), code="no_connection")
    for link in _chain(error):
        if isinstance(link, TimeoutError):
            return ProviderError("ambiguous", "no answer in time", code="timeout")
        if isinstance(link, (aiohttp.ClientError, ConnectionError, EOFError)):
            return ProviderError(
                "ambiguous",
                f"the connection broke before the whole answer came ({type(link).__name__})",
                code="disconnected",
            )
    return None


def _chain(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return found


def bad_response(what: str, request_id: str | None = None) -> ProviderError:
    """A success status with a body that is no answer: billed perhaps, so never sent again blindly.

    Args:
        what: What came instead, as the end of a sentence: ``an HTML page``.
        request_id: The provider's id of the request.
    """
    return ProviderError(
        "ambiguous", f"answered with {what}", code="bad_response", request_id=request_id
    )
