"""What a model is, apart from where it lies: sha256 of its files, torch-free and remembered.

A path is no identity. The same folder in two places is one model, and a folder whose weights
changed is another, so a local model is named by its content.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from runner.providers.local.device import Weights
from runner.providers.local.options import DiffusersOptions
from runner.providers.local.preflight import Facts, weight_files
from runner.providers.local.preprocess import names_of, networks
from runner.providers.local.source import Source, cached_commit
from runner.settings.cell import Json, digest
from runner.settings.schema import ModelSettings, VariantSettings

_SMALL = 1 << 20
"""Files below this many bytes are hashed every time: as fast as asking the cache."""

_SIDE_FILES = ("*.json", "*.txt", "*.model")
"""Configs and tokenizers."""


def model_files(folder: Path, components: Iterable[str], variant: str | None) -> list[Path]:
    """The files of a diffusers folder that a picture depends on, in a fixed order."""
    files = [folder / "model_index.json"]
    for name in sorted(components):
        part = folder / name
        for pattern in _SIDE_FILES:
            files += sorted(part.glob(pattern))
        files += weight_files(part, variant)
    return files


def file_hashes(files: Iterable[Path], root: Path) -> dict[str, str]:
    """sha256 of each file by its path below ``root``.

    Hashes of large files are kept in the user's cache folder by path, size, time of change and
    inode; a file in the Hub's cache already bears its hash as the name of its blob.
    """
    paths = list(files)
    cache = _HashCache()
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        hashes = list(pool.map(cache.sha256, paths))
    cache.save()
    return {path.relative_to(root).as_posix(): sha for path, sha in zip(paths, hashes, strict=True)}


def source_identity(source: Source, facts: Facts | None, model: ModelSettings) -> dict[str, Json]:
    """What of a model belongs to a cell's id.

    A Hub id is named by id and revision, everything else by its content.
    """
    variant = model.variant
    identity: dict[str, Json] = {"variant": variant}
    if source.file is not None:
        identity["file"] = file_hashes([source.file], source.file.parent)[source.file.name]
    if source.repo is not None:
        identity |= {"hub": source.repo, "revision": model.revision}
    elif source.folder is not None and facts is not None:
        held = facts.components - facts.absent - set(model.components)
        files = model_files(source.folder, held, variant)
        if source.file is not None:
            files = [path for path in files if path.suffix != ".safetensors"]
        identity["content"] = digest(file_hashes(files, source.folder))
    replaced = {
        name: _component_identity(path)
        for name, path in sorted(model.components.items())
        # Leaving out what the folder does not have changes nothing; but of a Hub id nobody can
        # tell before it is downloaded.
        if path is not None or source.repo or facts is None or name not in facts.absent
    }
    return identity | ({"components": replaced} if replaced else {})


def manifest_identity(source: Source, facts: Facts, model: ModelSettings) -> dict[str, Json]:
    """Everything that is known of loaded weights: class, Hub commit, sha256 of every file."""
    if source.folder is None:
        raise ValueError("the model is not downloaded")
    held = facts.components - facts.absent - set(model.components)
    files = file_hashes(model_files(source.folder, held, model.variant), source.folder)
    known: dict[str, Json] = {
        "pipeline_class": facts.signature.name,
        "commit": source.commit,
        "files": files,
        "controlnets": [_network_facts(net) for net in facts.controlnets] or None,
        **source_identity(source, facts, model),
    }
    return {key: value for key, value in known.items() if value is not None}


def hub_commits(
    source: Source, facts: Facts, settings: VariantSettings, options: DiffusersOptions
) -> dict[str, str]:
    """The commits that loaded Hub ids stand for; a branch may move on."""
    model = settings.model
    known = {part.repo: part.commit for part in (source, *facts.controlnets)}
    files = {path: "config.json" for path in model.components.values() if path is not None}
    files |= {lora.name: lora.file for lora in options.loras if lora.file is not None}
    if (adapter := options.ip_adapter) is not None:
        where, folder = adapter.encoder()
        files[where] = (Path(folder) / "config.json").as_posix()
        files[adapter.name] = (Path(adapter.subfolder) / adapter.file).as_posix()
    for name in names_of(settings.pipeline):
        files |= dict.fromkeys(networks(name, options), "config.json")
    revisions: dict[str, str | None] = {**model.commits}
    if (refiner := options.refiner) is not None:
        files[refiner.name] = "model_index.json"
        revisions.setdefault(refiner.name, refiner.revision)
    for name, file in files.items():
        if not Path(name).expanduser().exists():
            known[name] = cached_commit(name, file, revisions.get(name))
    return {
        repo: commit for repo, commit in known.items() if repo is not None and commit is not None
    }


def count_weights(source: Source, facts: Facts, model: ModelSettings) -> Weights:
    """How many numbers a model holds, from the heads of its files."""
    if source.file is not None:
        return Weights(*[_numbers(source.file)] * 2)
    if source.folder is None:
        raise ValueError("the model is not downloaded")
    parts = {
        name: sum(map(_numbers, weight_files(source.folder / name, model.variant)))
        for name in facts.components - facts.absent - set(model.components)
    }
    parts |= {
        name: _numbers_at(Path(path).expanduser())
        for name, path in model.components.items()
        if path is not None
    }
    return Weights(max(parts.values(), default=0), sum(parts.values()))


def _numbers_at(path: Path) -> int:
    """How many numbers a component that was put in holds; quantized ones count by their bytes."""
    if path.is_dir():
        return sum(map(_numbers, weight_files(path, None)))
    if path.suffix.lower() == ".safetensors":
        return _numbers(path)
    return path.stat().st_size // 2 if path.is_file() else 0


def _numbers(path: Path) -> int:
    """How many numbers a .safetensors file holds."""
    with path.open("rb") as file:
        head = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return sum(math.prod(entry["shape"]) for name, entry in head.items() if name != "__metadata__")


def network_identity(source: Source) -> Json:
    """What of a network that is loaded by itself belongs to a cell's id."""
    if source.repo is not None or source.folder is None:
        return {"hub": source.repo}
    return digest(_network_files(source.folder))


