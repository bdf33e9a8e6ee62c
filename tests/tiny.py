"""Tiny pipelines with random weights and real tokenizers, built offline in under a second.

Each is a folder in the layout of ``DiffusionPipeline.save_pretrained``: 64 x 64 pixels, a few
hundred thousand weights, 8 x 8 latents. They paint noise, but they follow seed, prompt, negative
prompt, steps and guidance as the real ones do, so whatever holds for them bit by bit is about the
code around the weights. ``build`` needs the ``local`` extra; importing this module does not.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, DiffusionPipeline, UNet2DConditionModel
    from transformers import (
        CLIPTextModel,
        CLIPTextModelWithProjection,
        CLIPTokenizer,
        T5EncoderModel,
        T5Tokenizer,
    )

Family = Literal["sd15", "sdxl", "sd3", "sd3_no_t5", "flux"]
FAMILIES: tuple[Family, ...] = get_args(Family)
PIXELS = 64
"""Width and height that every tiny pipeline makes when no size is asked."""

# fmt: off
_WORDS = (
    "a", "an", "the", "of", "on", "in", "at", "with", "and", "red", "green", "blue", "yellow",
    "black", "white", "big", "small", "old", "new", "circle", "square", "triangle", "star", "fox",
    "lighthouse", "cat", "dog", "sea", "sky", "moon", "sun", "photo", "painting",
)
# fmt: on
_WIDTH = 32


def build(family: Family, folder: Path, *, stochastic: bool = False, weights_seed: int = 0) -> Path:
    """Write a tiny pipeline.

    Args:
        family: Which architecture. ``sd3_no_t5`` is ``sd3`` saved without its third encoder.
        folder: Where to; made if missing.
        stochastic: For flow families: a scheduler that draws noise in every step.
        weights_seed: Seed of the random weights.

    Returns:
        ``folder``.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(weights_seed)
        pipe = _pipeline(family, stochastic)
    pipe.save_pretrained(folder)
    return folder


def build_controlnet(
    family: Family, folder: Path, *, strong: bool = True, masked: bool = False
) -> Path:
    """Write a tiny ControlNet for the tiny pipeline of a family.

    Args:
        family: Whose.
        folder: Where to.
        strong: Random output layers instead of the usual zeros, so that it changes pictures.
        masked: For ``sd3``: one that is shown a picture and what of it is to be repainted.

    Returns:
        ``folder``.
    """
    import diffusers
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        if family in {"sd15", "sdxl"}:
            unet = _pipeline(family, False).unet
            net = diffusers.ControlNetModel.from_unet(
                unet, conditioning_channels=3, load_weights_from_unet=False
            )
        elif family == "flux":
            net = diffusers.FluxControlNetModel(
                in_channels=16,
                num_layers=1,
                num_single_layers=1,
                attention_head_dim=16,
                num_attention_heads=2,
                joint_attention_dim=2 * _WIDTH,
                pooled_projection_dim=_WIDTH,
                axes_dims_rope=(4, 4, 8),
                guidance_embeds=True,
            )
        else:
            net = diffusers.SD3ControlNetModel(
                sample_size=8,
                patch_size=2,
                in_channels=16,
                num_layers=1,
                attention_head_dim=16,
                num_attention_heads=2,
                caption_projection_dim=32,
                joint_attention_dim=2 * _WIDTH,
                pooled_projection_dim=2 * _WIDTH,
                pos_embed_max_size=16,
                extra_conditioning_channels=1 if masked else 0,
            )
        if strong:
            for name, weight in net.named_parameters():
                if any(word in name for word in ("controlnet", "cond_embedding.conv_out", "input")):
                    torch.nn.init.normal_(weight, std=0.3)
    net.save_pretrained(folder)
    return folder


def build_refiner(folder: Path) -> Path:
    """Write a tiny refiner for the tiny ``sdxl``, with parts of its own that it is to share."""
    import diffusers
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(9)
        pipe = diffusers.StableDiffusionXLImg2ImgPipeline(
            vae=_vae(4),
            text_encoder=None,
            text_encoder_2=_clip(projection=True),
            tokenizer=None,
            tokenizer_2=_clip_tokenizer(),
            unet=_unet(
                _WIDTH,
                addition_embed_type="text_time",
                addition_time_embed_dim=8,
                projection_class_embeddings_input_dim=5 * 8 + _WIDTH,
                use_linear_projection=True,
            ),
            scheduler=diffusers.EulerDiscreteScheduler(**_BETAS, steps_offset=1),
            requires_aesthetics_score=True,
            force_zeros_for_empty_prompt=False,
        )
    pipe.save_pretrained(folder)
    return folder


