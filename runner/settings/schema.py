"""The schema of everything under ``conf/``: one pydantic model per section, nothing extra allowed.

Each field's description feeds the help, the JSON schema and the tables in ``docs/``.
"""

from __future__ import annotations

import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from runner.settings.cell import PipelineKind, Scalar

Unsupported = Literal["error", "warn", "drop"]
DeviceName = Annotated[str, Field(pattern=r"^(auto|cpu|mps|all_gpus|cuda(:\d+)?)$")]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]
BatchSize = Literal["auto"] | Annotated[int, Field(ge=1, le=512)]
OneOrMore = Scalar | list[Scalar]


class Section(BaseModel):
    """A section of the config: unknown keys are refused, values are fixed once read."""

    # Built when first used: a section inside another one needs no validator of its own.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, defer_build=True)


Share = Annotated[float, Field(ge=0, le=1)]
"""From none to all."""


class Lifecycle(Section):
    """Whether a model is still offered, as of a date and a source."""

    state: Literal["active", "preview", "deprecated", "retired"] = "active"
    date: datetime.date | None = Field(None, description="day of its deprecation or end of life")
    replacement: str | None = Field(None, description="what the vendor says to use instead")
    source: str | None = Field(None, description="where this was read, and when")


class ModelSettings(Section):
    """Which model makes the pictures."""

    name: str = Field(description="model id: an API's name, a Hub id, a folder or a file")
    revision: str | None = Field(None, description="Hub branch, tag or commit")
    variant: str | None = Field(None, description="weights variant of a Hub repository (fp16)")
    components: dict[str, str | None] = Field(
        default_factory=dict,
        description="pipeline components to replace by a path, or to leave out with null",
    )
    controlnet: str | list[str] | None = Field(
        None, description="ControlNets that steer it: folders or Hub ids; they work together"
    )
    config: str | None = Field(
        None, description="folder with the pipeline's configs, for a single .safetensors file"
    )
    commits: dict[str, str] = Field(
        default_factory=dict,
        description="Hub ids and the commits that they stood for; a run fills this in, so that "
        "resume and rerun load the same weights",
    )
    preset: dict[str, Scalar] = Field(
        default_factory=dict, description="cell-level keys that this model sets when you do not"
    )
    traits: dict[str, Any] = Field(
        default_factory=dict, description="what the model takes, as data that the provider reads"
    )
    price: dict[str, Any] = Field(
        default_factory=dict, description="dated price data that the provider reads"
    )
    lifecycle: Lifecycle = Field(default_factory=Lifecycle, description="active, deprecated …")


class ProviderSettings(Section):
    """Who makes the pictures, and how to reach them."""

    name: str = Field(description="registered name of the provider")
    base_url: str | None = Field(None, description="https address, or http on loopback")
    api_key_env: str | None = Field(
        None, description="NAME of the environment variable with the key, never the key"
    )
    options: dict[str, Any] = Field(
        default_factory=dict, description="native parameters, typed by the provider"
    )
    extra_body: dict[str, Any] = Field(
        default_factory=dict, description="passed through as it is, unchecked"
    )


class PipelineSettings(Section):
    """What kind of job: text to image, or with input images."""

    name: PipelineKind = Field("text2img", description="kind of pipeline")
    image: str | None = Field(None, description="input image: a path")
    mask: str | None = Field(None, description="mask: a path; white = repaint")
    strength: float | None = Field(
        None, ge=0, le=1, description="how far to go from the input: 0 keeps it, 1 changes most"
    )
    control_image: str | None = Field(
        None, description="control image: a path; for several ControlNets one each, a.png|b.png"
    )
    control_scale: float | None = Field(None, ge=0, description="weight of the control image")
    resize: Literal["fit", "fill", "stretch", "none"] | None = Field(
        None,
        description="input images and size: fit inside it, fill it and crop, stretch to it, or "
        "none (it must fit already); null: fit",
    )
    preprocessor: str | list[str] | None = Field(
        None,
        description="makes the control image: canny, softedge, depth or pose; one per ControlNet",
    )
    control_weights: list[Annotated[float, Field(ge=0)]] | None = Field(
        None, description="several ControlNets: how much each counts, times control_scale"
    )
    control_start: Share | list[Share] | None = Field(
        None,
        description="share of the steps after which the control image counts; one, or one for each "
        "ControlNet",
    )
    control_end: Share | list[Share] | None = Field(
        None, description="share of the steps after which it counts no more; one, or one for each"
    )


class DeviceSettings(Section):
    """Where local pipelines run. Part of the recipe, not of a cell's id."""

    name: DeviceName = Field("auto", description="auto, cpu, cuda, cuda:N, mps or all_gpus")
    dtype: Dtype = Field("auto", description="auto: float32 on the CPU, bfloat16 on a GPU")
    memory: Literal["auto", "high", "low"] = Field(
        "auto",
        description="high: all of the model on the GPU; low: one part at a time, decoded in tiles; "
        "auto: by its free memory",
    )
    batch_size: BatchSize = Field(
        1,
        description="images in one local batch; auto: a short trial of the loaded model says, once "
        "per run, and the run keeps it",
    )
    threads: int | None = Field(None, ge=1, description="CPU threads; null: all cores")
    workers: int | None = Field(
        None, ge=1, le=64, description="worker processes of all_gpus; null: one per GPU"
    )


class EngineSettings(Section):
    """What schedules the calls."""

    name: Literal["local"] = Field("local", description="in this process")


