"""What the runner and a provider promise each other.

A provider is one class with one async method, :meth:`Provider.generate`, and small questions around
it that each have a sensible default. It never retries, never writes files and never decides what a
refusal means for the run: it says truthfully what was sent and what came back.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar, Literal, Protocol

from runner.settings.cell import CELL_KEYS, Cell, CellParams, CostBasis, Json
from runner.settings.schema import Section, VariantSettings

FaultKind = Literal["rate_limit", "transient", "refused", "auth", "invalid", "gone", "ambiguous"]
"""Why a call gave no image.

``rate_limit`` and ``transient`` are worth another try; ``refused`` and ``invalid`` end the cell;
``auth`` and ``gone`` stop the provider; ``ambiguous`` was sent and not answered, and may be billed.
"""


@dataclass(frozen=True, slots=True)
class Price:
    """What one image costs in US dollars, as a range. ``None`` means unknown, never 0."""

    low_usd: float | None
    high_usd: float | None
    basis: CostBasis

    def times(self, count: int) -> Price:
        """The price of ``count`` such images."""
        if self.low_usd is None or self.high_usd is None:
            return self
        return Price(self.low_usd * count, self.high_usd * count, self.basis)


FREE = Price(0.0, 0.0, "free")
UNKNOWN_PRICE = Price(None, None, "unknown")


@dataclass(frozen=True, slots=True, kw_only=True)
class Param:
    """How a model takes one cell-level key.

    Attributes:
        native: The name that goes on the wire or into the pipeline.
        minimum: Smallest allowed number, inclusive.
        maximum: Largest allowed number, inclusive.
        choices: Allowed texts; empty means any.
        default: What the model uses when the key is not sent, where that is known.
        note: A rule that the other fields cannot say, for messages and docs.
    """

    native: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    default: Json = None
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What one model of a provider takes and promises.

    Attributes:
        pipelines: Pipeline kinds that it has.
        params: Cell-level key to how it is taken; a missing key is not taken at all.
        max_images_per_call: Most cells that one call may carry.
        shared_call_keys: Keys that may differ between the cells of one call. The image index
            always may. Empty for APIs whose call is one prompt with ``n`` images.
        seed_per_image: Image ``i`` is made with seed ``s + i``; otherwise a call has one seed.
        reproducible: The same request gives the same pixels.
        resend_safe: Sending the same call twice costs nothing: local work, or an API with
            idempotency keys.
        billed: Images cost money.
        settings: Settings of the variant that not every provider can follow, and this one does:
            ``pipeline.resize`` and the like (:data:`OWN_SETTINGS`).
        mask_polarity: Which mask value the native API repaints; ours is always white = repaint.
    """

    pipelines: frozenset[str] = frozenset({"text2img"})
    params: Mapping[str, Param]
    max_images_per_call: int = 1
    shared_call_keys: frozenset[str] = frozenset()
    seed_per_image: bool = False
    reproducible: bool = False
    resend_safe: bool = False
    billed: bool = True
    settings: frozenset[str] = frozenset()
    mask_polarity: Literal["white", "black", "transparent"] = "white"


OWN_SETTINGS = (
    "model.controlnet",
    "pipeline.resize",
    "pipeline.preprocessor",
    "pipeline.control_weights",
    "pipeline.control_start",
    "pipeline.control_end",
)
"""Settings that stand outside of the cells and change pictures."""


