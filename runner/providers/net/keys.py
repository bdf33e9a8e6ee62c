"""API keys: found by name at call time, held so that they cannot be printed."""

from __future__ import annotations

import os
import re
from typing import NoReturn
from urllib.parse import quote

from runner.settings.errors import PrerequisiteError, RequestError
from runner.settings.schema import VariantSettings
from runner.settings.secrets import remember

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_SHORTEST_REDACTED = 6
"""Shorter values are no keys, and replacing them would riddle ordinary words."""


class Secret:
    """A value that does not print, format, compare or pickle; :meth:`reveal` is the only way in."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value
        remember(value)

    def reveal(self) -> str:
        """The value itself: for the header that carries it, and for nothing else."""
        return self._value

    def __repr__(self) -> str:
        return "***"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled")


class Keys:
    """Where a provider's key comes from: the variable that the user named, or the vendor's own.

    Args:
        settings: The variant; ``provider.api_key_env`` replaces the vendor's variables.
        variables: The vendor's documented variable and its well-known aliases, best first; none
            where the API has no keys.
        required: Whether a call without a key makes no sense.

    Raises:
        RequestError: ``provider.api_key_env`` is not the name of a variable.
    """

    def __init__(self, settings: VariantSettings, *variables: str, required: bool = True) -> None:
        self._provider = settings.provider.name
        self._required = required
        named = settings.provider.api_key_env
        if named is not None and not _VARIABLE.match(named):
            # The value may be the key itself, so it is not repeated.
            raise RequestError(
                "provider.api_key_env: this is not the NAME of an environment variable; put the "
                "key into a variable and give its name, such as provider.api_key_env="
                f"{variables[0] if variables else 'MY_KEY'}"
            )
        self.variables: tuple[str, ...] = variables if named is None else (named,)
        self._held: Secret | None = None
        self._found = Secret("")

    @property
    def variable(self) -> str:
        """The first variable that is set, else the documented one; empty where there is none."""
        return self._look()[0]

    def _look(self) -> tuple[str, str]:
        """:attr:`variable` and its value."""
        for name in self.variables:
            if value := os.environ.get(name, "").strip():
                return name, value
        return self.variables[0] if self.variables else "", ""

    def read(self) -> Secret | None:
        """The key as the environment has it now; ``None`` where none is needed and none is set.

        Raises:
            PrerequisiteError: It is missing, or cannot stand in a header.
        """
        variable, value = self._look()
        if value and value == self._found.reveal():
            return self._found
        if value and not (value.isascii() and value.isprintable()):
            raise PrerequisiteError(
                f"provider {self._provider}: the value of {variable} holds characters that no key "
                "has; set it again"
            )
        if value:
            self._found = Secret(value)
            return self._found
        if not self._required or not self.variables:
            return None
        first, *others = self.variables
        also = f" (or {', '.join(others)})" if others else ""
        raise PrerequisiteError(
            f"provider {self._provider}: no API key; set it with `export {first}=…`{also}, or name "
            "another variable with provider.api_key_env=NAME"
        )

    def hold(self, token: str) -> Secret:
        """Keep a token that came from elsewhere, so that it is taken out of texts like a key."""
        self._held = Secret(token)
        return self._held

    def redact(self, text: str) -> str:
        """The text with every value of these variables, and a held token, replaced by ``***``."""
        values = [os.environ.get(variable, "").strip() for variable in self.variables]
        if self._held is not None:
            values.append(self._held.reveal())
        for value in values:
            if len(value) >= _SHORTEST_REDACTED:
                for form in (value, quote(value, safe="")):
                    text = text.replace(form, "***")
        return text
