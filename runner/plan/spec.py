"""What a plan is made of: variants and the rules that multiply them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from runner.plan.grammar import AxisValues
from runner.plan.prompts import PromptFile
from runner.settings.cell import CELL_KEYS, PIPELINE_KEYS, Scalar
from runner.settings.schema import PromptStyle, Settings, VariantSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One composed config.

    Attributes:
        index: Its place in the plan, from 0.
        label: What tells it from the others: ``{"provider": "fake", "model": "builtin/shapes"}``.
        settings: What its provider object is made from.
        values: Cell-level keys that the config sets. A missing one or ``None`` is not set, and
            the model's own value (``settings.model.preset``) steps in.
        style: Text around every prompt, unless an axis ``style`` says otherwise.
        n: Images of every point.
        identity: Digest of :meth:`runner.providers.contract.Provider.identity`. This and what
            follows is filled in when the plan is built, and kept in plan.json.
        takes_seed: Points without a seed get the plan's base seed.
        dropped: Keys that were asked and are not sent, because the model does not take them.
    """

    index: int
    label: Mapping[str, str]
    settings: VariantSettings
    values: Mapping[str, Scalar] = field(default_factory=dict)
    style: PromptStyle = field(default_factory=PromptStyle)
    n: int = 1
    identity: str = ""
    takes_seed: bool = False
    dropped: tuple[str, ...] = ()

    @classmethod
    def from_settings(
        cls, index: int, settings: Settings, label: Mapping[str, str] | None = None
    ) -> Variant:
        """The variant that a composed config describes."""
        values = {
            key: getattr(settings.pipeline if key in PIPELINE_KEYS else settings, key)
            for key in CELL_KEYS
            if key != "style"
        }
        return cls(
            index=index,
            label=dict(label or {}),
            settings=settings.variant(),
            values={key: value for key, value in values.items() if value is not None},
            style=settings.style,
            n=settings.n,
        )

    @property
    def name(self) -> str:
        """How messages call it."""
        if self.label:
            return " ".join(f"{name}={value}" for name, value in self.label.items())
        return f"{self.settings.provider.name} {self.settings.model.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSpec:
    """What the user asked for.

    Attributes:
        variants: The outermost dimension.
        axes: Cell-level key to values, in declared order; see
            :func:`runner.plan.grammar.axes_from`.
        zip: Groups of axes that advance together.
        exclude: Points to leave out; keys are axes, cell-level keys, columns, labels, or provider,
            model, pipeline and device.
        cells: Explicit points, after the product of the axes; alone if there are no axes.
        prompts: A prompt file; it is the axis ``prompt`` and sets the keys of its columns.
        styles: Prompt styles by name, for an axis ``style``; other names are the provider's.
        seed: Base seed for points without one; drawn when the plan is built if ``None``.
    """

    variants: Sequence[Variant]
    axes: Mapping[str, AxisValues] = field(default_factory=dict)
    zip: Sequence[Sequence[str]] = ()
    exclude: Sequence[Mapping[str, object]] = ()
    cells: Sequence[Mapping[str, Scalar]] = ()
    prompts: PromptFile | None = None
    styles: Mapping[str, PromptStyle] = field(default_factory=dict)
    seed: int | None = None