def _network_facts(source: Source) -> dict[str, Json]:
    """Everything that is known of such a network once it is there."""
    if source.folder is None:
        raise ValueError("the network is not downloaded")
    files: dict[str, Json] = {**_network_files(source.folder)}
    facts: dict[str, Json] = {"hub": source.repo, "commit": source.commit, "files": files}
    return {key: value for key, value in facts.items() if value is not None}


def _network_files(folder: Path) -> dict[str, str]:
    files = [file for pattern in _SIDE_FILES for file in sorted(folder.glob(pattern))]
    return file_hashes([*files, *weight_files(folder, None)], folder)


def _component_identity(path: str | None) -> Json:
    if path is None:
        return False
    where = Path(path).expanduser()
    if where.is_file():
        return file_hashes([where], where.parent)[where.name]
    return digest(_network_files(where)) if where.is_dir() else path


class _HashCache:
    """Path to ``[size, mtime_ns, inode, sha256]``, in one JSON file that may vanish any time."""

    def __init__(self) -> None:
        root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        self._file = Path(root) / "image-batch-runner" / "sha256.json"
        self._known: dict[str, list[int | str]] = {}
        self._new: dict[str, list[int | str]] = {}
        with suppress(OSError, ValueError):
            self._known = dict(json.loads(self._file.read_text(encoding="utf-8")))

    def sha256(self, path: Path) -> str:
        real = path.resolve()
        if real.parent.name == "blobs" and len(real.name) == 64:
            return real.name
        stat = real.stat()
        if stat.st_size < _SMALL:
            return hashlib.sha256(real.read_bytes()).hexdigest()
        facts: list[int | str] = [stat.st_size, stat.st_mtime_ns, stat.st_ino]
        known = self._known.get(str(real))
        if known is not None and known[:3] == facts:
            return str(known[3])
        with real.open("rb") as file:
            sha = hashlib.file_digest(file, "sha256").hexdigest()
        self._new[str(real)] = [*facts, sha]
        return sha

    def save(self) -> None:
        """Keep what is new, forget files that are gone. A read-only home is no error."""
        if not self._new:
            return
        kept = {path: facts for path, facts in self._known.items() if Path(path).exists()}
        temporary = self._file.with_suffix(f".{os.getpid()}.tmp")
        with suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(kept | self._new), encoding="utf-8")
            temporary.replace(self._file)
