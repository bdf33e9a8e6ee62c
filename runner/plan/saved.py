"""plan.json: what defines a plan, enough to expand it again exactly."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from runner.plan.files import InputFile, InputFiles, expect
from runner.plan.grammar import values_from_json, values_to_json
from runner.plan.prompts import PromptFile
from runner.plan.spec import PlanSpec, Variant
from runner.settings.cell import FILE_KEYS, FILES_APART, Json, Scalar, digest
from runner.settings.errors import RequestError
from runner.settings.schema import PromptStyle, VariantSettings

PLAN_VERSION = 1
"""Version of plan.json. A newer one is refused by name."""


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", defer_build=True)


class SavedVariant(_Entry):
    """One variant in plan.json; see :class:`runner.plan.spec.Variant`."""

    label: dict[str, str]
    settings: VariantSettings
    values: dict[str, Scalar]
    style: PromptStyle
    n: int = Field(ge=1)
    identity: str
    takes_seed: bool
    dropped: tuple[str, ...]


class SavedFile(_Entry):
    """One input file in plan.json: the path as written, and what was in it."""

    path: str
    sha256: str


class SavedPrompts(SavedFile):
    """The prompt file in plan.json."""

    columns: tuple[str, ...]
    rows: int


class SavedPlan(_Entry):
    """The whole of plan.json."""

    schema_version: int = PLAN_VERSION
    hash: str = Field(description="digest of everything that the cells and their order depend on")
    seed: int | None = Field(description="base seed of points that have none, drawn once")
    variants: tuple[SavedVariant, ...]
    axes: dict[str, Any] = Field(description="key to a list, or to the bounds of a range")
    zip: tuple[tuple[str, ...], ...]
    exclude: tuple[dict[str, Scalar | list[Scalar]], ...]
    cells: tuple[dict[str, Scalar], ...]
    prompts: SavedPrompts | None
    styles: dict[str, PromptStyle]
    files: tuple[SavedFile, ...] = Field(description="input images, copied to inputs/")


def save(spec: PlanSpec, files: InputFiles) -> SavedPlan:
    """What plan.json holds of a plan that has been built."""
    file = spec.prompts
    saved = SavedPlan(
        hash="",
        seed=spec.seed,
        variants=tuple(
            SavedVariant(
                label=dict(variant.label),
                settings=variant.settings,
                values=dict(variant.values),
                style=variant.style,
                n=variant.n,
                identity=variant.identity,
                takes_seed=variant.takes_seed,
                dropped=variant.dropped,
            )
            for variant in spec.variants
        ),
        axes={key: values_to_json(values) for key, values in spec.axes.items()},
        zip=tuple(map(tuple, spec.zip)),
        exclude=tuple(
            {key: cast(Any, value) for key, value in rule.items()} for rule in spec.exclude
        ),
        cells=tuple(map(dict, spec.cells)),
        prompts=file
        and SavedPrompts(path=file.path, sha256=file.sha256, columns=file.columns, rows=len(file)),
        styles={name: spec.styles[name] for name in sorted(spec.styles)},
        files=tuple(SavedFile(path=f.path, sha256=f.sha256) for f in files.all()),
    )
    saved.hash = _hash(saved, files)
    return saved


def load(data: Mapping[str, Json], root: Path | None) -> tuple[PlanSpec, InputFiles]:
    """Read plan.json.

    Args:
        data: The parsed file.
        root: The run folder, whose copies of input files are read; ``None``: the user's files.

    Raises:
        RequestError: It is damaged or newer, or an input file has changed or is gone.
    """
    version = data.get("schema_version")
    if version != PLAN_VERSION:
        raise RequestError(
            f"plan.json has schema version {version}; this program reads {PLAN_VERSION}: use the "
            "version of the runner that wrote it"
        )
    try:
        saved = SavedPlan.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise RequestError(f"plan.json is damaged at {place}: {first['msg'].lower()}") from None
    files = InputFiles(root, {file.path: file.sha256 for file in saved.files})
    spec = PlanSpec(
        variants=tuple(
            Variant(
                index=index,
                label=variant.label,
                settings=variant.settings,
                values=variant.values,
                style=variant.style,
                n=variant.n,
                identity=variant.identity,
                takes_seed=variant.takes_seed,
                dropped=variant.dropped,
            )
            for index, variant in enumerate(saved.variants)
        ),
        axes={key: values_from_json(values) for key, values in saved.axes.items()},
        zip=saved.zip,
        exclude=saved.exclude,
        cells=saved.cells,
        prompts=_open(saved.prompts, root) if saved.prompts else None,
        styles=saved.styles,
        seed=saved.seed,
    )
    if _hash(saved, files) != saved.hash:
        raise RequestError("plan.json is damaged: its content does not match its hash")
    return spec, files


def _open(saved: SavedPrompts, root: Path | None) -> PromptFile:
    source = Path(saved.path)
    if root is not None:
        source = root / InputFile(saved.path, saved.sha256, source).copy
    expect(source, saved.sha256, saved.path)
    return PromptFile.open(saved.path, source)


def _hash(saved: SavedPlan, files: InputFiles) -> str:
    """Digest of what cells and their order depend on: no paths, addresses, devices or limits."""
    data = saved.model_dump(mode="json", exclude={"hash", "files"})
    known = {file.path: file.sha256 for file in files.all()}

    def content(value: Any) -> Any:
        if value not in known and isinstance(value, str) and FILES_APART in value:
            return FILES_APART.join(known.get(part, part) for part in value.split(FILES_APART))
        return known.get(value, value)

    def named(values: Mapping[str, Any]) -> dict[str, Any]:
        return {key: content(value) if key in FILE_KEYS else value for key, value in values.items()}

    for variant in data["variants"]:
        variant["preset"] = named(variant.pop("settings")["model"]["preset"])
        variant["values"] = named(variant["values"])
    for key in FILE_KEYS & data["axes"].keys():
        data["axes"][key] = [content(value) for value in data["axes"][key]]
    data["cells"] = [named(cell) for cell in data["cells"]]
    if data["prompts"]:
        data["prompts"].pop("path")
    data["axes"] = list(data["axes"].items())  # the order of axes is the order of cells
    return digest(cast(Json, data))
