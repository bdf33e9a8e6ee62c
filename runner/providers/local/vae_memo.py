"""A memo of encoded pictures: each input picture goes through the autoencoder once.

:class:`PictureMemo` stands in for ``vae.encode``. What it keeps is the distribution of a picture's
latents, not a sample of it, so every image still draws its own noise from its own generator.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

_KEPT = 32
"""Pictures that are remembered; the latents of one take about as much memory as a small picture."""


def remember_pictures(vae: Any) -> None:
    """Let an autoencoder encode each picture once; one that cannot encode is left alone."""
    if hasattr(vae, "encode") and not isinstance(vae.encode, PictureMemo):
        vae.encode = PictureMemo(vae.encode)


class PictureMemo:
    """Stands in for ``encode`` of one autoencoder.

    Args:
        encode: The original, bound method.
    """

    def __init__(self, encode: Callable[..., Any]) -> None:
        self._encode = encode
        self._kept: OrderedDict[tuple[object, ...], Any] = OrderedDict()

    def __call__(self, picture: Any, *args: Any, **kwargs: Any) -> Any:
        """Encode as the original does, from memory where possible."""
        key = (*_content(picture), args, *sorted(kwargs.items()))
        if key not in self._kept:
            output = self._encode(picture, *args, **kwargs)
            _hold_still(output)
            self._kept[key] = output
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]


def _content(picture: Any) -> tuple[object, ...]:
    """Numbers, form and place of a tensor, as something to compare."""
    import torch

    numbers = picture.detach().contiguous().view(torch.uint8).cpu().numpy()
    digest = hashlib.sha256(numbers).digest()
    return digest, tuple(picture.shape), picture.dtype, str(picture.device)


def _hold_still(output: Any) -> None:
    """Take the middle of what an encoded picture may be, where a pipeline gives no generator.

    Some ControlNet pipelines draw the latents of the control image from torch's global generator;
    then no seed would fix the image.
    """
    spread = getattr(output, "latent_dist", None)
    if spread is None:
        return
    drawn = spread.sample

    def sample(generator: Any = None) -> Any:
        return spread.mode() if generator is None else drawn(generator)

    spread.sample = sample
