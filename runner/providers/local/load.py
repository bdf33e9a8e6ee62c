"""Loading a pipeline: download if needed, check, load, move to the device.

Safetensors only, no remote code, no custom pipelines: :mod:`.preflight` has refused the rest.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.providers.local.device import Machine
from runner.providers.local.fitting import denoiser, t5_encoder
from runner.providers.local.options import DiffusersOptions, Refiner
from runner.providers.local.preflight import Facts, is_gguf, read_facts
from runner.providers.local.refine import SHARED, LoadedRefiner, find_refiner, refiner_model
from runner.providers.local.repairs import repair
from runner.providers.local.source import (
    Source,
    find_controlnets,
    find_source,
    is_offline,
    not_fetched,
    revision_of,
)
from runner.providers.local.tune import compile_blocks, place, quantization_config, tune
from runner.providers.local.weighting import Weighting
from runner.settings.cell import Json, PipelineKind
from runner.settings.errors import RequestError
from runner.settings.schema import ModelSettings

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

_CONFIG_FILES = ["*.json", "*/*.json", "*/*.txt", "*/*.model"]


def download(source: Source, model: ModelSettings, kind: PipelineKind) -> Source:
    """Bring what is missing of a Hub id into the Hub's cache; other sources are left as they are.

    Raises:
        PrerequisiteError: The Hub does not answer, does not have it, or does not show it to us.
        RequestError: The repository is no diffusers pipeline, or has no safetensors.
    """
    if is_offline():
        return source
    from diffusers import DiffusionPipeline
    from huggingface_hub import hf_hub_download, snapshot_download

    for net in find_controlnets(model, kind):
        if net.repo is not None:
            _fetch_network(net.repo, "model.controlnet", model.commits.get(net.repo))
    if source.repo is None:
        return source
    try:
        revision = revision_of(model, source.repo)
        hf_hub_download(source.repo, "model_index.json", revision=revision)
        found = find_source(model)
        # All files are of one commit, although the branch may move meanwhile.
        revision = found.commit or revision
        # Now, so that nothing more is fetched of a model that is refused.
        read_facts(found, model, kind)
        if source.file is not None:
            snapshot_download(source.repo, revision=revision, allow_patterns=_CONFIG_FILES)
        else:
            DiffusionPipeline.download(
                source.repo,
                revision=revision,
                variant=model.variant,
                use_safetensors=True,
                **dict.fromkeys(model.components),
            )
            given = [Path(path).expanduser() for path in model.components.values() if path]
            if any(path.is_file() for path in given):
                # What is read from one file of weights still has its config from here.
                snapshot_download(source.repo, revision=revision, allow_patterns=_CONFIG_FILES)
    except (OSError, ValueError) as error:
        raise not_fetched("model.name", model.name, error) from error
    return found


def _fetch_network(repo: str, key: str, commit: str | None) -> None:
    from huggingface_hub import snapshot_download

    try:
        snapshot_download(repo, revision=commit, allow_patterns=["config.json", "*.safetensors"])
    except (OSError, ValueError) as error:
        raise not_fetched(key, repo, error) from error


def load_pipeline(
    source: Source,
    facts: Facts,
    model: ModelSettings,
    machine: Machine,
    options: DiffusersOptions,
) -> DiffusionPipeline:
    """Load the pipeline that does the job, apply the options, bring it onto the device.

    Raises:
        RequestError: The files do not make a pipeline.
    """
    import diffusers
    import torch

    pipeline_class = getattr(diffusers, facts.signature.name)
    dtype = getattr(torch, machine.dtype)
    nets = [_network("model.controlnet", str(net.folder), dtype) for net in facts.controlnets]
    control: dict[str, Any] = {}
    if nets:
        control["controlnet"] = nets if len(nets) > 1 else nets[0]
    quantized = options.quantization is not None or any(map(is_gguf, model.components.values()))
    bound = options.compile or options.step_cache == "pyramid"
    if machine.offload != "none" or quantized or bound:
        # What hangs on such networks belongs to one pipeline.
        forget()
        pipe = _read(pipeline_class, source, facts, model, options, machine, dtype, control)
    else:
        key = _stamp(source, model, machine, options)
        if key not in _LOADED:
            forget()
            _LOADED[key] = _read(
                pipeline_class, source, facts, model, options, machine, dtype, control
            )
        base = _LOADED[key]
        pipe = pipeline_class.from_pipe(base, dtype=dtype, **control)
        if getattr(base, "scheduler", None) is not None:
            pipe.scheduler = type(base.scheduler).from_config(base.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    repair(pipe)
    place(pipe, machine.device, machine.offload, machine.tiling, options)
    if options.compile:
        compile_blocks(pipe, facts)
    if options.prompt_weighting is not None:
        if machine.offload == "sequential":
            raise RequestError(
                "provider.options.prompt_weighting: not with offload=sequential; take offload=model"
            )
        pipe.encode_prompt = Weighting(pipe, facts.family.name)
    return pipe


def download_refiner(refiner: Refiner, model: ModelSettings) -> None:
    """Bring what is missing of a refiner into the Hub's cache.

    Raises:
        PrerequisiteError: The Hub does not answer, does not have it, or does not show it to us.
        RequestError: It is none.
    """
    own = refiner_model(refiner, model)
    download(find_refiner(own)[0], own, "img2img")


def load_refiner(
    base: DiffusionPipeline,
    refiner: Refiner,
    model: ModelSettings,
    machine: Machine,
    options: DiffusersOptions,
) -> LoadedRefiner:
    """Load the refiner of a base that was loaded before, and bring it onto the device.

    Raises:
        RequestError: It is none.
    """
    import diffusers
    import torch

    own = refiner_model(refiner, model)
    source, facts = find_refiner(own)
    if facts is None:
        raise RuntimeError("a downloaded refiner has no folder")
    lent = {name: getattr(base, name) for name in SHARED}
    pipe = _read(
        getattr(diffusers, facts.signature.name),
        source,
        facts,
        own,
        DiffusersOptions(scheduler=options.scheduler),
        machine,
        getattr(torch, machine.dtype),
        lent,
    )
    pipe.set_progress_bar_config(disable=True)
    place(pipe, machine.device, machine.offload, machine.tiling, options)
    return LoadedRefiner(pipe, refiner.high_noise_frac)


_LOADED: dict[tuple[object, ...], DiffusionPipeline] = {}
"""The model that was loaded last, for the next variant of a run: another pipeline of the same model
takes its networks over. Never more than one, and gone before another is loaded."""


def forget() -> None:
    """Let go of the model that was loaded last."""
    _LOADED.clear()


def _stamp(
    source: Source, model: ModelSettings, machine: Machine, options: DiffusersOptions
) -> tuple[object, ...]:
    """Equal stamps mean the same networks on the same device."""
    files = [] if source.folder is None else sorted(source.folder.glob("*/*"))
    stats = [(str(path), path.stat()) for path in [*files, *filter(None, [source.file])]]
    return (
        *((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats),
        model.variant,
        tuple(sorted(model.components.items(), key=str)),
        machine,
        options.model_dump_json(),
    )


def _read(
    pipeline_class: Any,
    source: Source,
    facts: Facts,
    model: ModelSettings,
    options: DiffusersOptions,
    machine: Machine,
    dtype: object,
    control: dict[str, Any],
) -> DiffusionPipeline:
    """A pipeline from its files, with the options that change its networks."""
    given: dict[str, Any] = dict.fromkeys(facts.absent)
    given |= {
        name: None
        if path is None
        else _component(name, path, source, facts, dtype, model.commits.get(path))
        for name, path in model.components.items()
    }
    if "add_watermarker" in inspect.signature(pipeline_class.__init__).parameters:
        # Its default depends on which packages are installed, and so would the pixels.
        given["add_watermarker"] = False
    if options.drop_t5 and (encoder := t5_encoder(facts)):
        given |= {encoder: None, encoder.replace("text_encoder", "tokenizer"): None}
    if options.quantization and (source.file or model.components.get(denoiser(facts)[0])):
        raise RequestError(
            f"provider.options.quantization={options.quantization}: only weights from the folder "
            "of the model are quantized, not those of a single file or of model.components"
        )
    asked = {"dtype": dtype, "local_files_only": True, **given, **control}
    try:
        if options.quantization is not None:
            asked["quantization_config"] = quantization_config(facts, options, machine.device)
        pipe: DiffusionPipeline = _from_files(pipeline_class, source, model, asked)
    except (OSError, ValueError, LookupError, TypeError) as error:
        name = facts.signature.name
        raise RequestError(
            f"model.name={source.name!r}: {name} cannot be loaded from it: {_reason(error, name)}"
        ) from error
    tune(pipe, facts, options, model.commits)
    return pipe


def _from_files(
    pipeline_class: Any, source: Source, model: ModelSettings, asked: dict[str, Any]
) -> Any:
    if source.file is not None:
        return pipeline_class.from_single_file(str(source.file), config=str(source.folder), **asked)
    return pipeline_class.from_pretrained(
        source.folder, variant=model.variant, use_safetensors=True, **asked
    )


def scheduler_of(pipe: DiffusionPipeline) -> str:
    """Class name of a pipeline's scheduler; empty if it has none."""
    scheduler = getattr(pipe, "scheduler", None)
    return "" if scheduler is None else type(scheduler).__name__


