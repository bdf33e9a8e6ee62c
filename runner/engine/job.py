"""What a run is to do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from runner.engine.outcome import Written
from runner.engine.progress import Progress
from runner.engine.stop import Stop
from runner.plan import Plan
from runner.providers.contract import Provider
from runner.record.outcomes import CellOutcome
from runner.record.paths import RunPaths
from runner.settings.cell import Json
from runner.settings.schema import LimitSettings, RetrySettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A run to be made.

    Attributes:
        plan: All cells.
        providers: One per variant.
        paths: The run folder, which exists.
        limits: How hard to push, and the budget.
        retry: Bounds of the retry loop.
        progress: What the user sees.
        mark: Reads and writes the provenance marks of finished images.
        command: The command line, word by word, for the record.
        configs: One resolved config per variant, for the record.
        settled: What earlier processes decided for each variant, by config key.
        warnings: Sentences of the planning, for the record.
        include: Outcomes of earlier processes that the user named to be tried again, whatever they
            may cost; if none, those that are worth it (:data:`~runner.record.outcomes.RETRIED`).
        stop: Whether the user asked to stop.
        recipes: Index of a cell to the recipe by which it is to be made again; those that are not
            here are made as the settings say.
        reuse: Whether what other runs under the same outputs folder have made is taken from there.
        refresh: Writes rows and page of a run folder anew; called now and then while the run goes
            on, and cancelled when it ends.
    """

    plan: Plan
    providers: Sequence[Provider]
    paths: RunPaths
    limits: LimitSettings
    retry: RetrySettings
    progress: Progress
    mark: Callable[[Written], Written]
    command: Sequence[str]
    configs: Sequence[Mapping[str, Json]]
    settled: Sequence[Mapping[str, Json]] = ()
    warnings: Sequence[str] = ()
    include: frozenset[CellOutcome] = frozenset()
    stop: Stop = field(default_factory=Stop)
    recipes: Mapping[int, Mapping[str, Json]] = field(default_factory=dict)
    reuse: bool = False
    refresh: Callable[[Path], Awaitable[None]] | None = None