class LimitSettings(Section):
    """How hard the run may push."""

    budget_usd: float | None = Field(None, ge=0, description="never spend more than this")
    allow_unknown_price: bool = Field(
        False, description="start although a price is unknown and a budget is set"
    )
    max_concurrency: int = Field(
        32, ge=1, le=4096, description="most calls in flight per quota; found out up to here"
    )
    requests_per_minute: float | None = Field(
        None, gt=0, description="calls per minute and quota; null: found out"
    )
    images_per_minute: float | None = Field(
        None, gt=0, description="images per minute and quota; null: found out"
    )
    in_flight_mb: int = Field(
        256, ge=1, description="megabytes of pictures that may be on their way to the disk"
    )
    timeout_s: float = Field(600, gt=0, description="seconds until a call is given up")


class RetrySettings(Section):
    """The one retry loop."""

    max_attempts: int = Field(
        4, ge=1, le=100, description="tries of one call, those that a rate limit turned away aside"
    )
    max_wait_s: float = Field(
        60, ge=0, description="longest wait between two tries, also if the provider asks for more"
    )
    max_total_s: float = Field(
        900, ge=0, description="a call is not tried again so many seconds after its first try"
    )
    unknown: bool = Field(False, description="resend a call that got no answer (may bill twice)")
    breaker_failures: int = Field(
        8, ge=1, description="calls in a row without a proper answer that pause a provider"
    )
    breaker_probes: int = Field(
        6, ge=1, description="single calls after pauses that fail before a provider is given up"
    )


class OutputSettings(Section):
    """What is written beside the provider's own bytes."""

    format: Literal["png", "webp", "jpeg"] = Field(
        "png", description="format of images that we encode ourselves"
    )
    quiet: bool = Field(False, description="no progress; only errors and the closing line")
    embed: list[Literal["infotext", "xmp", "c2pa", "c2pa_sidecar"]] = Field(
        default_factory=list,
        description="metadata put into each file, pixels untouched; c2pa signs last",
    )
    embed_prompt: bool = Field(True, description="whether that metadata holds the prompts")
    c2pa_certificate: str | None = Field(
        None, description="PEM file with your certificate chain; null: the one of `runner doctor`"
    )
    c2pa_key: str | None = Field(None, description="PEM file with its private ES256 key")


class PromptStyle(Section):
    """Text put around every prompt."""

    name: str | None = Field(None, description="name shown in the record")
    prefix: str = Field("", description="put before the prompt")
    suffix: str = Field("", description="put after the prompt")
    negative_prompt: str | None = Field(None, description="added to the negative prompt")
    native: str | None = Field(None, description="the provider's own style name")


class SweepSettings(Section):
    """Axes: every combination is a cell."""

    axes: dict[str, Any] = Field(
        default_factory=dict,
        description="key to values: a list, or Hydra's range(0,8), choice(a,b), a,b,c",
    )
    zip: list[list[str]] = Field(
        default_factory=list, description="groups of axes that advance together"
    )
    exclude: list[dict[str, OneOrMore]] = Field(
        default_factory=list, description="points to leave out: all given keys must match"
    )
    cells: list[dict[str, Scalar]] = Field(
        default_factory=list, description="explicit points, after the product of the axes"
    )


class VariantSettings(Section):
    """The part of a composed config that one provider object needs."""

    provider: ProviderSettings
    model: ModelSettings
    pipeline: PipelineSettings = Field(default_factory=PipelineSettings)
    device: DeviceSettings = Field(default_factory=DeviceSettings)
    output: OutputSettings = Field(default_factory=OutputSettings)
    timeout_s: float = Field(600, gt=0, description="seconds until a call is given up")


class Settings(Section):
    """One composed config."""

    prompt: str | None = Field(None, description="what to draw; {column} of a prompts file")
    prompts: str | None = Field(None, description="prompt file: .txt, .csv, .jsonl or .parquet")
    negative_prompt: str | None = Field(None, description="what not to draw")
    seed: int | None = Field(
        None, ge=0, lt=2**63, description="start of the noise; null: drawn once and recorded"
    )
    n: int = Field(1, ge=1, le=1_000_000, description="images per point; image i has seed + i")
    size: str | None = Field(None, description="WIDTHxHEIGHT, 16:9 or 2K, as the model takes it")
    steps: int | None = Field(None, ge=1, le=10_000, description="denoising steps")
    guidance_scale: float | None = Field(None, ge=0, le=1000, description="prompt adherence")
    quality: str | None = Field(None, description="the provider's quality level")
    background: str | None = Field(None, description="transparent, opaque or auto")
    output_format: str | None = Field(None, description="file format asked of the provider")
    style: PromptStyle = Field(
        default_factory=PromptStyle, description="prompt style, or the provider's style name"
    )
    provider: ProviderSettings
    model: ModelSettings
    pipeline: PipelineSettings = Field(default_factory=PipelineSettings)
    device: DeviceSettings = Field(default_factory=DeviceSettings)
    engine: EngineSettings = Field(default_factory=EngineSettings)
    limits: LimitSettings = Field(default_factory=LimitSettings)
    retry: RetrySettings = Field(default_factory=RetrySettings)
    reuse: bool = Field(
        False,
        description="take pictures of the same cells from earlier runs under the same outputs",
    )
    unsupported: Unsupported = Field(
        "error", description="what to do with a key that the model does not take"
    )
    output: OutputSettings = Field(default_factory=OutputSettings)
    sweep: SweepSettings = Field(default_factory=SweepSettings)

    @field_validator("size", mode="before")
    @classmethod
    def _size_as_text(cls, value: object) -> object:
        """YAML reads a bare ``512`` as a number; it means 512x512."""
        return f"{value}x{value}" if isinstance(value, int) and value > 0 else value

    def variant(self) -> VariantSettings:
        """The part that one provider object needs."""
        return VariantSettings(
            provider=self.provider,
            model=self.model,
            pipeline=self.pipeline,
            device=self.device,
            output=self.output,
            timeout_s=self.limits.timeout_s,
        )
