"""Applies the options to a pipeline that was just loaded; :mod:`.fitting` has let them through."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from runner.providers.local.adapters import add_weights
from runner.providers.local.fitting import denoiser
from runner.providers.local.options import DiffusersOptions, Offload
from runner.providers.local.preflight import Facts
from runner.providers.local.repairs import let_clip_be_skipped
from runner.providers.local.schedulers import choose
from runner.settings.errors import RequestError

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline


def quantization_config(facts: Facts, options: DiffusersOptions, device: str) -> Any:
    """How the weights of the network that denoises are stored.

    Raises:
        RequestError: The device cannot do that.
    """
    import diffusers
    import torch

    config: Any
    if options.quantization == "torchao_int8":
        torchao = importlib.import_module("torchao.quantization")
        config = diffusers.TorchAoConfig(torchao.Int8WeightOnlyConfig())
    elif options.quantization == "quanto_int8":
        config = diffusers.QuantoConfig(weights_dtype="int8")
    elif torch.device(device).type == "cpu":
        raise RequestError(
            f"provider.options.quantization={options.quantization} needs a GPU; take torchao_int8 "
            "or quanto_int8"
        )
    else:
        four = options.quantization == "bitsandbytes_4bit"
        config = diffusers.BitsAndBytesConfig(load_in_4bit=four, load_in_8bit=not four)
    return diffusers.PipelineQuantizationConfig(quant_mapping={denoiser(facts)[0]: config})


def tune(
    pipe: DiffusionPipeline, facts: Facts, options: DiffusersOptions, commits: Mapping[str, str]
) -> None:
    """Apply what changes the networks; before the pipeline goes to its device.

    Args:
        pipe: The pipeline.
        facts: What its folder says.
        options: What is asked.
        commits: Hub ids and the commits to take of them; of others the newest.

    Raises:
        RequestError: A LoRA or another file does not fit the model.
    """
    if options.scheduler is not None:
        choice = choose(options.scheduler, type(pipe.scheduler).__name__)
        pipe.scheduler = choice.make(pipe.scheduler)
    add_weights(pipe, options, commits)
    if options.clip_skip is not None:
        let_clip_be_skipped(pipe)
    network = getattr(pipe, denoiser(facts)[0], None)
    if options.attention is not None and network is not None:
        try:
            network.set_attention_backend(options.attention)
        except (ValueError, RuntimeError, ImportError) as error:
            reason = next(iter(str(error).strip().splitlines()), "")
            raise RequestError(
                f"provider.options.attention={options.attention}: {reason}"
            ) from None
    if options.step_cache is not None and network is not None:
        network.enable_cache(_cache_config(pipe, options))
    if options.channels_last:
        import torch

        for part in (network, getattr(pipe, "vae", None)):
            if part is not None:
                part.to(memory_format=torch.channels_last)


def place(
    pipe: DiffusionPipeline, device: str, offload: Offload, tiling: bool, options: DiffusersOptions
) -> None:
    """Bring the pipeline onto its device, as far as it is to be there at once.

    Raises:
        RequestError: The device cannot do that.
    """
    import torch

    vae = getattr(pipe, "vae", None)
    if options.vae_slicing and vae is not None:
        vae.enable_slicing()
    if tiling and vae is not None and hasattr(vae, "use_tiling"):
        vae.enable_tiling()
    target = torch.device(device)
    if offload == "none":
        pipe.to(target)
    elif offload == "model":
        pipe.enable_model_cpu_offload(device=target)
    elif offload == "group":
        pipe.enable_group_offload(
            onload_device=target,
            offload_device=torch.device("cpu"),
            offload_type="leaf_level",
            use_stream=target.type == "cuda",
        )
    elif target.type == "cpu":
        raise RequestError("provider.options.offload=sequential needs a GPU; take offload=none")
    else:
        pipe.enable_sequential_cpu_offload(device=target)


def compile_blocks(pipe: DiffusionPipeline, facts: Facts) -> None:
    """Compile the blocks that repeat; the first batch of every size then takes its time."""
    getattr(pipe, denoiser(facts)[0]).compile_repeated_blocks(fullgraph=True)


def _cache_config(pipe: DiffusionPipeline, options: DiffusersOptions) -> Any:
    import diffusers

    if options.step_cache == "first_block":
        return diffusers.FirstBlockCacheConfig(threshold=options.step_cache_threshold)
    if options.step_cache == "taylorseer":
        return diffusers.TaylorSeerCacheConfig()
    return diffusers.PyramidAttentionBroadcastConfig(
        spatial_attention_block_skip_range=2,
        current_timestep_callback=lambda: pipe.current_timestep,
    )
