"""Further weights of a pipeline: LoRAs, learned words, and pictures that prompt."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from runner.providers.local.fitting import lora_file
from runner.providers.local.options import DiffusersOptions, IpAdapter, TextualInversion
from runner.providers.local.source import not_fetched
from runner.settings.errors import RequestError

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline

_ENCODERS = {
    "clip_l": "text_encoder",
    "clip_g": "text_encoder_2",
    "t5": "text_encoder_2",
}
"""What a file of a word that several encoders have learned calls them, and the pipeline does."""


def add_weights(
    pipe: DiffusionPipeline, options: DiffusersOptions, commits: Mapping[str, str]
) -> None:
    """Load what the options add to a model.

    Args:
        pipe: The pipeline, not on its device yet.
        options: What is asked.
        commits: Hub ids and the commits to take of them; of others the newest.

    Raises:
        RequestError: A file does not fit the model.
        PrerequisiteError: A file cannot be had from the Hub.
    """
    for inversion in options.textual_inversions:
        with _fitting(pipe, "textual_inversions", inversion.name):
            _add_word(pipe, inversion)
    if options.loras:
        _add_loras(pipe, options, commits)
    if options.ip_adapter is not None:
        with _fitting(pipe, "ip_adapter", options.ip_adapter.name):
            _add_ip_adapter(pipe, options.ip_adapter, commits)


def _add_word(pipe: DiffusionPipeline, inversion: TextualInversion) -> None:
    from safetensors.torch import load_file

    learned = load_file(Path(inversion.name).expanduser())
    parts: dict[str, torch.Tensor]
    if learned.keys() <= _ENCODERS.keys():
        parts = {_ENCODERS[name]: vectors for name, vectors in learned.items()}
    elif len(learned) == 1:
        parts = {"text_encoder": next(iter(learned.values()))}
    else:
        raise ValueError(f"it holds {', '.join(sorted(learned))}, not the vectors of one word")
    for name, vectors in parts.items():
        encoder = getattr(pipe, name, None)
        if encoder is None:
            raise ValueError(f"the pipeline has no {name}")
        width = encoder.get_input_embeddings().weight.shape[-1]
        if vectors.shape[-1] != width:
            raise ValueError(f"{name} has vectors of {width} numbers, not of {vectors.shape[-1]}")
        tokenizer = getattr(pipe, name.replace("text_encoder", "tokenizer"))
        pipe.load_textual_inversion(
            vectors, token=inversion.token, text_encoder=encoder, tokenizer=tokenizer
        )


def _add_loras(
    pipe: DiffusionPipeline, options: DiffusersOptions, commits: Mapping[str, str]
) -> None:
    names = [f"lora{number}" for number in range(len(options.loras))]
    for name, lora in zip(names, options.loras, strict=True):
        folder, file = lora_file(lora.name, lora.file)
        with _fitting(pipe, "loras", lora.name), warnings.catch_warnings():
            # Several on one network are what is asked for.
            warnings.filterwarnings("ignore", "Already found a `peft_config`")
            pipe.load_lora_weights(
                folder,
                weight_name=file,
                adapter_name=name,
                use_safetensors=True,
                revision=commits.get(lora.name),
            )
            if name not in itertools.chain(*pipe.get_list_adapters().values()):
                raise ValueError("none of its weights are for this model")
    # Without it only the last one that was loaded would count.
    pipe.set_adapters(names, [lora.weight for lora in options.loras])
    if options.fuse_loras:
        pipe.fuse_lora(adapter_names=names)


def _add_ip_adapter(
    pipe: DiffusionPipeline, adapter: IpAdapter, commits: Mapping[str, str]
) -> None:
    _add_image_encoder(pipe, adapter, commits)
    pipe.load_ip_adapter(
        _local(adapter.name),
        subfolder=adapter.subfolder,
        weight_name=adapter.file,
        revision=commits.get(adapter.name),
    )
    pipe.set_ip_adapter_scale(adapter.scale)


def _add_image_encoder(
    pipe: DiffusionPipeline, adapter: IpAdapter, commits: Mapping[str, str]
) -> None:
    """Load what sees the picture.

    Diffusers would do that itself, but also from a pickle, from the newest commit, and for Stable
    Diffusion 3 from the folder of this process.
    """
    import transformers

    if pipe.image_encoder is not None:
        return
    three = type(pipe).__name__.startswith("StableDiffusion3")
    cls = transformers.SiglipVisionModel if three else transformers.CLIPVisionModelWithProjection
    where, folder = adapter.encoder()
    with _fitting(pipe, "ip_adapter.image_encoder", where):
        encoder = cls.from_pretrained(
            _local(where),
            subfolder=folder,
            revision=commits.get(where) or "main",
            use_safetensors=True,
            dtype=pipe.dtype,
        )
    pipe.register_modules(image_encoder=encoder)
    if three and pipe.feature_extractor is None:
        side = encoder.config.image_size
        size = {"height": side, "width": side}
        pipe.register_modules(feature_extractor=transformers.SiglipImageProcessor(size=size))


def _local(name: str) -> str:
    """A folder or a Hub id."""
    path = Path(name).expanduser()
    return str(path) if path.exists() else name


@contextmanager
def _fitting(pipe: DiffusionPipeline, option: str, name: str) -> Iterator[None]:
    """What goes wrong while further weights are loaded is said in one sentence."""
    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        if isinstance(error, OSError) and not Path(name).expanduser().exists():
            raise not_fetched(f"provider.options.{option}", name, error) from error
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise RequestError(
            f"provider.options.{option}: {name} does not fit {type(pipe).__name__}: "
            f"{reason.removesuffix(':')}"
        ) from error
