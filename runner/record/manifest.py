"""``manifest.json``: what a run is, was given, ran on and cost. Valid JSON at any moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from runner.record.atomic import put_durably
from runner.record.journal import refuse_newer
from runner.record.paths import RunPaths
from runner.record.rows import SCHEMA_VERSION
from runner.settings.cell import CostBasis, Json
from runner.settings.errors import RequestError
from runner.settings.secrets import redact_bytes

RunStatus = Literal["running", "done", "incomplete", "interrupted", "failed"]


class Part(BaseModel):
    """A part of the manifest: nothing extra, fixed once made."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Code(Part):
    """Which code made the run."""

    version: str = Field(description="version of the runner")
    commit: str | None = Field(None, description="git commit of a source checkout")
    dirty: bool | None = Field(None, description="whether that checkout had changes")


class Machine(Part):
    """What the run ran on, without names of hosts or users."""

    python: str = Field(description="version of Python")
    platform: str = Field(description="operating system and processor architecture")
    cpu: str | None = Field(None, description="processor model")
    cpu_capability: str | None = Field(None, description="widest vector unit, such as AVX512")
    cores: int | None = Field(None, description="logical cores")
    devices: tuple[str, ...] = Field((), description="accelerators by name, with driver version")


class VariantRecord(Part):
    """One variant: who made images, with what."""

    index: int = Field(description="the `variant` of the rows")
    provider: str = Field(description="name of the provider")
    model: str = Field(description="model that was asked for")
    config: dict[str, JsonValue] = Field(
        default_factory=dict, description="resolved config; secrets as names of variables"
    )
    settled: dict[str, JsonValue] = Field(
        default_factory=dict,
        description="what the config left open and the run decided, by config key: resume and "
        "rerun start with these values",
    )
    model_identity: dict[str, JsonValue] = Field(
        default_factory=dict, description="what is known of the weights: commit, hashes"
    )
    versions: dict[str, str] = Field(
        default_factory=dict, description="libraries that made or fetched the images"
    )
    run: str | None = Field(None, description="run that it belongs to, where several are joined")


class Counts(Part):
    """Cells by outcome."""

    done: int = 0
    refused: int = 0
    failed: int = 0
    unknown: int = 0


class Manifest(Part):
    """The run, in one file."""

    schema_version: int = Field(SCHEMA_VERSION, description="version of this file's schema")
    run_id: str = Field(description="name of the run")
    command: tuple[str, ...] = Field((), description="what was typed, word by word")
    status: RunStatus = Field(
        description="running; done: every cell; incomplete: some refused, failed or unknown; "
        "interrupted: stopped and resumable; failed: ended by an error"
    )
    started_at: str = Field(description="UTC, ISO 8601: first start")
    ended_at: str | None = Field(None, description="UTC, ISO 8601: last end")
    plan_hash: str = Field(description="hash of the plan")
    cells: int = Field(ge=0, description="cells that are planned")
    counts: Counts = Field(default_factory=lambda: Counts(), description="cells by outcome")
    cost_usd: float | None = Field(
        None, description="known cost in US dollars; null if nothing is known"
    )
    cost_basis: CostBasis = Field("unknown", description="weakest basis among the known costs")
    cost_by_basis: dict[str, float] = Field(
        default_factory=dict, description="the known dollars by where each figure comes from"
    )
    cost_unknown_worst_usd: float | None = Field(
        None, description="most that calls without a known cost may add; null if that is unknown"
    )
    variants: tuple[VariantRecord, ...] = Field((), description="every variant of the plan")
    code: Code = Field(description="the code")
    machine: Machine = Field(description="the machine")
    packages: dict[str, str] = Field(default_factory=dict, description="installed versions")
    recipes: dict[str, dict[str, JsonValue]] = Field(
        default_factory=dict, description="short hash to how local images were made"
    )
    inputs: dict[str, str] = Field(
        default_factory=dict, description="input file as the user named it, to its sha256"
    )
    warnings: tuple[str, ...] = Field((), description="what a person should know")
    writers: tuple[str, ...] = Field((), description="journal files, oldest first")
    journal_bytes: int = Field(0, ge=0, description="their length, when this file was written")


def write_manifest(paths: RunPaths, manifest: Manifest) -> None:
    """Replace the manifest, atomically and durably.

    Raises:
        OSError: The disk is full or gone; the old manifest is as it was.
    """
    put_durably(paths.manifest, redact_bytes(manifest.model_dump_json(indent=2).encode()) + b"\n")


def read_manifest(paths: RunPaths) -> Manifest:
    """Read the manifest.

    Raises:
        RequestError: There is none, it is not one, or a later version wrote it.
    """
    try:
        raw = paths.manifest.read_bytes()
    except OSError:
        raise RequestError(
            f"{paths.root} is not a run folder: it has no readable manifest.json"
        ) from None
    try:
        refuse_newer(_Version.model_validate_json(raw).schema_version, str(paths.manifest))
        return Manifest.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise RequestError(
            f"{paths.manifest} is not a manifest of this runner: {where}: {first['msg']}"
        ) from None


def plain(value: Json) -> JsonValue:
    """The same value in plain dicts and lists, as the manifest's models hold it."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(item) for item in value]
    return value


def plain_object(value: Mapping[str, Json]) -> dict[str, JsonValue]:
    """:func:`plain` of a mapping."""
    return {key: plain(item) for key, item in value.items()}


class _Version(BaseModel):
    """Just the version, so that a later schema is named before it is found unreadable."""

    schema_version: int
