"""What is trained of the built-in model beside its autoencoder, as one module."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from diffusers import StableDiffusion3Pipeline
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from runner.providers.local.builtin import networks
from runner.providers.local.builtin.captions import encode


class CompactNullAttention:
    """Joint attention in which the last token counts as many equal ones.

    Without T5 the pipeline appends hundreds of equal zero tokens. Equal tokens stay equal in every
    layer, so one of them with the logarithm of their number added to its attention scores gives
    exactly the same result for a fraction of the work.
    """

    def __init__(self, image_tokens: int) -> None:
        self.bias = torch.zeros(1, 1, 1, image_tokens + networks.CAPTION_TOKENS + 1)

    def set_count(self, count: int) -> None:
        """Set how many tokens the last one stands for."""
        self.bias[..., -1] = math.log(count)

    def __call__(
        self, attn: Attention, hidden_states: Tensor, encoder_hidden_states: Tensor, **_: Any
    ) -> tuple[Tensor, Tensor]:
        """Attend over the image and the caption together."""

        def heads(x: Tensor) -> Tensor:
            return x.unflatten(-1, (attn.heads, -1)).transpose(1, 2)

        queries = (
            attn.norm_q(heads(attn.to_q(hidden_states))),
            attn.norm_added_q(heads(attn.add_q_proj(encoder_hidden_states))),
        )
        keys = (
            attn.norm_k(heads(attn.to_k(hidden_states))),
            attn.norm_added_k(heads(attn.add_k_proj(encoder_hidden_states))),
        )
        values = (
            heads(attn.to_v(hidden_states)),
            heads(attn.add_v_proj(encoder_hidden_states)),
        )
        mixed = F.scaled_dot_product_attention(
            torch.cat(queries, dim=2),
            torch.cat(keys, dim=2),
            torch.cat(values, dim=2),
            attn_mask=self.bias,
        )
        mixed = mixed.transpose(1, 2).flatten(2)
        image, text = mixed.split([hidden_states.shape[1], encoder_hidden_states.shape[1]], dim=1)
        if not attn.context_pre_only:
            text = attn.to_add_out(text)
        return attn.to_out[0](image), text


class Painter(nn.Module):  # type: ignore[misc]
    """Text encoders and transformer as one module: predicts the velocity of noisy latents."""

    def __init__(self) -> None:
        super().__init__()
        self.tokenizer = networks.build_tokenizer()
        self.encoders = nn.ModuleList(networks.build_text_encoders(self.tokenizer))
        self.transformer = networks.build_transformer()
        self.attention = CompactNullAttention((networks.LATENT_PIXELS // 2) ** 2)
        self.transformer.set_attn_processor(self.attention)
        for name, parameter in self.transformer.named_parameters():
            if ".norm1" in name or name.startswith(("norm_out", "proj_out")):
                nn.init.zeros_(parameter)
        with torch.no_grad():
            # At its usual size the caption hardly moves the modulation, and is learned very late.
            self.transformer.time_text_embed.text_embedder.linear_2.weight *= 6

    def forward(
        self,
        noisy: Tensor,
        times: Tensor,
        captions: Sequence[str],
        control: Sequence[Tensor] | None = None,
    ) -> Tensor:
        """Predict noise minus latents.

        Args:
            noisy: Latents mixed with noise.
            times: Share of the noise, from 0 to 1, one per picture.
            captions: Texts, one per picture.
            control: What a ControlNet adds to the layers.

        Returns:
            The velocity, shaped like ``noisy``.
        """
        tokens, pooled, _ = encode(self.tokenizer, self.encoders, captions)
        velocity: Tensor = self.transformer(
            hidden_states=noisy,
            encoder_hidden_states=F.pad(tokens, (0, 0, 0, 1)),
            pooled_projections=pooled,
            timestep=times * 1000,
            block_controlnet_hidden_states=control,
            return_dict=False,
        )[0]
        return velocity

    def read(self, pipeline: StableDiffusion3Pipeline) -> None:
        """Take the weights of a pipeline."""
        self.transformer.load_state_dict(pipeline.transformer.state_dict())
        self.encoders[0].load_state_dict(pipeline.text_encoder.state_dict())
        self.encoders[1].load_state_dict(pipeline.text_encoder_2.state_dict())
