"""Run folders made up for the tests of the report: real files, drawn pictures, no provider."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import itertools
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageOps

from runner.record.derive import flat
from runner.record.journal import to_json
from runner.record.manifest import Manifest, write_manifest
from runner.record.paths import RunPaths, image_name
from runner.record.rows import FailureRow, ImageRow
from runner.settings.cell import Scalar

PROMPTS = (
    "a lighthouse on a cliff at dawn, long exposure, soft fog rolling over the sea",
    "a fox asleep under a birch",
    "three red kites above dunes, 35 mm film",
    "an empty tram depot at night",
)
MODELS = {
    "openai": "gpt-image-1.5",
    "google_ai_studio": "gemini-3-pro-image",
    "diffusers": "builtin",
}
PRICES = {"openai": 0.042, "google_ai_studio": 0.039, "diffusers": 0.0}
HOSTILE = (
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "\"'><img src=x onerror=alert(1)>",
    "{{ 7 * 7 }}{% raw %}",
    "javascript:alert(1)",
    "\u202eright to left\u202c مرحبا بالعالم",
    "🦊🏳️‍🌈\U0001f469\u200d\U0001f692",
    "line\nbreak\ttab\r\x00\x1b[31m",
    "half a pair \ud83d",
    "long " * 2500,
    "</style><style>*{display:none}",
    "]]>&amp;&lt;",
)
"""What a prompt or a provider may say to break out of a page."""


def picture(prompt: str, seed: int, size: tuple[int, int], mood: int = 0) -> Image.Image:
    """A landscape whose colours come from the prompt and the mood, its hills from the seed."""
    width, height = size
    hue = (208, 250, 332, 8, 186, 290)[hashlib.sha256(prompt.encode()).digest()[0] % 6]
    rng = random.Random(f"{prompt}{seed}")

    def colour(offset: float, saturation: int, light: int) -> str:
        return f"hsl({(hue + offset + mood * 9) % 360:.0f},{saturation}%,{light}%)"

    sky = Image.linear_gradient("L").resize(size)
    image = ImageOps.colorize(sky, colour(0, 42, 46), colour(24, 62, 84)).convert("RGB")
    draw = ImageDraw.Draw(image)
    radius = width * rng.uniform(0.06, 0.13)
    x, y = width * rng.uniform(0.2, 0.8), height * rng.uniform(0.2, 0.45)
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour(36, 80, 94))
    for layer in range(4):
        base = height * (0.5 + 0.13 * layer)
        points = [(0.0, float(height))]
        level = base
        for step in range(13):
            level = base + (level - base) * 0.5 + rng.uniform(-0.09, 0.07) * height
            points.append((width * step / 12, level))
        points.append((float(width), float(height)))
        draw.polygon(points, fill=colour(8 * layer, 34, 52 - 11 * layer))
    return image


def encode(image: Image.Image, fmt: str = "PNG") -> bytes:
    """The bytes of a picture."""
    buffer = io.BytesIO()
    image.save(buffer, fmt, compress_level=1)
    return buffer.getvalue()


def fake_id(*parts: object) -> str:
    """64 hex digits that stand for a cell id."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()