def build_lora(path: Path, seed: int, family: Family = "sd15") -> Path:
    """Write a LoRA for the attention of a tiny pipeline; returns ``path``."""
    import torch
    from safetensors.torch import save_file

    pipe = _pipeline(family, False)
    part = "unet" if hasattr(pipe, "unet") else "transformer"
    random = torch.Generator().manual_seed(seed)
    weights = {}
    for name, module in getattr(pipe, part).named_modules():
        if name.endswith(("attn1.to_q", "attn2.to_v", "attn.to_q", "attn.to_v")):
            down = torch.randn(4, module.in_features, generator=random)
            up = torch.randn(module.out_features, 4, generator=random)
            weights |= {f"{part}.{name}.lora_A.weight": down, f"{part}.{name}.lora_B.weight": up}
    save_file(weights, path)
    return path


def build_ip_adapter(folder: Path, family: Family = "sd15") -> Path:
    """Write an IP-Adapter with its image encoder for a tiny pipeline; returns ``folder``."""
    import torch
    from diffusers.models.attention_processor import SD3IPAdapterJointAttnProcessor2_0
    from diffusers.models.embeddings import IPAdapterTimeImageProjection
    from safetensors.torch import save_file
    from transformers import (
        CLIPVisionConfig,
        CLIPVisionModelWithProjection,
        SiglipVisionConfig,
        SiglipVisionModel,
    )

    torch.manual_seed(5)
    sizes = {
        "hidden_size": _WIDTH,
        "intermediate_size": _WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 64,
        "patch_size": 32,
    }
    pipe = _pipeline(family, False)
    parts: dict[str, torch.Tensor] = {}
    if family == "sd3":
        encoder = SiglipVisionModel(SiglipVisionConfig(**sizes))
        project = IPAdapterTimeImageProjection(
            _WIDTH, output_dim=32, hidden_dim=64, heads=1, num_queries=4, timestep_in_dim=16
        )
        parts |= {f"image_proj.{name}": weight for name, weight in project.state_dict().items()}
        for number in range(len(pipe.transformer.attn_processors)):
            part = SD3IPAdapterJointAttnProcessor2_0(32, 32, 16, 64)
            torch.nn.init.normal_(part.to_v_ip.weight)
            parts |= {f"ip_adapter.{number}.{name}": w for name, w in part.state_dict().items()}
    else:
        encoder = CLIPVisionModelWithProjection(CLIPVisionConfig(**sizes, projection_dim=_WIDTH))
        flux = family == "flux"
        text = 2 * _WIDTH if flux else pipe.unet.config.cross_attention_dim
        widths = [32] if flux else _cross_attention_widths(pipe.unet)
        parts["image_proj.proj.weight"] = torch.randn(4 * text, _WIDTH)
        parts["image_proj.proj.bias"] = torch.zeros(4 * text)
        parts["image_proj.norm.weight"] = torch.ones(text)
        parts["image_proj.norm.bias"] = torch.zeros(text)
        for number, width in enumerate(widths):
            # A UNet counts its attention to itself, too.
            block = f"ip_adapter.{number if flux else 2 * number + 1}"
            for name in ("to_k_ip", "to_v_ip"):
                parts[f"{block}.{name}.weight"] = torch.randn(width, text)
                if flux:
                    parts[f"{block}.{name}.bias"] = torch.zeros(width)
    encoder.save_pretrained(folder / "models/image_encoder")
    save_file(parts, folder / "models/ip.safetensors")
    return folder


def _cross_attention_widths(unet: UNet2DConditionModel) -> list[int]:
    names = [name.removesuffix(".processor") for name in unet.attn_processors]
    return [unet.get_submodule(name).inner_dim for name in names if name.endswith("attn2")]


