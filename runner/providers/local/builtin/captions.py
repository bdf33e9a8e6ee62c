"""Teach the text encoders what captions mean before any picture is involved.

A joint training from nothing spends most of its time finding out which words matter. Answering
what is where on the canvas from the text alone takes a minute or two and gives the transformer
text features that it can use at once.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from transformers import CLIPTextModelWithProjection, PreTrainedTokenizerFast

from runner.providers.local.builtin.scenes import COLOURS, PLACES, SHAPES, SIZES, Scene

_TABLES: dict[str, tuple[str, ...]] = {
    "shape": SHAPES,
    "colour": tuple(COLOURS),
    "size": tuple(SIZES),
}
_ANSWERS = tuple(1 + len(names) for names in _TABLES.values())


def encode(
    tokenizer: PreTrainedTokenizerFast,
    encoders: Sequence[CLIPTextModelWithProjection],
    captions: Sequence[str],
) -> tuple[Tensor, Tensor, Tensor]:
    """Encode captions as the pipeline does.

    Args:
        tokenizer: Words to numbers.
        encoders: The two text encoders.
        captions: Texts.

    Returns:
        Features per token, features per caption, and the position of each caption's last word.
    """
    ids = tokenizer(list(captions), padding="max_length", truncation=True, return_tensors="pt")[
        "input_ids"
    ]
    outputs = [encoder(ids, output_hidden_states=True) for encoder in encoders]
    tokens = torch.cat([output.hidden_states[-2] for output in outputs], dim=-1)
    pooled = torch.cat([output.text_embeds for output in outputs], dim=-1)
    return tokens, pooled, (ids == tokenizer.eos_token_id).int().argmax(-1)


class CaptionReader(nn.Module):  # type: ignore[misc]
    """Answers from a caption: the background, and for each place what is there, if anything."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        encoders: Sequence[CLIPTextModelWithProjection],
    ) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.encoders = nn.ModuleList(encoders)
        width = sum(encoder.config.projection_dim for encoder in encoders)
        answers = len(COLOURS) + len(PLACES) * sum(_ANSWERS)
        self.from_pooled = nn.Linear(width, answers)
        self.from_tokens = nn.Linear(width, answers)

    def loss(self, captions: Sequence[str], scenes: Sequence[Scene]) -> Tensor:
        """How wrong the answers are, from the caption's features and from its last token's."""
        tokens, pooled, ends = encode(self.tokenizer, self.encoders, captions)
        last = tokens[torch.arange(len(ends)), ends]
        backgrounds = torch.tensor([tuple(COLOURS).index(s.background) for s in scenes])
        truth = torch.tensor([_truth(scene) for scene in scenes])
        total = torch.zeros(())
        for answers in (self.from_pooled(pooled), self.from_tokens(last)):
            background, rest = answers.split([len(COLOURS), len(PLACES) * sum(_ANSWERS)], dim=-1)
            total = total + F.cross_entropy(background, backgrounds)
            by_place = rest.unflatten(-1, (len(PLACES), -1)).split(_ANSWERS, dim=-1)
            for i, guesses in enumerate(by_place):
                # A sum over places: most of them are empty, and an average would hide the others.
                total = total + len(PLACES) * F.cross_entropy(
                    guesses.flatten(0, 1), truth[:, :, i].flatten()
                )
        return total


def _truth(scene: Scene) -> list[list[int]]:
    """For each place, the numbers of shape, colour and size there; 0 where there is nothing."""
    things = {thing.place: thing for thing in scene.things}
    return [
        [
            1 + names.index(getattr(things[place], attribute)) if place in things else 0
            for attribute, names in _TABLES.items()
        ]
        for place in PLACES
    ]
