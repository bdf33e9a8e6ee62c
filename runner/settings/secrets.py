"""Secrets are named, never given: a config holds the name of an environment variable.

What is a secret is also known by its value: every key that was read, and what stands in variables
that are named like one. Whatever leaves the program as text (journal, manifest, terminal)
goes through :func:`redact` or :func:`redact_bytes` where it is written.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from typing import Any, TextIO
from urllib.parse import quote

from runner.settings.errors import RequestError

_SECRET_KEY = re.compile(
    r"(^|[._-])(api[_-]?key|key|token|secret|password|passwd|credentials?|authorization|bearer)$",
    re.IGNORECASE,
)
_SECRET_VALUE = re.compile(
    r"(\bsk-[A-Za-z0-9_-]{8,}|\bAKIA[A-Z0-9]{12,}|\bhf_[A-Za-z0-9]{16,}|\br8_[A-Za-z0-9]{16,}"
    r"|\bAIza[A-Za-z0-9_-]{20,}|\bgh[pousr]_[A-Za-z0-9]{20,}|-----BEGIN [A-Z ]*PRIVATE KEY-----"
    r"|\bBearer\s+[A-Za-z0-9._-]{8,})"
)

_SHORTEST = 12
"""Shorter values are no keys but words and numbers, and replacing them would riddle every text."""

_SHORTEST_IN_ENVIRONMENT = 16
"""The same for variables of which only the name says that they hold a secret."""

_MASK = "***"
_known: dict[str, bytes] = {}


def remember(value: str) -> None:
    """Let no text with this value leave the program, in any form that a writer gives it."""
    if len(value) >= _SHORTEST:
        for form in (value, quote(value, safe=""), json.dumps(value)[1:-1]):
            _known[form] = form.encode()


def remember_environment() -> None:
    """:func:`remember` what stands in variables that are named like a key, token or password."""
    for name, value in os.environ.items():
        text = value.strip()
        if len(text) >= _SHORTEST_IN_ENVIRONMENT and _SECRET_KEY.search(name) and " " not in text:
            remember(text)


def redact(text: str) -> str:
    """A text without the values of secrets."""
    for form in _known:
        if form in text:
            text = text.replace(form, _MASK)
    return text


def redact_bytes(data: bytes) -> bytes:
    """The same for text that is encoded already, as UTF-8 or ASCII."""
    for form in _known.values():
        if form in data:
            data = data.replace(form, _MASK.encode())
    return data


class RedactedStream:
    """A text stream that no secret passes; everything but writing is the stream's own."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, without secrets."""
        return self._stream.write(redact(text))

    def writelines(self, lines: list[str]) -> None:
        """Write, without secrets."""
        self._stream.writelines(map(redact, lines))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def looks_secret(key: str, value: object) -> bool:
    """Whether a key's name, a value's shape or the value itself say that this is a secret."""
    if not isinstance(value, str) or value.strip("'\" ") in {"", "null"}:
        return False
    return bool(_SECRET_KEY.search(key) or _SECRET_VALUE.search(value) or redact(value) != value)


def refuse_secret_overrides(overrides: list[str]) -> None:
    """Refuse command-line overrides that carry a key, before anything writes them down.

    Raises:
        RequestError: Names the key, never the value.
    """
    for override in overrides:
        key, separator, value = override.partition("=")
        if separator and looks_secret(key.lstrip("+~"), value):
            raise RequestError(_sentence(key.lstrip("+~")))


def refuse_secrets(data: Mapping[str, Any], prefix: str = "") -> None:
    """Refuse a composed config that carries a key anywhere.

    Raises:
        RequestError: Names the key, never the value.
    """
    for key, value in data.items():
        path = f"{prefix}.{key}" if prefix else str(key)
        if isinstance(value, Mapping):
            refuse_secrets(value, path)
        elif looks_secret(path, value):
            raise RequestError(_sentence(path))


def _sentence(key: str) -> str:
    return (
        f"{key}: a key, token or password does not belong in a config or on a command line; "
        "put it into an environment variable and give that variable's name with "
        "provider.api_key_env=NAME"
    )
