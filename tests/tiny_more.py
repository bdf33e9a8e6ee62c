"""Tiny pipelines of further families, beside those of :mod:`tests.tiny`.

They hold for what is asked of every family: that it is loaded, that all kinds of pipelines run that
it has, and that a seed fixes a picture.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tests.tiny import _BETAS, _WIDTH, _clip, _clip_tokenizer, _t5, _t5_tokenizer, _unet, _vae

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

More = Literal["sd2", "pixart", "sana", "qwenimage", "zimage", "kandinsky22", "kandinsky22_inpaint"]


def build_more(family: More, folder: Path) -> Path:
    """Write a tiny pipeline with random weights; returns ``folder``."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pipe = _MAKERS[family]()
    pipe.save_pretrained(folder)
    return folder


def build_more_controlnet(family: More, folder: Path) -> Path:
    """Write a tiny ControlNet that changes pictures; returns ``folder``."""
    import diffusers
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        if family == "sd2":
            net = diffusers.ControlNetModel.from_unet(
                _sd2().unet, conditioning_channels=3, load_weights_from_unet=False
            )
        elif family == "zimage":
            net = diffusers.ZImageControlNetModel(
                control_layers_places=[0],
                control_refiner_layers_places=[0],
                control_in_dim=16,
                dim=32,
                n_refiner_layers=1,
                n_heads=2,
                n_kv_heads=2,
            )
        else:
            net = diffusers.QwenImageControlNetModel(**_QWEN, num_layers=1)
        for name, weight in net.named_parameters():
            if any(word in name for word in ("controlnet", "cond_embedding.conv_out", "_proj.")):
                torch.nn.init.normal_(weight, std=0.3)
    net.save_pretrained(folder)
    return folder


