"""What single pipelines of diffusers get wrong, mended from outside while it is so.

Components are shared between pipelines, so what is changed is a shallow copy: its weights are the
same tensors.
"""

from __future__ import annotations

import copy
import inspect
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline


def repair(pipe: DiffusionPipeline) -> None:
    """Mend a pipeline that has just been loaded."""
    if type(pipe).__name__ == "StableDiffusion3InpaintPipeline":
        source = inspect.getsource(type(pipe).__call__)
        if "decode(latents / self.vae.config.scaling_factor" in source:
            _shift_before_decoding(pipe)
        if "num_channels_transformer != 16" in source:
            _any_number_of_channels(pipe)


def let_clip_be_skipped(pipe: DiffusionPipeline) -> None:
    """Show the last norm of CLIP where diffusers looks for it: transformers 5 has moved it."""
    encoder: Any = getattr(pipe, "text_encoder", None)
    if hasattr(encoder, "final_layer_norm") and not hasattr(encoder, "text_model"):
        # No module, so that none of it is counted twice.
        encoder.text_model = SimpleNamespace(final_layer_norm=encoder.final_layer_norm)


def _shift_before_decoding(pipe: DiffusionPipeline) -> None:
    """Decoding forgets the shift that encoding subtracts, and all colors drift."""
    vae = copy.copy(pipe.vae)
    decode, shift = vae.decode, vae.config.shift_factor or 0.0

    def shifted(latents: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        return decode(latents + shift, *args, **kwargs)

    vae.decode = shifted
    pipe.vae = vae


def _any_number_of_channels(pipe: DiffusionPipeline) -> None:
    """Latents of 16 channels are asked for by number, though nothing depends on it."""
    channels = pipe.vae.config.latent_channels
    if pipe.transformer.config.in_channels == channels != 16:
        transformer = copy.copy(pipe.transformer)
        transformer.register_to_config(in_channels=16)
        pipe.transformer = transformer