@dataclass(frozen=True, slots=True)
class Call:
    """What is sent at once: one or more cells of one variant.

    All cells agree on every key that is not in :attr:`Capabilities.shared_call_keys`.

    Attributes:
        call_id: Names the attempt.
        cells: The images that are asked.
        recipe: How their images were made before (:attr:`Answer.recipe`), where a run is made
            again and that is not what its settings say.
    """

    call_id: str
    cells: tuple[Cell, ...]
    recipe: Mapping[str, Json] | None = None

    @property
    def params(self) -> CellParams:
        """The parameters of the first cell: the call's own, where all cells share them."""
        return self.cells[0].params


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One image that came back.

    Attributes:
        data: The provider's own bytes, untouched.
        seed_sent: The seed that went on the wire for this image; ``None`` if none did.
        revised_prompt: The prompt that the provider says it used instead.
        effective: What the provider says it used, by its own names.
        warnings: Anything a person should know, one sentence each (a truncated prompt, say).
        extras: Further files to keep beside the image, by the end of their name: partial images
            of a stream (``partial-0.png``), say.
    """

    data: bytes
    seed_sent: int | None = None
    revised_prompt: str | None = None
    effective: Mapping[str, Json] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    extras: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """No image for a cell, though the call was answered.

    Attributes:
        outcome: ``refused`` by a safety system, or ``failed``.
        kind: Short machine name of the cause, such as ``content_filter`` or ``no_image``.
        code: The provider's own code.
        message: The provider's own words, shortened.
    """

    outcome: Literal["refused", "failed"]
    kind: str
    code: str | None = None
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a call brought back.

    Attributes:
        outputs: One per cell of the call, in its order.
        params_sent: What went on the wire, by native name, prompt and files left out.
        model_reported: The model that the provider says it used.
        request_id: The provider's id of the request.
        usage: The provider's own usage figures.
        cost_usd: What the whole call cost; ``None`` = unknown.
        cost_basis: Where ``cost_usd`` comes from.
        recipe: How local images were made: dtype, batch size, device, threads, versions.
    """

    outputs: tuple[Picture | Missing, ...]
    params_sent: Mapping[str, Json] = field(default_factory=dict)
    model_reported: str | None = None
    request_id: str | None = None
    usage: Mapping[str, Json] = field(default_factory=dict)
    cost_usd: float | None = None
    cost_basis: CostBasis = "unknown"
    recipe: Mapping[str, Json] | None = None


