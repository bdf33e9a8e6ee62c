"""Text of a cell: ``{column}`` templates and prompt styles."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from runner.plan.values import shown
from runner.settings.cell import Scalar
from runner.settings.errors import RequestError, did_you_mean, listed
from runner.settings.schema import PromptStyle

_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


@dataclass(frozen=True, slots=True)
class Template:
    """A text with places for the columns of a prompt file. ``{{`` and ``}}`` are braces.

    Attributes:
        parts: Literal texts, each with the column that follows it; ``None`` ends the text.
    """

    parts: tuple[tuple[str, str | None], ...]

    @classmethod
    def parse(cls, text: str, columns: Sequence[str], where: str) -> Template:
        """Read a template.

        Raises:
            RequestError: A column that the file does not have, or a lone brace.
        """
        parts: list[tuple[str, str | None]] = []
        literal, end = "", 0
        for token in _TOKEN.finditer(text):
            literal += text[end : token.start()]
            end = token.end()
            if token[0] in ("{{", "}}"):
                literal += token[0][0]
            elif token[1] is None:
                raise RequestError(
                    f"{where}: {shown(text)} has a lone '{token[0]}'; write {token[0] * 2} for a "
                    "brace"
                )
            elif token[1] not in columns:
                raise RequestError(
                    f"{where}: the prompt file has no column '{token[1]}'"
                    f"{did_you_mean(token[1], columns)} (columns: {listed(columns)}); "
                    "write {{ }} for braces"
                )
            else:
                parts.append((literal, token[1]))
                literal = ""
        return cls((*parts, (literal + text[end:], None)))

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it uses, in order of use."""
        return tuple(column for _, column in self.parts if column is not None)

    def render(self, row: Mapping[str, Scalar]) -> str:
        """The text for a row. A value that the row does not have becomes an empty text."""
        return "".join(
            literal if column is None else literal + text_of(row.get(column))
            for literal, column in self.parts
        )


def text_of(value: Scalar) -> str:
    """A value as a text: null is empty, true and false as in JSON, 7.0 is ``7``."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(int(value)) if value == value // 1 else repr(value)


def join_text(first: str, second: str) -> str:
    """Put two pieces of a prompt together with ``", "``.

    Where one piece already brings its own joint, that stays: white space at the seam is kept as
    it is, a piece that ends with punctuation is followed by a space, and a piece that begins
    with punctuation follows at once.
    """
    if not first or not second:
        return first or second
    if first[-1].isspace() or second[0].isspace() or second[0] in ",.;:!?)":
        return first + second
    return first + (" " if first[-1] in ",.;:!?-–—(" else ", ") + second


def styled(style: PromptStyle, prompt: str, negative_prompt: str | None) -> tuple[str, str | None]:
    """The prompt and the negative prompt with a style around them."""
    prompt = join_text(join_text(style.prefix, prompt), style.suffix)
    if style.negative_prompt:
        negative_prompt = join_text(negative_prompt or "", style.negative_prompt)
    return prompt, negative_prompt
