"""The memos: what they ask of text encoders and autoencoder, and how much they keep."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("diffusers")

import torch

from runner.providers.local.memo import PromptMemo
from tests import tiny
from tests.local.drawings import Drawings
from tests.local.driver import cell, distinct, opened

Folder = Callable[[tiny.Family], Path]


class Encoder:
    """An ``encode_prompt`` that counts rows, with outputs of every shape that pipelines have."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    def encode_prompt(
        self,
        prompt: str | list[str],
        device: torch.device | None = None,
        num_images_per_prompt: int = 1,
        negative_prompt: list[str] | None = None,
        prompt_embeds: torch.Tensor | None = None,
        clip_skip: int | None = None,
    ) -> tuple[Any, ...]:
        prompts = [prompt] if isinstance(prompt, str) else prompt
        self.batches.append(list(prompts))
        rows = torch.tensor([[len(text), len(prompts), clip_skip or 0] for text in prompts])
        ids = torch.arange(6).reshape(6, 1)  # No image axis, as FLUX's text ids.
        per_image = [torch.ones(len(text)) for text in prompts]  # As Z-Image's.
        negative = None if negative_prompt is None else rows * 2
        return rows, negative, ids, per_image


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def memo(limit_bytes: int = 1 << 20) -> tuple[PromptMemo, Encoder]:
    encoder = Encoder()
    return PromptMemo(encoder.encode_prompt, limit_bytes), encoder


def test_each_prompt_is_encoded_once_in_full_batches() -> None:
    encode, encoder = memo()
    encode(["a", "bb", "a", "bb"], torch.device("cpu"))
    encode(["bb", "ccc", "a", "ccc"], torch.device("cpu"))
    encode(["a", "bb", "ccc", "a"], torch.device("cpu"))
    assert encoder.batches == [["a", "bb", "bb", "bb"], ["ccc", "ccc", "ccc", "ccc"]]


def test_outputs_equal_those_of_the_original() -> None:
    encode, encoder = memo()
    for prompts in (["a", "bb", "ccc"], ["ccc", "a", "a"], ["dddd", "bb", "a"]):
        got = encode(prompts, negative_prompt=["x", "y", "z"])
        assert same(got, encoder.encode_prompt(prompts, negative_prompt=["x", "y", "z"]))
        assert same(encode(prompts), encoder.encode_prompt(prompts))


@pytest.mark.parametrize(
    "other",
    [
        {"negative_prompt": ["x", "x"]},
        {"clip_skip": 1},
        {"prompt": ["a", "bb"], "negative_prompt": ["", ""]},
    ],
)
def test_whatever_the_row_depends_on_is_in_its_key(other: dict[str, Any]) -> None:
    encode, encoder = memo()
    encode(["a", "bb"])
    encode(**({"prompt": ["a", "bb"]} | other))
    assert len(encoder.batches) == 2


def test_batch_size_is_in_the_key_for_it_changes_bits() -> None:
    encode, encoder = memo()
    encode(["a"])
    encode(["a", "a"])
    assert encoder.batches == [["a"], ["a", "a"]]


@pytest.mark.parametrize(
    "arguments",
    [
        {"prompt": "a"},
        {"prompt": ["a"], "num_images_per_prompt": 2},
        {"prompt": ["a"], "prompt_embeds": torch.ones(1)},
        {"prompt": ["a", "b"], "negative_prompt": ["only one"]},
    ],
)
def test_what_is_not_plain_texts_goes_to_the_original(arguments: dict[str, Any]) -> None:
    encode, encoder = memo()
    encode(**arguments)
    encode(**arguments)
    assert len(encoder.batches) == 2


def test_memory_is_bounded_and_the_oldest_go_first() -> None:
    row = 3 * 8 + 6 * 8 + 8  # rows, ids and per_image in bytes of a one-letter prompt
    encode, encoder = memo(2 * row)
    for prompt in "abacab":
        encode([prompt] * 2)
    # c drops b, the least recently used; a stays; b comes again and drops c.
    assert [batch[0] for batch in encoder.batches] == ["a", "b", "c", "b"]


def test_no_memory_still_encodes_each_batch_once() -> None:
    encode, encoder = memo(0)
    for _ in range(2):
        assert same(encode(["a", "a"])[0], torch.tensor([[1, 2, 0], [1, 2, 0]]))
    assert len(encoder.batches) == 2


def calls_of(network: torch.nn.Module) -> list[int]:
    """Rows of every batch that goes through a network from now on."""
    rows: list[int] = []
    network.register_forward_hook(lambda _, given, made: rows.append(len(given[0])))
    return rows


@pytest.mark.parametrize("family", ["sd15", "sd3"])
def test_a_sweep_encodes_each_prompt_once(family: tiny.Family, tiny_folder: Folder) -> None:
    with opened(tiny_folder(family), batch_size=2) as driver:
        encoded = calls_of(driver.pipe.text_encoder)
        prompts = ["a red fox", "a black cat"]
        for seed in range(3):
            driver.files(*(cell(prompt, seed) for prompt in prompts))
        # One batch of both prompts, and one of their negative ones.
        assert encoded == [2, 2]
        driver.files(cell("the blue sea", 1), cell("a red fox", 1))
        assert encoded == [2, 2, 2, 2]
        driver.files(cell("the blue sea", 2), cell("a black cat", 2))
        assert encoded == [2, 2, 2, 2]


@pytest.mark.parametrize("kind", ["img2img", "inpaint"])
def test_an_input_picture_is_encoded_once(
    kind: str, tiny_folder: Folder, drawings: Drawings
) -> None:
    job = {"image": drawings.image, "strength": 1.0}
    if kind == "inpaint":
        job["mask"] = drawings.mask
    cells = [cell("a red fox", seed, **job) for seed in range(4)]
    with opened(tiny_folder("sd15"), batch_size=2, pipeline=kind) as driver:
        encoded = calls_of(driver.pipe.vae.encoder)
        files = driver.files(*cells[:2]) + driver.files(*cells[2:])
        assert encoded == [1] * len(encoded)
        once = len(encoded)
        other = cell("a red fox", 0, **job | {"image": drawings.other})
        driver.files(other)
        assert len(encoded) == 2 * once
        assert once == (2 if kind == "inpaint" else 1)  # also what the mask leaves of it
    with opened(tiny_folder("sd15"), batch_size=2, pipeline=kind) as driver:
        assert driver.files(*cells[2:]) == files[2:]
    assert distinct(files)
