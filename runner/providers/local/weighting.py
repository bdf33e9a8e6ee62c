"""Words of a prompt that count more or less, and prompts longer than CLIP reads, through compel.

:class:`Weighting` stands in for ``encode_prompt`` of one pipeline object, as the memo of encoded
prompts does that is put before it: it encodes the texts and hands the original their embeddings.
A prompt without weights that is short enough is encoded bit by bit as without it.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

ENCODERS: Mapping[str, str] = {
    "stable-diffusion": "CompelForSD",
    "stable-diffusion-xl": "CompelForSDXL",
    "flux": "CompelForFlux",
}
"""Family to the class of compel that knows its text encoders."""

_OTHER_STYLE = re.compile(r":\s*(\d+(?:\.\d+)?)\s*\)")
_KEPT_TEXTS = 32
_KEPT_LENGTHS = 1 << 14


class Weighting:
    """Encodes prompts by compel.

    Args:
        pipe: The pipeline, on its device.
        family: Its family, one of :data:`ENCODERS`.
    """

    def __init__(self, pipe: DiffusionPipeline, family: str) -> None:
        compel = importlib.import_module("compel")
        self._pipe = pipe
        self._zeros = bool(pipe.config.get("force_zeros_for_empty_prompt"))
        self._encode = pipe.encode_prompt
        self.__signature__ = inspect.signature(self._encode)
        self._compel = getattr(compel, ENCODERS[family])(pipe, device=str(pipe._execution_device))
        self._embedded = lru_cache(_KEPT_TEXTS)(self._embed)
        self._tokens = lru_cache(_KEPT_LENGTHS)(lambda text: self._embedded(text, None)[0].shape[1])

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Encode as the original does."""
        asked = self.__signature__.bind(*args, **kwargs).arguments
        if not isinstance(asked.get("prompt"), list):
            return self._encode(**asked)
        texts = [(text, asked.get("prompt_2")) for text in asked["prompt"]]
        made = dict(zip(("prompt_embeds", "pooled_prompt_embeds"), self._rows(texts), strict=False))
        if asked.get("do_classifier_free_guidance"):
            given = asked.get("negative_prompt")
            # Without a negative prompt the original puts zeros where the model was trained so.
            if given is not None or not self._zeros:
                negatives = [
                    (text or "", asked.get("negative_prompt_2"))
                    for text in given or [""] * len(texts)
                ]
                rows = self._rows(negatives)
                made["prompt_embeds"], rows[0] = self._as_long(made["prompt_embeds"], rows[0])
                names = ("negative_prompt_embeds", "negative_pooled_prompt_embeds")
                made |= dict(zip(names, rows, strict=False))
        return self._encode(**asked | made)

    def lengths(self, prompt: str, negative_prompt: str | None) -> tuple[int, int]:
        """How many tokens come of both texts; images of one batch agree on it."""
        return self._tokens(prompt), self._tokens(negative_prompt or "")

    def _embed(self, text: str, style: str | None) -> tuple[Any, Any]:
        more = {} if style is None else {"style_prompt": [self._plain(style)]}
        found = self._compel([self._plain(text)], **more)
        return found.embeds, found.pooled_embeds

    def _plain(self, text: str) -> str:
        """``(word:1.2)``, as it is written elsewhere, in the words of compel: ``(word)1.2``."""
        text = _OTHER_STYLE.sub(r")\1", text)
        # Learned words of several vectors.
        return str(self._pipe.maybe_convert_prompt(text, self._pipe.tokenizer))

    def _rows(self, texts: list[tuple[str, str | None]]) -> list[Any]:
        """Embeddings of the texts, and the pooled ones where the family has them."""
        import torch

        columns = zip(*(self._embedded(*text) for text in texts), strict=True)
        return [torch.cat(column) for column in columns if column[0] is not None]

    def _as_long(self, one: Any, other: Any) -> list[Any]:
        """Fill the shorter of two up with embeddings of nothing."""
        import torch

        longest = max(one.shape[1], other.shape[1])
        nothing, _ = self._embedded("", None)
        return [
            torch.cat([part, *[nothing.expand(len(part), -1, -1)] * missing], dim=1)
            for part in (one, other)
            for missing in [(longest - part.shape[1]) // nothing.shape[1]]
        ]
