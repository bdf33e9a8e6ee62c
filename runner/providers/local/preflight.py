"""A model folder is read and refused before anything heavy is imported or loaded.

Promise: no code from data. Weights are safetensors, classes are those of diffusers and
transformers, and nothing that a folder names is imported here.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import lcm
from pathlib import Path

from runner.providers.local.families import Family, family_of
from runner.providers.local.signature import (
    Signature,
    is_pipeline_module,
    pipeline_names,
    read_signature,
    source_of,
)
from runner.providers.local.source import Source, find_controlnets, is_offline
from runner.settings.cell import Json, PipelineKind
from runner.settings.errors import PrerequisiteError, RequestError, did_you_mean, listed
from runner.settings.schema import ModelSettings

_PICKLED = (".bin", ".ckpt", ".pt", ".pth", ".pkl", ".msgpack")
_ONE_FILE = (".gguf", ".safetensors")
_INPAINTING_CHANNELS = 9
_UNWEIGHED = ("scheduler", "tokenizer", "feature_extractor", "processor")
"""Parts of the names of components that have no weights."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a model folder says about its pipeline.

    Attributes:
        signature: The class that does the job, and what it takes.
        family: Which jobs other classes do with the same weights.
        kind: The job.
        controlnets: The ControlNets that steer it.
        components: Names of all components of the index.
        classes: Component to the name of its class, of those that are there.
        absent: Components that the index leaves out, so they must be given as ``None``.
        size_multiple: What width and height must be multiples of, where that can be told.
        configs: Component to its ``config.json``.
    """

    signature: Signature
    family: Family
    kind: PipelineKind
    controlnets: tuple[Source, ...]
    components: frozenset[str]
    classes: Mapping[str, str]
    absent: frozenset[str]
    size_multiple: int | None
    configs: Mapping[str, Mapping[str, Json]]


def read_facts(
    source: Source, model: ModelSettings, kind: PipelineKind = "text2img"
) -> Facts | None:
    """Read and check a model folder.

    Args:
        source: Where the model is.
        model: Its settings: variant, replaced components, ControlNets.
        kind: The job that is asked of it.

    Returns:
        ``None`` for a Hub id that is not downloaded yet.

    Raises:
        RequestError: The folder asks for code that is not diffusers' or transformers' own, holds
            only pickled weights, or does not fit the settings.
        PrerequisiteError: Files are missing.
    """
    folder = source.folder
    if folder is None:
        return None
    index = _read_json(folder / "model_index.json")
    family = _family(source, index)
    controlnets = find_controlnets(model, kind)
    signature = _signature(source, family, kind, bool(controlnets))
    libraries = {
        name: entry[0]
        for name, entry in index.items()
        if isinstance(entry, list) and len(entry) == 2 and name != "_class_name"
    }
    for name, library in libraries.items():
        _require_known_library(source, name, library)
    for name in model.components:
        if name not in libraries:
            raise RequestError(
                f"model.components.{name}: {signature.name} in {source.name!r} has no such "
                f"component{did_you_mean(name, libraries) or f'; it has {listed([*libraries])}'}"
            )
        _require_readable(name, model.components[name], index[name])
    absent = frozenset(name for name, library in libraries.items() if library is None)
    if source.file is None:
        _require_weights(source, folder, set(libraries) - absent - set(model.components))
        _require_variant(source, folder, model.variant)
    configs = {
        path.parent.name: _read_json(path)
        for path in sorted(folder.glob("*/config.json"))
        if path.parent.name in libraries
    }
    if "unet" not in model.components:
        _require_channels(source, kind, configs.get("unet", {}).get("in_channels"), signature.name)
    # Some classes leave the rule for sizes to the pictures that they are given.
    rules = [
        found.size_multiple(configs)
        for found in (signature, read_signature(family.plain.get("text2img", "")))
        if found is not None
    ]
    multiple = lcm(*(rule for rule in rules if rule)) if any(rules) else None
    classes = {
        name: str(entry[1])
        for name, entry in index.items()
        if name in libraries and isinstance(entry, list) and entry[1] is not None
    }
    return Facts(
        signature=signature,
        family=family,
        kind=kind,
        controlnets=controlnets,
        components=frozenset(libraries),
        classes=classes,
        absent=absent,
        size_multiple=multiple,
        configs=configs,
    )


def is_gguf(path: str | None) -> bool:
    """Whether a component comes from a file of quantized weights."""
    return path is not None and path.lower().endswith(".gguf")


def weight_files(folder: Path, variant: str | None) -> list[Path]:
    """The ``.safetensors`` files that diffusers reads for a variant.

    A component without files of the variant is read from its plain ones, as diffusers does.
    """
    plain = [path for path in folder.glob("*.safetensors") if "." not in path.stem]
    if variant is None:
        return sorted(plain)
    of_variant = [
        path
        for path in folder.glob("*.safetensors")
        if path.stem.endswith(f".{variant}") or f".{variant}-" in path.stem
    ]
    return sorted(of_variant or plain)


def _read_json(path: Path) -> dict[str, Json]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RequestError(f"{path}: cannot be read as JSON: {error}") from None
    if not isinstance(data, dict):
        raise RequestError(f"{path}: not a JSON object")
    return data


def _family(source: Source, index: Mapping[str, Json]) -> Family:
    name = index.get("_class_name")
    if not isinstance(name, str):
        raise RequestError(
            f"model.name={source.name!r}: its model_index.json asks for the custom pipeline "
            f"{name!r}; code that comes with a model is never run"
        )
    if read_signature(name) is None:
        from importlib.metadata import version

        made_with = index.get("_diffusers_version")
        raise RequestError(
            f"model.name={source.name!r}: diffusers {version('diffusers')} has no pipeline "
            f"{name!r}{did_you_mean(name, pipeline_names())} (the folder was written by diffusers "
            f"{made_with})"
        )
    return family_of(name)


def _signature(source: Source, family: Family, kind: PipelineKind, controlled: bool) -> Signature:
    if kind == "controlnet" and not controlled and kind in family.kinds:
        raise RequestError(
            f"pipeline=controlnet needs a ControlNet that fits {source.name!r}: set "
            "model.controlnet to a folder or a Hub id"
        )
    name = family.class_for(kind, controlled)
    if name is None:
        extra = ""
        if controlled and kind in family.kinds:
            extra = " with a ControlNet (model.controlnet=null leaves it out)"
        raise RequestError(
            f"model.name={source.name!r}: {family.name or 'this model'} has no pipeline {kind!r}"
            f"{extra}; it has {listed(sorted(family.kinds))}"
        )
    signature = read_signature(name)
    if signature is None or "prompt" not in signature.call:
        raise RequestError(f"model.name={source.name!r}: {name} makes no images from a prompt")
    return signature


def _require_channels(source: Source, kind: PipelineKind, channels: Json, name: str) -> None:
    """A UNet of 9 channels is shown a picture and a mask; some families inpaint with no other."""
    if kind != "inpaint" and channels == _INPAINTING_CHANNELS:
        raise RequestError(
            f"model.name={source.name!r}: its UNet was made for inpainting and has no pipeline "
            f"{kind!r}; it has 'inpaint'"
        )
    if kind == "inpaint" and "Kandinsky" in name and channels != _INPAINTING_CHANNELS:
        raise RequestError(
            f"model.name={source.name!r}: its decoder was not made for inpainting; take one that "
            "was, such as kandinsky-community/kandinsky-2-2-decoder-inpaint"
        )


def _require_known_library(source: Source, component: str, library: Json) -> None:
    if library is None or library in {"diffusers", "transformers"}:
        return
    if not (isinstance(library, str) and is_pipeline_module(library)):
        raise RequestError(
            f"model.name={source.name!r}: its component {component!r} comes from {library!r}; "
            "only classes of diffusers and transformers are loaded"
        )


def _require_readable(name: str, path: str | None, entry: Json) -> None:
    """One file of weights in place of a component: no pickle, there, and of a class that can."""
    suffix = Path(path or "").suffix.lower()
    key = f"model.components.{name}={path!r}"
    if suffix in _PICKLED:
        raise RequestError(
            f"{key}: a {suffix} file can run code when it is read; take .safetensors or .gguf"
        )
    if path is None or suffix not in _ONE_FILE:
        return
    if not Path(path).expanduser().is_file():
        raise RequestError(f"{key}: no such file")
    cls = str(entry[1]) if isinstance(entry, list) else ""
    if "FromOriginalModelMixin" not in source_of("models", cls):
        raise RequestError(f"{key}: {cls} is not read from one file; give a folder or a Hub id")
    if suffix == ".gguf" and importlib.util.find_spec("gguf") is None:
        raise PrerequisiteError(
            f"{key}: needs the package gguf, which is not installed: pip install gguf"
        )


def _require_weights(source: Source, folder: Path, components: Iterable[str]) -> None:
    for name in sorted(components):
        part = folder / name
        if any(part.glob("*.py")):
            raise RequestError(
                f"model.name={source.name!r}: {name}/ brings its own Python code, which is never "
                "run"
            )
        wanted = "*.json" if any(word in name for word in _UNWEIGHED) else "*.safetensors"
        if any(part.glob(wanted)):
            continue
        pickled = sorted(path.name for path in part.glob("*") if path.suffix in _PICKLED)
        if pickled:
            raise RequestError(
                f"model.name={source.name!r}: {name}/ has only {pickled[0]}, which can run code "
                "when it is read; take a revision with .safetensors files, or convert it"
            )
        if source.repo is None:
            raise RequestError(
                f"model.name={source.name!r}: no {name}/{wanted} in the folder; where the pipeline "
                f"can do without, leave the component out: model.components.{name}=null"
            )
        if is_offline():
            raise PrerequisiteError(
                f"model.name={source.name!r}: {name}/ is not complete in the Hub's cache and "
                f"HF_HUB_OFFLINE is set; run `hf download {source.repo}` where there is a network"
            )


def _require_variant(source: Source, folder: Path, variant: str | None) -> None:
    """Some component must have files of the variant; a Hub id may still download them."""
    if source.repo is not None and not is_offline():
        return
    parts = [path for path in folder.iterdir() if path.is_dir()]
    chosen = [path for part in parts for path in weight_files(part, variant)]
    if variant is None:
        if chosen or not any(part.glob("*.safetensors") for part in parts):
            return
    elif any("." in path.stem for path in chosen):
        return
    there = sorted(set(_variants(parts)))
    raise RequestError(
        f"model.variant={variant or 'null'}: {source.name!r} has no such weights; "
        f"it has {listed(there) if there else 'only plain ones: model.variant=null'}"
    )


def _variants(parts: Iterable[Path]) -> Iterator[str]:
    for part in parts:
        for path in part.glob("*.safetensors"):
            if "." in path.stem:
                yield path.stem.partition(".")[2].partition("-")[0]
