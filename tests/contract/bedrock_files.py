"""Input files of the Bedrock tests, and one call that is checked before it is sent."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from PIL import Image

from runner.providers.registry import make_provider
from runner.settings.cell import CellParams
from runner.settings.schema import VariantSettings
from tests.contract.support import Asked, ask
from tests.servers.loopback import picture

FROM_IMAGE = "pipeline=img2img pipeline.image=IMAGE"
MASKED = "pipeline=inpaint pipeline.image=IMAGE pipeline.mask=MASK"
CONTROLLED = "pipeline=controlnet pipeline.control_image=IMAGE"
"""Beginnings of operations on the command line."""


class Files:
    """A picture, further ones, and masks of its size."""

    def __init__(self, folder: Path, size: tuple[int, int] = (96, 64)) -> None:
        self._folder = folder
        self.size = size
        self.image = self.write("in.png", picture(3, size=size))

    def write(self, name: str, data: bytes) -> str:
        """A file in the folder; its path."""
        path = self._folder / name
        path.write_bytes(data)
        return str(path)

    def mask(self, left: int = 255, right: int = 0) -> str:
        """A mask whose left third has one grey and the rest another."""
        mask = Image.new("L", self.size, right)
        mask.paste(left, (0, 0, self.size[0] // 3, self.size[1]))
        path = self._folder / "mask.png"
        mask.save(path)
        return str(path)


def b64(path: str) -> str:
    """A file's content as base64."""
    return base64.b64encode(Path(path).read_bytes()).decode("ascii")


def checked(settings: VariantSettings, params: CellParams, n: int = 1) -> Asked:
    """One call whose cell the provider finds nothing wrong with."""
    provider = make_provider(settings)
    assert list(provider.check(params)) == []
    assert settings.pipeline.name in provider.capabilities().pipelines
    asked = ask(settings, params, n)
    assert asked.answer is not None, asked.fault
    return asked


def problems(settings: VariantSettings, **params: Any) -> list[str]:
    """What a provider finds wrong with a cell."""
    return list(make_provider(settings).check(CellParams(**params)))