class ProviderError(Exception):
    """A call that gave no answer worth keeping, already classified.

    Args:
        kind: See :data:`FaultKind`.
        message: One sentence, without keys and without whole response bodies.
        code: The provider's own code, or the HTTP status as text.
        retry_after: Seconds that the provider asked us to wait.
        request_id: The provider's id of the request.
    """

    def __init__(
        self,
        kind: FaultKind,
        message: str,
        *,
        code: str | None = None,
        retry_after: float | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.kind: FaultKind = kind
        self.message = message
        self.code = code
        self.retry_after = retry_after
        self.request_id = request_id

    def __reduce__(self) -> tuple[partial[ProviderError], tuple[FaultKind, str]]:
        """Exceptions lose their keyword arguments between processes otherwise."""
        make = partial(
            type(self), code=self.code, retry_after=self.retry_after, request_id=self.request_id
        )
        return make, (self.kind, self.message)


NO_JOB = "no_job"
"""Code of an ``ambiguous`` answer to :meth:`Provider.attach`: there is nothing to wait for."""


class Listener(Protocol):
    """Where a provider tells how far a call is."""

    def progress(self, call: Call, done: int, total: int) -> None:
        """``done`` of ``total`` steps (or per cent, or poll ticks) are over. From any thread."""

    async def note(self, call: Call, fact: Mapping[str, Json]) -> None:
        """Journal a fact durably before going on: a job id before the first poll, say."""


class Connection(Protocol):
    """What leads to an API, and answers some of a :class:`Provider`'s questions for it."""

    def check_ready(self) -> None: ...  # noqa: D102
    def quota_key(self, *parts: str) -> str: ...  # noqa: D102
    def classify(self, error: Exception) -> ProviderError: ...  # noqa: D102
    async def open(self) -> None: ...  # noqa: D102
    async def close(self) -> None: ...  # noqa: D102


class Provider(ABC):
    """Base of every provider. Made once per variant, used by one event loop.

    Args:
        settings: The variant's validated settings.
    """

    http: Connection | None = None
    """What leads to the API; ``None``: there is none, or the provider sees to it itself."""

    name: ClassVar[str]
    """The name users choose: ``provider=NAME``."""

    options_type: ClassVar[type[Section] | None] = None
    """The typed native parameters under ``provider.options``; ``None``: it has none."""

    def __init__(self, settings: VariantSettings) -> None:
        self.settings = settings

    @classmethod
    def make(cls, settings: VariantSettings) -> Provider:
        """The object for these settings: this class, unless another serves them better."""
        return cls(settings)

    @abstractmethod
    def capabilities(self) -> Capabilities:
        """What the chosen model takes. Must be cheap: no SDK import, no network."""

    def identity(self) -> Mapping[str, Json]:
        """What of this variant belongs to a cell's id: everything that changes the picture.

        Default: provider, model name and revision, pipeline, native options and extra body.
        """
        settings = self.settings
        return {
            "provider": settings.provider.name,
            "model": settings.model.name,
            "revision": settings.model.revision,
            "pipeline": settings.pipeline.name,
            "options": settings.provider.options,
            "extra_body": settings.provider.extra_body,
        }

    def quota_key(self) -> str:
        """Whose rate limit this variant lives under; variants with one key share one limit."""
        if self.http is not None:
            return self.http.quota_key()
        return f"{self.settings.provider.name}:{self.settings.provider.base_url or ''}"

    def max_concurrency(self) -> int | None:
        """Most calls in flight that make sense; ``None`` leaves it to the limits."""
        return None

    def images_per_call(self, params: CellParams) -> int:
        """Most cells with these parameters that one call may carry: some formats allow only one.

        Never more than :attr:`Capabilities.max_images_per_call`, the default.
        """
        return self.capabilities().max_images_per_call

    def check(self, params: CellParams) -> Sequence[str]:
        """Problems that :class:`Param` ranges cannot say, one sentence each."""
        return ()

    def check_ready(self) -> None:
        """Look for keys, extras and model files before the first call; no network.

        Raises:
            PrerequisiteError: Something is missing; the sentence holds the command that helps.
        """
        if self.http is not None:
            self.http.check_ready()

    def estimate(self, params: CellParams) -> Price:
        """What one image with these parameters costs."""
        return UNKNOWN_PRICE

    def classify(self, error: Exception) -> ProviderError:
        """Name the kind of an exception that :meth:`generate` raised."""
        if self.http is not None:
            return self.http.classify(error)
        if isinstance(error, ProviderError):
            return error
        if isinstance(error, (TimeoutError, ConnectionError)):
            return ProviderError("ambiguous", f"no answer: {type(error).__name__}")
        return ProviderError("invalid", f"{type(error).__name__}: {error}")

    def undecided(self) -> Sequence[str]:
        """What :meth:`settle` will decide, for whoever looks at a plan; one sentence each."""
        return ()

    def versions(self) -> Mapping[str, str]:
        """Versions of the libraries that made or fetched the images, for the manifest."""
        return {}

    def model_identity(self) -> Mapping[str, Json]:
        """What is known of the weights: commit, file hashes. Called after :meth:`open`."""
        return {}

    async def open(self) -> None:
        """Make clients, load models. Called once, before the first call."""
        if self.http is not None:
            await self.http.open()

    async def settle(self, calls: Iterator[Sequence[Cell]]) -> Mapping[str, Json]:
        """Decide what only an opened provider can tell; called once, after :meth:`open`.

        Args:
            calls: What is to be made, call by call, lazily.

        Returns:
            Config keys and the values that they have from now on: ``{"device.batch_size": 4}``.
            The run keeps them: who goes on with it or makes it again starts with these.
        """
        return {}

    @abstractmethod
    async def generate(self, call: Call, listener: Listener) -> Answer:
        """Make the images of one call.

        Raises:
            Exception: Anything; :meth:`classify` names it.
        """

    async def attach(self, call: Call, fact: Mapping[str, Json], listener: Listener) -> Answer:
        """Take up a job that an earlier process submitted, without submitting it again.

        Args:
            call: The call as it was sent.
            fact: What :meth:`Listener.note` journalled of it: a job id, say. It never holds keys.
            listener: As in :meth:`generate`.

        Raises:
            Exception: Anything; :meth:`classify` names it. An API without jobs, the default, is
                ``ambiguous``: nobody can tell what became of the call.
        """
        raise ProviderError(
            "ambiguous", "this API has no jobs that can be taken up again", code=NO_JOB
        )

    async def close(self) -> None:
        """Give back what :meth:`open` took. Called once, also after errors."""
        if self.http is not None:
            await self.http.close()


def asked(params: CellParams) -> dict[str, Json]:
    """The parameters that were asked for, without those that are ``None``."""
    return {key: value for key in CELL_KEYS if (value := getattr(params, key)) is not None}
