"""The parts of the built-in model: their shapes, the tokenizer, and how they are saved."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    SD3ControlNetModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, PreTrainedTokenizerFast

from runner.providers.local.builtin import scenes

PIXELS = 64
LATENT_PIXELS = 16
CAPTION_TOKENS = 32
_LATENT_CHANNELS = 4
_VAE_WIDTHS = (16, 32, 48)
_WIDTH, _LAYERS, _HEADS = 160, 6, 5
_TEXT_WIDTHS = (128, 32)
_TEXT_LAYERS = (3, 2)
_CONTROL_LAYERS = 2
_SHIFT = 1.0
_LARGEST_GRID = 32
"""Side of the largest image in tokens, each of 8 pixels."""


def build_vae() -> AutoencoderKL:
    """A small convolutional autoencoder: 64x64 RGB to 16x16 latents of 4 channels."""
    levels = len(_VAE_WIDTHS)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=_VAE_WIDTHS,
        latent_channels=_LATENT_CHANNELS,
        layers_per_block=1,
        norm_num_groups=1,
        sample_size=PIXELS,
        mid_block_add_attention=False,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )


def build_tokenizer() -> PreTrainedTokenizerFast:
    """One token per word; articles and punctuation are dropped, unknown words are all alike."""
    special = ("<pad>", "<unk>", "<start>", "<end>")
    words = [*special, *(w for w in scenes.vocabulary() if w not in ("a", "an", "the"))]
    vocabulary = {word: i for i, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.NFKC(),
            normalizers.Lowercase(),
            normalizers.Replace(Regex(r"[^\w\s<>]|_"), " "),
            normalizers.Replace(Regex(r"\b(a|an|the)\b"), " "),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>",
        special_tokens=[(word, vocabulary[word]) for word in ("<start>", "<end>")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=CAPTION_TOKENS,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<start>",
        eos_token="<end>",
    )


def build_text_encoders(
    tokenizer: PreTrainedTokenizerFast,
) -> tuple[CLIPTextModelWithProjection, ...]:
    """The two CLIP-style text encoders that Stable Diffusion 3 expects; the second is tiny."""
    return tuple(
        CLIPTextModelWithProjection(
            CLIPTextConfig(
                vocab_size=len(tokenizer),
                hidden_size=width,
                intermediate_size=4 * width,
                projection_dim=width,
                num_hidden_layers=layers,
                num_attention_heads=width // 32,
                max_position_embeddings=CAPTION_TOKENS,
                hidden_act="gelu",
                pad_token_id=tokenizer.pad_token_id,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
            )
        )
        for width, layers in zip(_TEXT_WIDTHS, _TEXT_LAYERS, strict=True)
    )


def build_transformer() -> SD3Transformer2DModel:
    """The multimodal diffusion transformer."""
    return SD3Transformer2DModel(
        sample_size=LATENT_PIXELS,
        patch_size=2,
        in_channels=_LATENT_CHANNELS,
        out_channels=_LATENT_CHANNELS,
        num_layers=_LAYERS,
        attention_head_dim=_WIDTH // _HEADS,
        num_attention_heads=_HEADS,
        joint_attention_dim=sum(_TEXT_WIDTHS),
        pooled_projection_dim=sum(_TEXT_WIDTHS),
        caption_projection_dim=_WIDTH,
        pos_embed_max_size=_LARGEST_GRID,
        qk_norm="rms_norm",
    )


def build_controlnet(transformer: SD3Transformer2DModel) -> SD3ControlNetModel:
    """A small ControlNet for a transformer, without a text half.

    It sees places and noise levels as the transformer does; its layers start anew, because without
    the text the transformer's own give features a thousand times as large. What it adds is zero at
    first, so that an untrained one changes nothing.
    """
    controlnet = SD3ControlNetModel(
        sample_size=LATENT_PIXELS,
        patch_size=2,
        in_channels=_LATENT_CHANNELS,
        out_channels=_LATENT_CHANNELS,
        num_layers=_CONTROL_LAYERS,
        attention_head_dim=_WIDTH // _HEADS,
        num_attention_heads=_HEADS,
        # Edges say where, the caption says what: the transformer alone reads the caption.
        joint_attention_dim=None,
        caption_projection_dim=_WIDTH,
        pooled_projection_dim=sum(_TEXT_WIDTHS),
        pos_embed_max_size=_LARGEST_GRID,
        force_zeros_for_pooled_projection=True,
    )
    controlnet.pos_embed.load_state_dict(transformer.pos_embed.state_dict())
    controlnet.time_text_embed.timestep_embedder.load_state_dict(
        transformer.time_text_embed.timestep_embedder.state_dict()
    )
    return controlnet


def build_pipeline(
    vae: AutoencoderKL,
    encoders: tuple[CLIPTextModelWithProjection, ...],
    transformer: SD3Transformer2DModel,
) -> StableDiffusion3Pipeline:
    """Put the parts together."""
    tokenizer = build_tokenizer()
    return StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=_SHIFT),
        vae=vae,
        text_encoder=encoders[0],
        tokenizer=tokenizer,
        text_encoder_2=encoders[1],
        tokenizer_2=tokenizer,
        text_encoder_3=None,
        tokenizer_3=None,
    )


def save(module: StableDiffusion3Pipeline | SD3ControlNetModel, folder: Path) -> None:
    """Write float16 files, replacing the parts that the folder already holds."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        fresh = Path(temporary)
        module.to(dtype=torch.float16).save_pretrained(fresh)
        for config in fresh.glob("text_encoder*/config.json"):
            # Transformers loads in the type named here, diffusers in float32: they must agree.
            _edit(config, dtype="float32")
        for path in sorted(fresh.rglob("*")):
            if path.is_file():
                path.chmod(0o644)
        for part in fresh.iterdir():
            target = folder / part.name
            if target.is_dir():
                shutil.rmtree(target)
            part.replace(target)


def _edit(path: Path, **values: str) -> None:
    config = json.loads(path.read_text(encoding="utf-8"))
    text = json.dumps({**config, **values}, indent=2, sort_keys=True)
    path.write_text(text + "\n", encoding="utf-8")