def scheduler_config(pipe: DiffusionPipeline) -> dict[str, Json] | None:
    """Class and settings of a pipeline's scheduler, for the manifest; ``None`` if it has none."""
    scheduler = getattr(pipe, "scheduler", None)
    if scheduler is None:
        return None
    plain = {
        key: value
        for key, value in sorted(scheduler.config.items())
        if not key.startswith("_") and isinstance(value, bool | int | float | str | None)
    }
    return {"class": type(scheduler).__name__, **plain}


def _component(
    name: str, path: str, source: Source, facts: Facts, dtype: object, commit: str | None
) -> object:
    """A component from a folder, a Hub id, or one file of weights with the model's own config."""
    import diffusers

    key, file = f"model.components.{name}", Path(path).expanduser()
    if not file.is_file():
        return _network(key, path, dtype, commit)
    asked: dict[str, Any] = {"config": str(source.folder), "subfolder": name, "dtype": dtype}
    if is_gguf(path):
        asked["quantization_config"] = diffusers.GGUFQuantizationConfig(compute_dtype=dtype)
    try:
        return getattr(diffusers, facts.classes[name]).from_single_file(
            str(file), local_files_only=True, **asked
        )
    except (OSError, ValueError, LookupError, RuntimeError) as error:
        reason = _reason(error, facts.classes[name])
        raise RequestError(f"{key}={path!r}: cannot be loaded: {reason}") from error


def _reason(error: Exception, class_name: str) -> str:
    """Why files cannot be read; a weight that is looked for by its name is only a name."""
    if isinstance(error, LookupError):
        return f"its weights are not those of {class_name}"
    return str(error)


def _network(key: str, path: str, dtype: object, commit: str | None = None) -> object:
    from diffusers import AutoModel

    where = Path(path).expanduser()
    try:
        return AutoModel.from_pretrained(
            str(where) if where.is_dir() else path,
            revision=commit,
            use_safetensors=True,
            dtype=dtype,
        )
    except (OSError, ValueError) as error:
        raise RequestError(f"{key}={path!r}: cannot be loaded: {error}") from error
