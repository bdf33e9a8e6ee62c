"""Files that are no pictures, or traps. What servers send: see ``tests/contract/hostile.py``."""

from __future__ import annotations

import ast
import io
import resource
from pathlib import Path

import pytest
from PIL import Image

from runner.images import BadImage, inspect
from runner.providers.registry import BUILT_IN
from tests.figures import Figures
from tests.servers.spoil import flipped, no_images, odd_images

OWN_WORK = frozenset({"fake", "diffusers"})
"""Providers that speak no HTTP."""


def test_every_provider_meets_hostile_answers() -> None:
    """Each has a contract, and so inherits them."""
    found = set()
    for path in (Path(__file__).resolve().parents[1] / "contract").glob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
                names = {target.id for target in node.targets if isinstance(target, ast.Name)}
                found |= {node.value.value} if "provider" in names else set()
    assert set(BUILT_IN) - OWN_WORK <= found


def peak_kb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def test_what_is_no_picture(figures: Figures) -> None:
    files = no_images()
    before = peak_kb()
    for name, data in files.items():
        for decoded in (False, True):
            with pytest.raises(BadImage):
                inspect(data, decode=decoded)
                pytest.fail(name)
        figures.add("files that are no pictures")
    assert peak_kb() - before < 100_000


def test_pictures_that_are_traps() -> None:
    traps = odd_images()
    before = peak_kb()
    assert inspect(traps["mislabelled"]).info.mime == "image/jpeg"
    assert inspect(traps["padded"]).info.mime == "image/png"
    assert inspect(traps["text bomb"], decode=False).info.width == 8  # its text is never unpacked
    with pytest.raises(BadImage):
        inspect(traps["text bomb"])
    assert peak_kb() - before < 100_000
    assert 190_000 < len(traps["text bomb"]) < 200_000


FORMATS = ("AVIF", "GIF", "JPEG", "PNG", "WEBP")


@pytest.mark.parametrize(
    ("kind", "frames"), [*((kind, 1) for kind in FORMATS), ("AVIF", 3), ("GIF", 3), ("WEBP", 3)]
)
def test_a_wrong_bit_anywhere(kind: str, frames: int, figures: Figures) -> None:
    """What is taken for a picture opens, and has the size that was read."""
    first, *more = (Image.new("RGB", (16, 12), (60 * at, 9, 200)) for at in range(frames))
    out = io.BytesIO()
    first.save(out, kind, save_all=frames > 1, append_images=more)
    data = out.getvalue()
    refused = 0
    for bit in range(0, 8 * len(data), figures.step(short=13)):
        spoiled = flipped(data, bit)
        figures.add("files with one wrong bit")
        try:
            info = inspect(spoiled, decode=False).info
        except BadImage:
            refused += 1
            continue
        with Image.open(io.BytesIO(spoiled), formats=FORMATS) as image:
            assert image.size == (info.width, info.height)
            image.verify()
    assert refused > 0
