"""A provider that only answers questions, and short ways to a plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from runner.plan import Plan, PlanSpec, Variant
from runner.plan.grammar import axes_from
from runner.providers.contract import (
    UNKNOWN_PRICE,
    Answer,
    Call,
    Capabilities,
    Listener,
    Param,
    Price,
    Provider,
)
from runner.settings.cell import CELL_KEYS, CellParams
from runner.settings.schema import Settings, VariantSettings

EVERYTHING = {key: Param(native=key) for key in CELL_KEYS}
SHARED = frozenset({"prompt", "negative_prompt", "seed"})
API = Capabilities(params=EVERYTHING, pipelines=frozenset({"text2img", "img2img"}))


def local(batch: int, shared: frozenset[str] = SHARED) -> Capabilities:
    """Capabilities of a local model whose batches hold different prompts and seeds."""
    return Capabilities(params=EVERYTHING, max_images_per_call=batch, shared_call_keys=shared)


class StubProvider(Provider):
    name = "stub"

    def __init__(
        self,
        settings: VariantSettings,
        capabilities: Capabilities = API,
        estimate: Callable[[CellParams], Price] = lambda params: UNKNOWN_PRICE,
        check: Callable[[CellParams], Sequence[str]] = lambda params: (),
        images_per_call: Callable[[CellParams], int] | None = None,
    ) -> None:
        super().__init__(settings)
        self._capabilities = capabilities
        self._estimate = estimate
        self._check = check
        self._images_per_call = images_per_call
        self.estimated: list[CellParams] = []

    def capabilities(self) -> Capabilities:
        return self._capabilities

    def estimate(self, params: CellParams) -> Price:
        self.estimated.append(params)
        return self._estimate(params)

    def check(self, params: CellParams) -> Sequence[str]:
        return self._check(params)

    def images_per_call(self, params: CellParams) -> int:
        if self._images_per_call is None:
            return super().images_per_call(params)
        return self._images_per_call(params)

    async def generate(self, call: Call, listener: Listener) -> Answer:
        raise NotImplementedError


def variant(index: int = 0, label: Mapping[str, str] | None = None, **config: Any) -> Variant:
    """A variant from a config of a few keys."""
    data = {"provider": {"name": "stub"}, "model": {"name": "one"}, **config}
    return Variant.from_settings(index, Settings.model_validate(data), label or {})


def plan_of(
    *,
    axes: Mapping[str, object] | None = None,
    variants: Sequence[Variant] | None = None,
    capabilities: Capabilities = API,
    unsupported: Any = "error",
    providers: Sequence[Provider] | None = None,
    config: Mapping[str, Any] | None = None,
    **spec: Any,
) -> Plan:
    """A plan over stub providers; ``axes`` as a config has them."""
    variants = variants or [variant(**(config or {}))]
    providers = providers or [StubProvider(one.settings, capabilities) for one in variants]
    return Plan.build(
        PlanSpec(variants=variants, axes=axes_from(axes or {}), **spec),
        providers=providers,
        unsupported=unsupported,
    )
