"""What goes into a batch, image by image, and what comes out of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from runner.settings.cell import Json

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Item:
    """One image to compute.

    Attributes:
        prompt: The text.
        negative_prompt: The text, or ``None`` for the pipeline's own idea of nothing.
        seed: Start of this image's own noise.
        pictures: Input pictures by the pipeline's names for them, and their ``width`` and
            ``height``; a tuple holds one control image per ControlNet.
    """

    prompt: str
    negative_prompt: str | None
    seed: int
    pictures: Mapping[str, Any] = field(default_factory=dict)

    def group(self) -> tuple[object, ...]:
        """Items of one batch agree on this.

        No negative prompt and an empty one differ in some pipelines, and one call takes all or none
        of them; pictures of a batch have one size; several ControlNets take one set of images.
        """
        sizes = [
            (name, tuple(map(id, value)) if _is_set(value) else _size_of(value))
            for name, value in sorted(self.pictures.items())
        ]
        return (self.negative_prompt is not None, tuple(sizes))


@dataclass(frozen=True, slots=True)
class Sample:
    """One computed image.

    Attributes:
        pixels: Height x width x channels, 0 to 1.
        flagged: The pipeline's safety checker has blacked it out.
        warnings: What was said about it.
    """

    pixels: npt.NDArray[np.float32]
    flagged: bool
    warnings: tuple[str, ...]


def shape_of(item: Item, arguments: Mapping[str, Json]) -> object:
    """The size of an image, as far as the call tells it: how much memory it takes."""
    sizes = [_size_of(value) for value in item.pictures.values()]
    return tuple(sizes) or (arguments.get("width"), arguments.get("height"))


def _is_set(value: object) -> bool:
    """Whether a picture argument holds one image for each of several ControlNets."""
    return isinstance(value, tuple) and len(value) > 1


def _size_of(value: Any) -> object:
    single = value[0] if isinstance(value, tuple) else value
    return getattr(single, "size", single)


def gathered(items: Sequence[Item], name: str) -> Any:
    """One argument of a batch, from those of its items."""
    values = [item.pictures[name] for item in items]
    if isinstance(values[0], int):
        return values[0]
    if _is_set(values[0]):
        return list(values[0])
    return [value[0] if isinstance(value, tuple) else value for value in values]
