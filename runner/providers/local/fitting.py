"""Whether a model can take the options that are asked, told from files before it is loaded."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path

from runner.providers.local.identity import file_hashes
from runner.providers.local.options import NOT_IDENTITY, DiffusersOptions, IpAdapter
from runner.providers.local.preflight import Facts
from runner.providers.local.refine import refiner_facts, refiner_identity
from runner.providers.local.schedulers import choose
from runner.providers.local.signature import models_with, source_of
from runner.providers.local.weighting import ENCODERS
from runner.settings.cell import Json, digest
from runner.settings.errors import PrerequisiteError, RequestError, listed
from runner.settings.schema import ModelSettings

_PACKAGES = {
    "bitsandbytes_4bit": "bitsandbytes",
    "bitsandbytes_8bit": "bitsandbytes",
    "quanto_int8": "optimum.quanto",
    "torchao_int8": "torchao",
}
_INSTALL = {"optimum.quanto": "optimum-quanto"}
_LORA_MIXIN = "LoraLoaderMixin"


def denoiser(facts: Facts) -> tuple[str, str]:
    """Name and class of the network that denoises; empty if there is none of a known name."""
    for name in ("transformer", "unet", "prior_transformer"):
        if name in facts.classes:
            return name, facts.classes[name]
    return "", ""


def t5_encoder(facts: Facts) -> str | None:
    """The component that is a T5 text encoder."""
    return next((name for name, cls in facts.classes.items() if cls == "T5EncoderModel"), None)


def require_fitting(facts: Facts, options: DiffusersOptions) -> None:
    """Make sure that a model can take every option.

    Raises:
        RequestError: It cannot; one sentence per option says which models can.
        PrerequisiteError: A package is missing.
    """
    problems = list(_problems(facts, options))
    if problems:
        raise RequestError(*problems)
    if options.scheduler is not None:
        choose(options.scheduler, facts.classes.get("scheduler", ""))
    needed: list[tuple[str, str]] = []
    if options.loras:
        needed.append(("loras", "peft"))
    if options.prompt_weighting is not None:
        needed.append((f"prompt_weighting={options.prompt_weighting}", options.prompt_weighting))
    if options.quantization is not None:
        needed.append((f"quantization={options.quantization}", _PACKAGES[options.quantization]))
    for what, package in needed:
        if importlib.util.find_spec(package.partition(".")[0]) is None:
            install = _INSTALL.get(package, package)
            raise PrerequisiteError(
                f"provider.options.{what} needs the package {install}, which is not installed: "
                f"pip install {install}"
            )


def options_identity(options: DiffusersOptions, model: ModelSettings) -> dict[str, Json]:
    """The options that belong to a cell's id; files count by their content."""
    asked: dict[str, Json] = options.model_dump(
        mode="json", exclude_defaults=True, exclude=set(NOT_IDENTITY)
    )
    if options.loras:
        asked["loras"] = [
            {"weights": _content(lora.name, lora.file), "weight": lora.weight}
            for lora in options.loras
        ]
    if options.textual_inversions:
        asked["textual_inversions"] = [
            {"weights": _content(each.name, None), "token": each.token}
            for each in options.textual_inversions
        ]
    if (adapter := options.ip_adapter) is not None:
        asked["ip_adapter"] = {
            "weights": _content(adapter.name, str(Path(adapter.subfolder) / adapter.file)),
            "encoder": _encoder_content(adapter),
            "image": _content(adapter.image, None),
            "scale": adapter.scale,
        }
    if options.refiner is not None:
        asked["refiner"] = refiner_identity(options.refiner, model)
    return asked


def weights_facts(options: DiffusersOptions, model: ModelSettings) -> Mapping[str, Json]:
    """The further weights of the options, for the manifest."""
    known = options_identity(options, model)
    if options.refiner is not None:
        known["refiner"] = {**refiner_facts(options.refiner, model)}
    kept = ("loras", "textual_inversions", "ip_adapter", "refiner")
    return {key: known[key] for key in kept if key in known}


def _content(name: str, file: str | None) -> Json:
    path = Path(name).expanduser()
    if path.is_file():
        return file_hashes([path], path.parent)[path.name]
    if path.is_dir():
        files = [path / file] if file else sorted(path.glob("*.safetensors"))
        return digest(file_hashes([each for each in files if each.is_file()], path))
    return f"{name}/{file}" if file else name


def _encoder_content(adapter: IpAdapter) -> Json:
    where, folder = adapter.encoder()
    path = Path(where).expanduser()
    return _content(str(path / folder), None) if path.is_dir() else f"{where}/{folder}"


