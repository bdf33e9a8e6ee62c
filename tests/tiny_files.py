"""One file in place of the folders of a tiny model, with the names of the original code."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def save_gguf(folder: Path, path: Path) -> Path:
    """Write the transformer of a tiny folder with weights of 8 bits; returns ``path``.

    That of ``sd3`` has the names of the original code, as the files that people share have.
    """
    import gguf
    from safetensors.torch import load_file

    eight = gguf.GGMLQuantizationType.Q8_0
    writer = gguf.GGUFWriter(path, "flux")
    weights = load_file(folder / "transformer/diffusion_pytorch_model.safetensors")
    if "pos_embed.pos_embed" in weights:
        weights = _originals(weights)
    for name, tensor in weights.items():
        weight = tensor.numpy()
        if weight.ndim == 2 and weight.shape[1] % 32 == 0:
            writer.add_tensor(name, gguf.quants.quantize(weight, eight), raw_dtype=eight)
        else:
            writer.add_tensor(name, weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _originals(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights of a transformer of Stable Diffusion 3 as its authors name and order them."""
    import torch

    weights = dict(weights)
    last = max(int(name.split(".")[1]) for name in weights if name.startswith("transformer_blocks"))
    for number in range(last + 1):
        block, original = f"transformer_blocks.{number}.attn", f"joint_blocks.{number}"
        for end in ("weight", "bias"):
            for side, parts in (
                ("x", ("to_q", "to_k", "to_v")),
                ("context", ("add_q_proj", "add_k_proj", "add_v_proj")),
            ):
                joined = torch.cat([weights.pop(f"{block}.{part}.{end}") for part in parts])
                weights[f"{original}.{side}_block.attn.qkv.{end}"] = joined
    for name in ("norm_out.linear", f"transformer_blocks.{last}.norm1_context.linear"):
        for end in ("weight", "bias"):
            scale, shift = weights[f"{name}.{end}"].chunk(2)
            weights[f"{name}.{end}"] = torch.cat([shift, scale])
    return {_renamed(name, _SD3): weight for name, weight in weights.items()}


def save_single_file(folder: Path, path: Path) -> Path:
    """Write a tiny ``sd15`` folder as one checkpoint with the names of the original code.

    Returns:
        ``path``.
    """
    from safetensors.torch import load_file, save_file

    parts = {
        "model.diffusion_model.": (folder / "unet/diffusion_pytorch_model.safetensors", _UNET),
        "first_stage_model.": (folder / "vae/diffusion_pytorch_model.safetensors", _VAE),
        "cond_stage_model.transformer.text_model.": (folder / "text_encoder/model.safetensors", ()),
    }
    checkpoint = {}
    for prefix, (file, renames) in parts.items():
        for name, tensor in load_file(file).items():
            checkpoint[prefix + _renamed(name.removeprefix("text_model."), renames)] = tensor
    save_file(checkpoint, path)
    return path


def _renamed(name: str, renames: _Renames) -> str:
    for pattern, replacement in renames:
        name = re.sub(pattern, replacement, name)
    return name


_Renames = tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...]

_RESNET: _Renames = (
    ("norm1", "in_layers.0"),
    ("conv1", "in_layers.2"),
    ("norm2", "out_layers.0"),
    ("conv2", "out_layers.3"),
    ("time_emb_proj", "emb_layers.1"),
    ("conv_shortcut", "skip_connection"),
)


def _resnet(block: str, name: str) -> str:
    for new, old in _RESNET:
        name = name.replace(new, str(old))
    return f"{block}.{name}"


# One resnet per down block and two per up block, as `_unet` has them.
_UNET: _Renames = (
    (r"^time_embedding\.linear_1", "time_embed.0"),
    (r"^time_embedding\.linear_2", "time_embed.2"),
    (r"^conv_in", "input_blocks.0.0"),
    (r"^conv_norm_out", "out.0"),
    (r"^conv_out", "out.2"),
    (r"^down_blocks\.0\.downsamplers\.0\.conv", "input_blocks.2.0.op"),
    (
        r"^down_blocks\.(\d)\.resnets\.0\.(.*)",
        lambda m: _resnet(f"input_blocks.{2 * int(m[1]) + 1}.0", m[2]),
    ),
    (
        r"^down_blocks\.(\d)\.attentions\.0",
        lambda m: f"input_blocks.{2 * int(m[1]) + 1}.1",
    ),
    (r"^mid_block\.resnets\.(\d)\.(.*)", lambda m: _resnet(f"middle_block.{2 * int(m[1])}", m[2])),
    (r"^mid_block\.attentions\.0", "middle_block.1"),
    (r"^up_blocks\.0\.upsamplers\.0", "output_blocks.1.2"),
    (
        r"^up_blocks\.(\d)\.resnets\.(\d)\.(.*)",
        lambda m: _resnet(f"output_blocks.{2 * int(m[1]) + int(m[2])}.0", m[3]),
    ),
    (
        r"^up_blocks\.(\d)\.attentions\.(\d)",
        lambda m: f"output_blocks.{2 * int(m[1]) + int(m[2])}.1",
    ),
)

_VAE: _Renames = (
    (r"down_blocks\.(\d)\.resnets", r"down.\1.block"),
    (r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample"),
    (r"up_blocks\.(\d)\.resnets", lambda m: f"up.{3 - int(m[1])}.block"),
    (r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"up.{3 - int(m[1])}.upsample"),
    (r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}"),
    (r"mid_block\.attentions\.0", "mid.attn_1"),
    ("group_norm", "norm"),
    (r"to_([qkv])", r"\1"),
    (r"to_out\.0", "proj_out"),
    ("conv_norm_out", "norm_out"),
    ("conv_shortcut", "nin_shortcut"),
)

_SD3: _Renames = (
    (r"^pos_embed\.pos_embed", "pos_embed"),
    (r"^pos_embed\.proj", "x_embedder.proj"),
    (r"^time_text_embed\.timestep_embedder\.linear_1", "t_embedder.mlp.0"),
    (r"^time_text_embed\.timestep_embedder\.linear_2", "t_embedder.mlp.2"),
    (r"^time_text_embed\.text_embedder\.linear_1", "y_embedder.mlp.0"),
    (r"^time_text_embed\.text_embedder\.linear_2", "y_embedder.mlp.2"),
    (r"^proj_out", "final_layer.linear"),
    (r"^norm_out\.linear", "final_layer.adaLN_modulation.1"),
    (r"^transformer_blocks\.", "joint_blocks."),
    (r"\.norm1_context\.linear", ".context_block.adaLN_modulation.1"),
    (r"\.norm1\.linear", ".x_block.adaLN_modulation.1"),
    (r"\.attn\.to_out\.0", ".x_block.attn.proj"),
    (r"\.attn\.to_add_out", ".context_block.attn.proj"),
    (r"\.ff\.net\.0\.proj", ".x_block.mlp.fc1"),
    (r"\.ff\.net\.2", ".x_block.mlp.fc2"),
    (r"\.ff_context\.net\.0\.proj", ".context_block.mlp.fc1"),
    (r"\.ff_context\.net\.2", ".context_block.mlp.fc2"),
)