class RunFolder:
    """Writes a run folder, row by row.

    Args:
        root: The folder; made if it is missing.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.images: list[ImageRow] = []
        self.failures: list[FailureRow] = []
        (root / "images").mkdir(parents=True, exist_ok=True)

    def add_image(
        self,
        data: bytes,
        *,
        axes: Mapping[str, Scalar],
        prompt: str = "a prompt",
        provider: str = "diffusers",
        suffix: str = ".png",
        size: tuple[int, int] = (64, 64),
        **more: object,
    ) -> ImageRow:
        """Write the file and keep its row."""
        index = len(self.images) + len(self.failures)
        identity = fake_id(index, prompt, dict(axes), more.get("image_index"))
        name = image_name(index, identity, suffix)
        target = self.root / "images" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        fields: dict[str, object] = {
            "file_name": name,
            "cell_id": identity,
            "index": index,
            "image_index": 0,
            "variant": list(MODELS).index(provider) if provider in MODELS else 0,
            "provider": provider,
            "model": MODELS.get(provider, "m"),
            "prompt": prompt,
            "axes": dict(axes),
            "width": size[0],
            "height": size[1],
            "mime": {".jpg": "image/jpeg"}.get(suffix, "image/png"),
            "bytes": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
            "started_at": "2026-11-01T14:03:22.117+00:00",
            "latency_s": 1.25,
            "cost_usd": 0.0,
            "cost_basis": "free",
        }
        row = ImageRow(**{**fields, **more})  # type: ignore[arg-type]
        self.images.append(row)
        return row

    def add_failure(self, **fields: object) -> FailureRow:
        """Keep the row of a cell without an image."""
        index = len(self.images) + len(self.failures)
        base: dict[str, object] = {
            "index": index,
            "cell_id": fake_id(index, fields),
            "variant": 0,
            "provider": "openai",
            "model": MODELS["openai"],
            "outcome": "failed",
            "kind": "rate_limit",
            "started_at": "2026-11-01T14:03:29.420+00:00",
        }
        row = FailureRow(**{**base, **fields})  # type: ignore[arg-type]
        self.failures.append(row)
        return row

    def write(self, **changes: Any) -> Path:
        """Write the rows and the manifest, as the record writes them.

        Returns:
            The run folder.
        """
        paths = RunPaths(self.root)
        _write_lines(paths.metadata, self.images)
        _write_lines(paths.failures, self.failures)
        rows: list[ImageRow | FailureRow] = [*self.images, *self.failures]
        variants = {row.variant: row for row in rows}
        outcomes = [row.outcome for row in self.failures]
        manifest = {
            "run_id": self.root.name,
            "command": ("-m", "seed=range(0,4)", "prompt=a fox,a cat"),
            "status": "incomplete" if self.failures else "done",
            "started_at": "2026-11-01T14:03:21.250+00:00",
            "ended_at": "2026-11-01T14:04:33.750+00:00",
            "plan_hash": "0" * 64,
            "cells": len(rows),
            "counts": {"done": len(self.images), **Counter(outcomes)},
            "cost_usd": sum(row.cost_usd or 0 for row in self.images),
            "cost_basis": "price_book",
            "variants": [
                {"index": index, "provider": row.provider, "model": row.model}
                for index, row in sorted(variants.items())
            ],
            "code": {"version": "0.1.0"},
            "machine": {"python": "3.12.1", "platform": "Linux x86_64"},
            "recipes": {"9f2c11d0": {"dtype": "float32", "batch_size": 4, "device": "cpu"}},
        }
        write_manifest(paths, Manifest.model_validate({**manifest, **changes}))
        return self.root


def _write_lines(path: Path, rows: Iterable[ImageRow | FailureRow]) -> None:
    text = "".join(to_json(flat(row), ascii_only=False) + "\n" for row in rows)
    path.write_bytes(text.encode("utf-8", "replace"))


def comparison(root: Path, *, large: int = 512, prompts: Sequence[str] = PROMPTS) -> Path:
    """3 providers × prompts × 4 seeds, with a refusal, two failures, retries and a warning."""
    run = RunFolder(root)
    for mood, (provider, model) in enumerate(MODELS.items()):
        for (row, prompt), seed in itertools.product(enumerate(prompts), range(4)):
            axes: dict[str, Scalar] = {"prompt": prompt, "seed": seed}
            common = {"axes": axes, "prompt": prompt, "provider": provider}
            if provider == "openai" and (row, seed) in {(2, 1), (3, 3)}:
                kind, code = ("rate_limit", "429") if row == 3 else ("content_filter", "moderation")
                run.add_failure(
                    **common,
                    outcome="failed" if row == 3 else "refused",
                    kind=kind,
                    code=code,
                    message="Your request was rejected by the safety system. If you believe this "
                    "is an error, contact support."
                    if row == 2
                    else "Rate limit reached for "
                    "images per minute: limit 5, used 5. Waited 3 times; gave up after 4 tries.",
                    attempts=4 if row == 3 else 1,
                    request_id=f"req_{fake_id(row, seed)[:20]}",
                )
                continue
            local = provider == "diffusers"
            size = (64, 64) if local else (large, large)
            rng = random.Random(f"{provider}{row}{seed}")
            run.add_image(
                encode(picture(prompt, seed, size, mood)),
                **common,
                size=size,
                seed=seed,
                seed_sent=seed if local else None,
                steps=8 if local else None,
                guidance_scale=4.0 if local else None,
                quality=None if local else "medium",
                model_reported=None if local else f"{model}-2026-09-12",
                revised_prompt=f"A photograph: {prompt}, in careful natural light."
                if provider == "openai"
                else None,
                params_sent={"num_inference_steps": 8, "guidance_scale": 4.0}
                if local
                else {"quality": "medium", "size": f"{large}x{large}", "n": 1},
                params_effective={} if local else {"quality": "medium", "output_format": "png"},
                params_dropped=() if local else ("seed",),
                warnings=("The prompt was cut after 77 tokens.",) if row == 0 and local else (),
                request_id=None if local else f"req_{fake_id(provider, row, seed)[:20]}",
                recipe="9f2c11d0" if local else None,
                attempts=2 if (provider, row, seed) == ("google_ai_studio", 1, 2) else 1,
                latency_s=round(rng.uniform(0.2, 0.4) if local else rng.uniform(6, 14), 3),
                cost_usd=PRICES[provider],
                cost_basis="free" if local else "usage" if provider == "openai" else "price_book",
                marks=() if local else ("c2pa",),
            )
    return run.write()


def single_wall(root: Path, count: int = 4) -> Path:
    """The first run that a person makes: one prompt, a few 64 px pictures, no axis."""
    run = RunFolder(root)
    prompt = "a red circle above a blue square"
    for number in range(count):
        run.add_image(
            encode(picture(prompt, number, (64, 64))),
            axes={"prompt": prompt, "steps": 8},
            prompt=prompt,
            image_index=number,
            seed=7 + number,
            seed_sent=7 + number,
            steps=8,
            guidance_scale=4.0,
            params_sent={"num_inference_steps": 8, "guidance_scale": 4.0},
            recipe="9f2c11d0",
            latency_s=0.31,
        )
    return run.write(command=())


def many(root: Path, rows: int = 250, columns: int = 40) -> Path:
    """rows × columns cells over a few dozen pictures, one failure in 97 cells."""
    run = RunFolder(root)
    pictures = [encode(picture(f"p{hue}", 1, (64, 64), hue)) for hue in range(24)]
    names: dict[int, ImageRow] = {}
    for row, seed in itertools.product(range(rows), range(columns)):
        prompt = f"prompt {row}: a harbour with {row % 7 + 1} boats from the {row} m mark"
        axes: dict[str, Scalar] = {"prompt": prompt, "seed": seed}
        index = row * columns + seed
        if index % 97 == 96:
            run.add_failure(
                axes=axes,
                prompt=prompt,
                provider="diffusers",
                model="builtin",
                variant=2,
                message="Too many requests.",
            )
            continue
        which = (row * 7 + seed) % len(pictures)
        more = {"seed": seed, "prompt": prompt, "axes": axes, "latency_s": 0.5 + which / 10}
        if which not in names:
            names[which] = run.add_image(pictures[which], **more)  # type: ignore[arg-type]
        else:
            run.images.append(
                dataclasses.replace(
                    names[which],
                    index=index,
                    cell_id=fake_id(index),
                    **more,  # type: ignore[arg-type]
                )
            )
    return run.write()
