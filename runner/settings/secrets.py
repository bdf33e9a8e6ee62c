"""Secrets are named, never given: a config holds the name of an environment variable."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

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


def looks_secret(key: str, value: object) -> bool:
    """Whether a key's name or a value's shape says that this is a key, token or password."""
    if not isinstance(value, str) or value.strip("'\" ") in {"", "null"}:
        return False
    return bool(_SECRET_KEY.search(key) or _SECRET_VALUE.search(value))


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