def _problems(facts: Facts, options: DiffusersOptions) -> Iterator[str]:
    cls = facts.signature.name
    for argument in ("clip_skip", "guidance_rescale"):
        if getattr(options, argument) is not None and argument not in facts.signature.call:
            can = {
                "clip_skip": "those of Stable Diffusion",
                "guidance_rescale": "those of Stable Diffusion 1, 2 and XL",
            }
            yield (
                f"provider.options.{argument}: {cls} takes no such argument; {can[argument]} take "
                "it"
            )
    if options.prompt_weighting is not None:
        if facts.family.name not in ENCODERS:
            yield (
                f"provider.options.prompt_weighting: {cls} cannot; pipelines of Stable Diffusion "
                "1, 2, XL and of FLUX can"
            )
        elif options.clip_skip is not None:
            yield "provider.options.prompt_weighting: not together with clip_skip; take one of both"
    if options.refiner is not None:
        if "denoising_end" not in facts.signature.call or facts.kind == "inpaint":
            yield (
                f"provider.options.refiner: {cls} takes none; text2img, img2img and controlnet of "
                "Stable Diffusion XL do"
            )
        elif options.prompt_weighting is not None:
            yield "provider.options.refiner: it reads no weights; take no prompt_weighting with it"
    if options.drop_t5 and facts.family.name != "stable-diffusion-3":
        yield (
            f"provider.options.drop_t5: {cls} cannot do without its text encoder; Stable "
            "Diffusion 3 can"
        )
    name, network = denoiser(facts)
    wants_network = options.attention or options.step_cache or options.compile
    text = source_of("models", network) if wants_network else ""
    for option, asked, word in (
        ("attention", options.attention is not None, "dispatch_attention_fn"),
        ("step_cache", options.step_cache is not None, "CacheMixin,"),
        ("compile", options.compile, "_repeated_blocks = ["),
    ):
        if asked and word not in text:
            yield (
                f"provider.options.{option}: {network or 'this model'} cannot do that; "
                f"{listed(models_with(word), 8)} can"
            )
    vae = source_of("models", facts.classes.get("vae", "none"))
    for option, word in (("vae_slicing", "use_slicing"), ("vae_tiling", "use_tiling")):
        if getattr(options, option) and word not in vae:
            yield (
                f"provider.options.{option}: the autoencoder of {cls} cannot do that; those of "
                "Stable Diffusion, FLUX, Qwen-Image, Sana and most others can"
            )
    wants_weights = bool(options.loras or options.textual_inversions)
    source = source_of("pipelines", cls) if wants_weights else ""
    if options.loras and _LORA_MIXIN not in source:
        yield (
            f"provider.options.loras: {cls} takes no LoRAs; pipelines of Stable Diffusion, FLUX, "
            "Qwen-Image, Z-Image, Sana and most others do"
        )
    if options.textual_inversions and "TextualInversionLoaderMixin" not in source:
        yield (
            f"provider.options.textual_inversions: {cls} takes none; pipelines of Stable "
            "Diffusion 1, 2, XL and of FLUX do"
        )
    if options.ip_adapter is not None and "ip_adapter_image" not in facts.signature.call:
        yield (
            f"provider.options.ip_adapter: {cls} takes none; pipelines of Stable Diffusion 1, 2, "
            "XL and 3, of FLUX and of Kolors do"
        )
    if options.ip_adapter is not None and options.quantization is not None and name == "unet":
        yield "provider.options.ip_adapter: a quantized UNet takes none; take no quantization"
    if options.loras and options.quantization == "quanto_int8" and facts.family.name == "flux":
        yield (
            "provider.options.loras: FLUX takes none with quantization=quanto_int8; take "
            "torchao_int8"
        )
    if options.keep_unmasked and facts.kind != "inpaint":
        yield f"provider.options.keep_unmasked needs pipeline=inpaint, not {facts.kind}"
    yield from _file_problems(options)


def _weights(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors")) if folder.is_dir() else []


def lora_file(name: str, file: str | None) -> tuple[str, str | None]:
    """Folder (or Hub id) and file of a LoRA; without a name a pickle might be guessed."""
    path = Path(name).expanduser()
    if path.is_file():
        return str(path.parent), path.name
    if path.is_dir():
        return str(path), file or _weights(path)[0].name
    return name, file


def _file_problems(options: DiffusersOptions) -> Iterator[str]:
    named = [("loras", lora.name, lora.file) for lora in options.loras]
    named += [("textual_inversions", each.name, None) for each in options.textual_inversions]
    if (adapter := options.ip_adapter) is not None:
        named.append(("ip_adapter", adapter.name, str(Path(adapter.subfolder) / adapter.file)))
        if not Path(adapter.image).expanduser().is_file():
            yield f"provider.options.ip_adapter.image: no file {adapter.image}"
    for option, name, file in named:
        path = Path(name).expanduser()
        given = file or (name if path.suffix and not path.is_dir() else None)
        if given is not None and "/" in name and not path.exists() and name.count("/") == 1:
            given = file  # A Hub id may have a dot in its name.
        if given is not None and not given.endswith(".safetensors"):
            yield (
                f"provider.options.{option}: {given} can run code when it is read; only "
                ".safetensors files are loaded"
            )
        elif path.is_dir() and file is not None and not (path / file).is_file():
            yield f"provider.options.{option}: no file {file} in {name}"
        elif not path.is_file() and (
            path.suffix == ".safetensors" or option == "textual_inversions"
        ):
            yield f"provider.options.{option}: no file {name}"
        elif option == "loras" and file is None and not path.is_file() and len(_weights(path)) != 1:
            yield (
                f"provider.options.loras: say which file of {name} it is: "
                f"{{name: {name}, file: NAME.safetensors}}"
            )
