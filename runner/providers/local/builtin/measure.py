"""Measure how well the built-in model follows captions that it was never trained on.

    python -m runner.providers.local.builtin.measure

prints a table and writes nothing unless asked. The first two columns of figures are ceilings: the
same reading of true drawings, and of true drawings after the autoencoder.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline
from PIL import Image

from runner.providers.local.builtin import DEFAULTS, MODEL_DIR
from runner.providers.local.builtin.reading import judge, read
from runner.providers.local.builtin.scenes import Caption, Scene, describe, render, sample_scene

ATTRIBUTES = ("colour", "background", "shape", "place", "size", "count")

Figures = dict[str, tuple[int, int]]
"""For each attribute, how many claims hold and how many were made."""


def load_pipeline(folder: Path = MODEL_DIR) -> Any:
    """Load the pipeline in float32, without a T5 encoder."""
    pipeline = DiffusionPipeline.from_pretrained(
        folder, text_encoder_3=None, tokenizer_3=None, dtype=torch.float32, local_files_only=True
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def sample_captions(count: int, seed: int) -> list[tuple[Scene, Caption]]:
    """Held-out scenes with their captions, one thing and two things in turn."""
    rng = random.Random(f"measure {seed}")
    drawn = [sample_scene(rng, count=1 + i % 2, held=True) for i in range(count)]
    return [(scene, describe(scene, rng)) for scene in drawn]


def generate(
    pipeline: Any, prompts: Sequence[str], settings: Mapping[str, Any], seed: int, batch: int = 8
) -> Iterator[Image.Image]:
    """Make one picture per prompt, each with a generator of its own."""
    for start in range(0, len(prompts), batch):
        chunk = list(prompts[start : start + batch])
        generators = [
            torch.Generator("cpu").manual_seed(seed + start + i) for i in range(len(chunk))
        ]
        yield from pipeline(chunk, generator=generators, **settings).images


def reconstruct(pipeline: Any, image: Image.Image) -> Image.Image:
    """Pass a picture through the autoencoder."""
    pixels = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[None].float()
    with torch.no_grad():
        latents = pipeline.vae.encode(pixels / 127.5 - 1).latent_dist.mode()
        decoded = pipeline.vae.decode(latents).sample
    made: Image.Image = pipeline.image_processor.postprocess(decoded)[0]
    return made


def score(captions: Sequence[Caption], images: Sequence[Image.Image]) -> Figures:
    """Count the claims of the captions that hold in the pictures."""
    right: Counter[str] = Counter()
    made: Counter[str] = Counter()
    for caption, image in zip(captions, images, strict=True):
        for attribute, verdicts in judge(caption, read(image)).items():
            right[attribute] += sum(verdicts)
            made[attribute] += len(verdicts)
    return {attribute: (right[attribute], made[attribute]) for attribute in ATTRIBUTES}


def main(arguments: Sequence[str] | None = None) -> None:
    """Generate, read, count and print."""
    parser = argparse.ArgumentParser(
        prog="python -m runner.providers.local.builtin.measure",
        description=(__doc__ or "").partition("\n")[0],
    )
    parser.add_argument("--model", type=Path, default=MODEL_DIR, help="folder of the pipeline")
    parser.add_argument("--captions", type=int, default=400, help="how many held-out captions")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=DEFAULTS["num_inference_steps"])
    parser.add_argument("--guidance", type=float, default=DEFAULTS["guidance_scale"])
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--sheet", type=Path, help="write the pictures to this file")
    given = parser.parse_args(arguments)
    settings = {
        **DEFAULTS,
        "num_inference_steps": given.steps,
        "guidance_scale": given.guidance,
    }
    pipeline = load_pipeline(given.model)
    pairs = sample_captions(given.captions, given.seed)
    captions = [caption for _, caption in pairs]
    drawings = [render(scene, DEFAULTS["width"]) for scene, _ in pairs]
    started = time.monotonic()
    images = list(generate(pipeline, [c.text for c in captions], settings, given.seed))
    seconds = time.monotonic() - started
    columns = {
        "drawings": score(captions, drawings),
        "autoencoder": score(captions, [reconstruct(pipeline, image) for image in drawings]),
        "model": score(captions, images),
        "one thing": score(captions[::2], images[::2]),
        "two things": score(captions[1::2], images[1::2]),
    }
    print(
        f"{len(captions)} held-out captions, {given.steps} steps, guidance {given.guidance:g}, "
        f"seed {given.seed}: {seconds / len(captions):.2f} s a picture"
    )
    print(_table(columns))
    if given.json:
        given.json.write_text(json.dumps(columns, indent=2) + "\n", encoding="utf-8")
    if given.sheet:
        _sheet(images).save(given.sheet)


def _table(columns: Mapping[str, Figures]) -> str:
    lines = [
        f"| right | {' | '.join(columns)} | claims |",
        f"|---|{'---:|' * (len(columns) + 1)}",
    ]
    for attribute in ATTRIBUTES:
        cells = [
            f"{right / made:.1%}" if made else "-"
            for right, made in (figures[attribute] for figures in columns.values())
        ]
        claims = columns["model"][attribute][1]
        lines.append(f"| {attribute} | {' | '.join(cells)} | {claims} |")
    return "\n".join(lines)


def _sheet(images: Sequence[Image.Image], across: int = 16) -> Image.Image:
    side = images[0].width + 2
    sheet = Image.new("RGB", (across * side, -(-len(images) // across) * side), "white")
    for i, image in enumerate(images):
        sheet.paste(image, (i % across * side, i // across * side))
    return sheet


if __name__ == "__main__":
    main()