def _sd2() -> DiffusionPipeline:
    """Version 2 predicts velocity, from a wider text encoder and linear projections."""
    import diffusers

    return diffusers.StableDiffusionPipeline(
        vae=_vae(4),
        text_encoder=_clip(),
        tokenizer=_clip_tokenizer(),
        unet=_unet(_WIDTH, use_linear_projection=True),
        scheduler=diffusers.DDIMScheduler(
            **_BETAS,
            clip_sample=False,
            steps_offset=1,
            prediction_type="v_prediction",
            rescale_betas_zero_snr=True,
            timestep_spacing="trailing",
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _pixart() -> DiffusionPipeline:
    import diffusers

    return diffusers.PixArtSigmaPipeline(
        tokenizer=_t5_tokenizer(),
        text_encoder=_t5(),
        vae=_vae(4),
        transformer=diffusers.PixArtTransformer2DModel(
            sample_size=8,
            num_layers=1,
            patch_size=2,
            attention_head_dim=16,
            num_attention_heads=2,
            caption_channels=2 * _WIDTH,
            in_channels=4,
            cross_attention_dim=32,
            out_channels=8,
            use_additional_conditions=False,
        ),
        scheduler=diffusers.DPMSolverMultistepScheduler(**_BETAS),
    )


def _sana() -> DiffusionPipeline:
    import diffusers
    from transformers import Gemma2Config, Gemma2Model

    levels = (8, 8, 16, 16, 16, 16)
    return diffusers.SanaPipeline(
        tokenizer=_t5_tokenizer(),
        text_encoder=Gemma2Model(
            Gemma2Config(**_language_model(len(_t5_tokenizer())), query_pre_attn_scalar=16)
        ),
        vae=diffusers.AutoencoderDC(
            latent_channels=4,
            attention_head_dim=8,
            encoder_block_out_channels=levels,
            decoder_block_out_channels=levels,
            encoder_layers_per_block=(1,) * 6,
            decoder_layers_per_block=(1,) * 6,
            encoder_qkv_multiscales=((),) * 6,
            decoder_qkv_multiscales=((),) * 6,
            scaling_factor=0.4,
        ),
        transformer=diffusers.SanaTransformer2DModel(
            in_channels=4,
            out_channels=4,
            num_layers=1,
            num_attention_heads=2,
            attention_head_dim=16,
            num_cross_attention_heads=2,
            cross_attention_head_dim=16,
            cross_attention_dim=32,
            caption_channels=_WIDTH,
            sample_size=2,
        ),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
    )


def _qwenimage() -> DiffusionPipeline:
    import diffusers
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    tokenizer = _bytes_tokenizer()
    text = _language_model(len(tokenizer))
    del text["head_dim"]
    return diffusers.QwenImagePipeline(
        tokenizer=tokenizer,
        text_encoder=Qwen2_5_VLForConditionalGeneration(
            Qwen2_5_VLConfig(
                text_config=text
                | {"rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3]}},
                vision_config={
                    "depth": 1,
                    "hidden_size": _WIDTH,
                    "intermediate_size": _WIDTH,
                    "num_heads": 2,
                    "out_hidden_size": _WIDTH,
                },
            )
        ),
        vae=diffusers.AutoencoderKLQwenImage(
            base_dim=8,
            z_dim=4,
            dim_mult=[1, 1, 2, 2],
            num_res_blocks=1,
            temperal_downsample=[False, True, True],
            latents_mean=[0.0] * 4,
            latents_std=[1.0] * 4,
        ),
        transformer=diffusers.QwenImageTransformer2DModel(**_QWEN, num_layers=1),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
    )


def _zimage() -> DiffusionPipeline:
    import diffusers
    from transformers import Qwen3Config, Qwen3Model

    tokenizer = _bytes_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    return diffusers.ZImagePipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=_vae(16, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=Qwen3Model(Qwen3Config(**_language_model(len(tokenizer)))),
        tokenizer=tokenizer,
        transformer=diffusers.ZImageTransformer2DModel(
            in_channels=16,
            dim=32,
            n_layers=1,
            n_refiner_layers=1,
            n_heads=2,
            n_kv_heads=2,
            cap_feat_dim=_WIDTH,
            axes_dims=[8, 4, 4],
            axes_lens=[1024, 64, 64],
        ),
    )


def _kandinsky22(in_channels: int = 4) -> DiffusionPipeline:
    import diffusers
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        CLIPVisionModelWithProjection,
    )

    return diffusers.KandinskyV22CombinedPipeline(
        unet=diffusers.UNet2DConditionModel(
            sample_size=8,
            in_channels=in_channels,
            out_channels=8,
            addition_embed_type="image",
            down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
            up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
            mid_block_type="UNetMidBlock2DSimpleCrossAttn",
            block_out_channels=(16, 32),
            layers_per_block=1,
            encoder_hid_dim=_WIDTH,
            encoder_hid_dim_type="image_proj",
            cross_attention_dim=_WIDTH,
            attention_head_dim=4,
            norm_num_groups=8,
            resnet_time_scale_shift="scale_shift",
        ),
        scheduler=diffusers.DDPMScheduler(**_BETAS),
        movq=diffusers.VQModel(
            latent_channels=4,
            block_out_channels=[32, 64],
            down_block_types=["DownEncoderBlock2D", "AttnDownEncoderBlock2D"],
            up_block_types=["AttnUpDecoderBlock2D", "UpDecoderBlock2D"],
            norm_num_groups=8,
            norm_type="spatial",
            num_vq_embeddings=12,
            vq_embed_dim=4,
        ),
        prior_prior=diffusers.PriorTransformer(
            num_attention_heads=2,
            attention_head_dim=12,
            embedding_dim=_WIDTH,
            num_layers=1,
            num_embeddings=77,
        ),
        prior_image_encoder=CLIPVisionModelWithProjection(
            CLIPVisionConfig(
                hidden_size=_WIDTH,
                projection_dim=_WIDTH,
                intermediate_size=_WIDTH,
                num_hidden_layers=1,
                num_attention_heads=2,
                image_size=224,
                patch_size=32,
            )
        ),
        prior_text_encoder=_clip(projection=True),
        prior_tokenizer=_clip_tokenizer(),
        prior_scheduler=diffusers.UnCLIPScheduler(prediction_type="sample"),
        prior_image_processor=CLIPImageProcessor(),
    )


_MAKERS: Mapping[More, Callable[[], DiffusionPipeline]] = {
    "sd2": _sd2,
    "pixart": _pixart,
    "sana": _sana,
    "qwenimage": _qwenimage,
    "zimage": _zimage,
    "kandinsky22": _kandinsky22,
    "kandinsky22_inpaint": lambda: _kandinsky22(in_channels=9),
}

_QWEN: Mapping[str, Any] = {
    "in_channels": 16,
    "out_channels": 4,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "joint_attention_dim": _WIDTH,
    "axes_dims_rope": (8, 4, 4),
}


def _language_model(words: int) -> dict[str, Any]:
    """Sizes of a small language model that is used as a text encoder."""
    return {
        "vocab_size": words,
        "hidden_size": _WIDTH,
        "intermediate_size": 2 * _WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "initializer_range": 0.5,
        "bos_token_id": None,
        "eos_token_id": None,
    }


def _bytes_tokenizer() -> Any:
    """One token for every byte."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import Qwen2Tokenizer

    letters = {letter: number for number, letter in enumerate(sorted(ByteLevel.alphabet()))}
    return Qwen2Tokenizer(vocab=letters, merges=[])