def _pipeline(family: Family, stochastic: bool) -> DiffusionPipeline:
    import diffusers

    if family == "sd15":
        return diffusers.StableDiffusionPipeline(
            vae=_vae(4),
            text_encoder=_clip(),
            tokenizer=_clip_tokenizer(),
            unet=_unet(_WIDTH),
            scheduler=diffusers.DDIMScheduler(**_BETAS, clip_sample=False, steps_offset=1),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    if family == "sdxl":
        return diffusers.StableDiffusionXLPipeline(
            vae=_vae(4),
            text_encoder=_clip(),
            text_encoder_2=_clip(projection=True),
            tokenizer=_clip_tokenizer(),
            tokenizer_2=_clip_tokenizer(),
            unet=_unet(
                2 * _WIDTH,
                addition_embed_type="text_time",
                addition_time_embed_dim=8,
                projection_class_embeddings_input_dim=6 * 8 + _WIDTH,
                use_linear_projection=True,
            ),
            scheduler=diffusers.EulerDiscreteScheduler(**_BETAS, steps_offset=1),
        )
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(stochastic_sampling=stochastic)
    if family == "flux":
        return diffusers.FluxPipeline(
            vae=_vae(4, use_quant_conv=False, use_post_quant_conv=False),
            text_encoder=_clip(),
            text_encoder_2=_t5(),
            tokenizer=_clip_tokenizer(),
            tokenizer_2=_t5_tokenizer(),
            transformer=diffusers.FluxTransformer2DModel(
                in_channels=16,
                num_layers=1,
                num_single_layers=1,
                attention_head_dim=16,
                num_attention_heads=2,
                joint_attention_dim=2 * _WIDTH,
                pooled_projection_dim=_WIDTH,
                axes_dims_rope=(4, 4, 8),
                guidance_embeds=True,
            ),
            scheduler=scheduler,
        )
    with_t5 = family == "sd3"
    return diffusers.StableDiffusion3Pipeline(
        vae=_vae(16, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=_clip(projection=True),
        text_encoder_2=_clip(projection=True),
        text_encoder_3=_t5() if with_t5 else None,
        tokenizer=_clip_tokenizer(),
        tokenizer_2=_clip_tokenizer(),
        tokenizer_3=_t5_tokenizer() if with_t5 else None,
        transformer=diffusers.SD3Transformer2DModel(
            sample_size=8,
            patch_size=2,
            in_channels=16,
            num_layers=2,
            attention_head_dim=16,
            num_attention_heads=2,
            caption_projection_dim=32,
            joint_attention_dim=2 * _WIDTH,
            pooled_projection_dim=2 * _WIDTH,
            pos_embed_max_size=16,
        ),
        scheduler=scheduler,
    )


_BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def _vae(latent_channels: int, **options: bool) -> AutoencoderKL:
    from diffusers import AutoencoderKL

    levels = 4
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=(8, 8, 16, 16),
        latent_channels=latent_channels,
        layers_per_block=1,
        norm_num_groups=4,
        sample_size=PIXELS,
        scaling_factor=0.2,
        shift_factor=0.0,
        **options,
    )


def _unet(cross_attention_dim: int, **options: object) -> UNet2DConditionModel:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=PIXELS // 8,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=cross_attention_dim,
        attention_head_dim=4,
        norm_num_groups=8,
        **options,
    )


def _clip(projection: bool = False) -> CLIPTextModel | CLIPTextModelWithProjection:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    tokenizer = _clip_tokenizer()
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=_WIDTH,
        projection_dim=_WIDTH,
        intermediate_size=2 * _WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_factor=8.0,
    )
    return CLIPTextModelWithProjection(config) if projection else CLIPTextModel(config)


def _clip_tokenizer() -> CLIPTokenizer:
    """Byte-pair encoding over the 256 bytes, with merges that make each known word one token."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    letters = sorted(ByteLevel.alphabet())
    pieces = [*letters, *(letter + "</w>" for letter in letters)]
    merges: list[tuple[str, str]] = []
    for word in _WORDS:
        symbols = [*word[:-1], word[-1] + "</w>"]
        while len(symbols) > 1:
            merge = (symbols[0], symbols[1])
            symbols[:2] = ["".join(merge)]
            if merge not in merges:
                merges.append(merge)
                pieces.append(symbols[0])
    vocab = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    for special in ("<|startoftext|>", "<|endoftext|>"):
        vocab[special] = len(vocab)
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=77)


def _t5() -> T5EncoderModel:
    from transformers import T5Config, T5EncoderModel

    return T5EncoderModel(
        T5Config(
            vocab_size=len(_t5_tokenizer()),
            d_model=2 * _WIDTH,
            d_kv=16,
            d_ff=2 * _WIDTH,
            num_layers=2,
            num_heads=4,
            feed_forward_proj="gated-gelu",
        )
    )


def _t5_tokenizer() -> T5Tokenizer:
    """Unigrams: every known word, and every printable character for the rest."""
    from transformers import T5Tokenizer

    vocab = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    vocab += [(f"▁{word}", -3.0) for word in _WORDS]
    vocab += [(chr(code), -8.0) for code in range(33, 127)]
    return T5Tokenizer(vocab=vocab, extra_ids=0, model_max_length=512)


def add_safety_checker(folder: Path, threshold: float) -> None:
    """Give a tiny ``sd15`` folder a safety checker that flags everything, or nothing.

    Args:
        folder: The pipeline's folder; changed.
        threshold: Likeness, -1 to 1, over which an image is flagged: -2 flags all, 2 flags none.
    """
    from diffusers import StableDiffusionPipeline
    from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
    from transformers import CLIPConfig, CLIPImageProcessor

    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
    checker = StableDiffusionSafetyChecker(
        CLIPConfig(
            vision_config=sizes | {"num_hidden_layers": 1, "image_size": 32, "patch_size": 16},
            text_config=sizes | {"num_hidden_layers": 1},
            projection_dim=16,
        )
    )
    checker.concept_embeds_weights.data.fill_(threshold)
    checker.special_care_embeds_weights.data.fill_(2.0)
    StableDiffusionPipeline.from_pretrained(
        folder,
        safety_checker=checker,
        feature_extractor=CLIPImageProcessor(
            size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
        ),
        requires_safety_checker=True,
    ).save_pretrained(folder)
