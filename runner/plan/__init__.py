"""Settings become variants, axes, cells and prices; nothing here sends anything."""

from runner.plan.plan import Plan
from runner.plan.price import PlanSummary, PriceRange, VariantSummary
from runner.plan.prompts import PromptFile
from runner.plan.spec import PlanSpec, Variant

__all__ = [
    "Plan",
    "PlanSpec",
    "PlanSummary",
    "PriceRange",
    "PromptFile",
    "Variant",
    "VariantSummary",
]
