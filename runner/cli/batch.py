"""From what was asked to a finished folder: the one way that every command goes."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.cli.closing import counted, disk_fault, exit_code, go_on, tell
from runner.cli.expand import Composed, Expanded
from runner.cli.settled import settled_before
from runner.engine.result import Result
from runner.plan import Plan, PlanSpec, PlanSummary, PriceRange, PromptFile, Variant
from runner.providers.contract import Provider
from runner.providers.registry import make_provider
from runner.record.outcomes import CellOutcome
from runner.record.paths import RunPaths
from runner.settings.cell import Json
from runner.settings.errors import PrerequisiteError, RequestError
from runner.settings.schema import Settings

if TYPE_CHECKING:
    from runner.cli.saved import Saved

_NAMED = frozenset({"provider", "model", "model.name", "provider.name"})
"""Choices that a label shows by the names of what was chosen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A checked plan, and where it goes.

    Attributes:
        plan: All cells.
        summary: The plan in numbers.
        providers: One per variant.
        settings: Limits, retries and output.
        configs: The resolved config of each variant.
        settled: What earlier processes in this folder decided about each, by config key.
        paths: The run folder; it need not exist yet.
        command: The command line, word by word.
        include: Outcomes of earlier processes that the user named to be tried again.
        recipes: Index of a cell to the recipe by which it is to be made again.
    """

    plan: Plan
    summary: PlanSummary
    providers: tuple[Provider, ...]
    settings: Settings
    configs: tuple[dict[str, Any], ...]
    settled: tuple[Mapping[str, Any], ...]
    paths: RunPaths
    command: tuple[str, ...]
    include: frozenset[CellOutcome] = frozenset()
    recipes: Mapping[int, Mapping[str, Json]] = field(default_factory=dict)


def plan_of(expanded: Expanded, seed: int | None = None) -> tuple[Plan, tuple[Provider, ...]]:
    """Expand, check and price what was asked; nothing is written or sent.

    Args:
        expanded: Variants and axes.
        seed: Base seed of an earlier plan for the same folder.

    Raises:
        RequestError: Every problem of the plan, one sentence each.
    """
    variants = tuple(
        Variant.from_settings(index, composed.settings, _label(composed))
        for index, composed in enumerate(expanded.variants)
    )
    providers = _make_providers(expanded)
    settings = expanded.settings
    spec = PlanSpec(
        variants=variants,
        axes=expanded.axes,
        zip=settings.sweep.zip,
        exclude=settings.sweep.exclude,
        cells=settings.sweep.cells,
        prompts=PromptFile.open(Path(settings.prompts)) if settings.prompts else None,
        styles=expanded.styles,
        seed=seed,
    )
    return Plan.build(spec, providers=providers, unsupported=settings.unsupported), providers


def prepare_batch(expanded: Expanded, root: Path) -> Batch:
    """Plan a batch for a folder, and make sure that it can start; nothing is written or sent.

    A folder that already holds a run keeps its drawn seed and what was decided about its
    variants, so that the same command asks for the same cells, made in the same way.

    Raises:
        RequestError: Every problem of the plan.
        PrerequisiteError: A key, an extra or the budget is missing.
    """
    paths = RunPaths(root)
    expanded, settled = settled_before(expanded, paths)
    plan, providers = plan_of(expanded, _saved_seed(paths))
    batch = Batch(
        plan=plan,
        summary=plan.summary(providers),
        providers=providers,
        settings=expanded.settings,
        configs=tuple(composed.config for composed in expanded.variants),
        settled=settled,
        paths=paths,
        command=(*sys.argv[1:],),
    )
    _check_ready(batch)
    return batch


def run_batch(batch: Batch) -> int:
    """Make what is missing and return the exit code."""
    return 0 if made_before(batch) else make_batch(batch)


def made_before(batch: Batch) -> bool:
    """Tell what the batch is, and whether all of it is there already."""
    if not batch.settings.output.quiet:
        for warning in _warnings(batch.summary):
            print(f"warning: {warning}", file=sys.stderr)
        text = f"{headline(batch.summary)}{_time_text(batch)} → {batch.paths.root}"
        print(text, file=sys.stderr)
    if done := _done_before(batch):
        tell(done, batch.paths)
    return done is not None


def make_batch(batch: Batch) -> int:
    """Make what is missing, in a folder that is made if it is not there; returns the exit code."""
    paths = batch.paths
    paths.root.mkdir(parents=True, exist_ok=True)
    # Only here: a run that has nothing to do needs no engine.
    import asyncio

    from runner.cli.live import refresh
    from runner.engine.garbage import collect_rarely
    from runner.engine.job import Job
    from runner.engine.marking import Marker
    from runner.engine.progress import choose
    from runner.engine.run import execute
    from runner.engine.stop import Stop

    collect_rarely()
    stop = Stop()
    job = Job(
        plan=batch.plan,
        providers=batch.providers,
        paths=paths,
        limits=batch.settings.limits,
        retry=batch.settings.retry,
        progress=choose(batch.settings.output.quiet),
        mark=Marker(batch.settings.output),
        command=batch.command,
        configs=batch.configs,
        settled=batch.settled,
        warnings=_warnings(batch.summary),
        include=batch.include,
        recipes=batch.recipes,
        stop=stop,
        reuse=batch.settings.reuse,
        refresh=refresh,
    )
    try:
        with stop.listening():
            result = asyncio.run(execute(job))
            if result.tried or result.reused or not paths.gallery.is_file():
                _write_report(paths.root)
    except KeyboardInterrupt:
        print(go_on(paths))
        raise
    except (OSError, ExceptionGroup) as error:
        raise disk_fault(error, paths) from error
    tell(result, paths)
    code = exit_code(result)
    if stop.at_once:
        # Python would wait for threads that still compute what nobody wants any more.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def run_saved(
    saved: Saved,
    *,
    command: Sequence[str],
    include: frozenset[CellOutcome] = frozenset(),
    recipes: Mapping[int, Mapping[str, Json]] | None = None,
) -> int:
    """Go on with a saved run, or make a copy of one from its start."""
    batch = Batch(
        plan=saved.plan,
        summary=saved.plan.summary(saved.providers),
        providers=saved.providers,
        settings=saved.settings,
        configs=saved.configs,
        settled=saved.settled,
        paths=saved.paths,
        command=tuple(command),
        include=include,
        recipes=recipes or {},
    )
    _check_ready(batch)
    return run_batch(batch)


def fresh_folder(wanted: Path) -> Path:
    """A time-stamped folder belongs to one run, also when two start in the same second."""
    folder, number = wanted, 2
    while folder.exists():
        folder, number = wanted.with_name(f"{wanted.name}-{number}"), number + 1
    return folder


def headline(summary: PlanSummary) -> str:
    """What a plan is, in one line."""
    calls = "" if summary.calls == summary.cells else f" in {counted(summary.calls, 'call')}"
    return f"{counted(summary.cells, 'image')}{calls} · {price_range_text(summary.price)}"


def _time_text(batch: Batch) -> str:
    """How long a new run takes, where an earlier one tells; one that goes on takes less."""
    if batch.paths.manifest.is_file() or batch.settings.reuse:
        return ""
    from runner.cli.duration import durations, total
    from runner.record.reuse import outputs_root

    lines, limits = batch.summary.variants, batch.settings.limits
    root = outputs_root(batch.paths.root)
    times = durations(batch.plan, lines, batch.providers, batch.configs, limits, root)
    whole = total(times, batch.providers)
    return "" if whole is None else f" · {whole}, as fast as before"


def price_range_text(price: PriceRange) -> str:
    """A price range as a short text; unknown is said, never 0."""
    if price.low_usd is None or price.high_usd is None:
        return f"price of {counted(price.unknown, 'image')} unknown"
    if price.high_usd == 0:
        return "free"
    if price.low_usd == price.high_usd:
        return f"${price.high_usd:,.2f}"
    return f"${price.low_usd:,.2f} to ${price.high_usd:,.2f}"


def _label(composed: Composed) -> dict[str, str]:
    settings = composed.settings
    return {
        "provider": settings.provider.name,
        "model": settings.model.name,
        **{key: value for key, value in composed.choices.items() if key not in _NAMED},
    }


def _make_providers(expanded: Expanded) -> tuple[Provider, ...]:
    providers, problems = [], []
    for composed in expanded.variants:
        try:
            providers.append(make_provider(composed.settings.variant()))
        except RequestError as error:
            problems += [text for text in error.problems if text not in problems]
    if problems:
        raise RequestError(*problems)
    return tuple(providers)


def _saved_seed(paths: RunPaths) -> int | None:
    """The base seed that the folder's plan has drawn."""
    if not paths.plan.is_file():
        return None
    return Plan.from_json(json.loads(paths.plan.read_bytes()), paths.root).spec.seed


def _done_before(batch: Batch) -> Result | None:
    """How the run ended that made all of this plan; ``None``: there is something to do.

    Only the last thing that a run writes says that its plan is done. A lock that names somebody,
    or a journal that is not as long as it was then, asks for a closer look.
    """
    paths = batch.paths
    if not (paths.manifest.is_file() and paths.gallery.is_file()):
        return None
    try:
        if paths.lock.exists() and paths.lock.stat().st_size:
            return None
        found = json.loads(paths.manifest.read_bytes())
        journal = sum(path.stat().st_size for path in paths.journal_files())
        wanted = ("done", batch.plan.hash, journal)
        if (found["status"], found["plan_hash"], found["journal_bytes"]) != wanted:
            return None
        return Result(
            status="done",
            planned=batch.summary.cells,
            there=batch.summary.cells,
            counts=found["counts"],
            made=0,
            reused=0,
            tried=0,
            cost_usd=found["cost_usd"] or 0.0,
            unknown_usd=found["cost_unknown_worst_usd"] or 0.0,
            elapsed_s=0.0,
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None  # not a manifest of ours: the engine says what is wrong with it


def _check_ready(batch: Batch) -> None:
    """What would stop the run is told before anything is written."""
    limits = batch.settings.limits
    price = batch.summary.price
    if limits.budget_usd is not None and price.unknown and not limits.allow_unknown_price:
        raise PrerequisiteError(
            f"limits.budget_usd={limits.budget_usd:g}: the price of "
            f"{counted(price.unknown, 'image')} is "
            "unknown, so the budget cannot hold; limits.allow_unknown_price=true starts anyway"
        )
    if batch.settings.output.embed:
        from runner.engine.marking import Marker

        Marker(batch.settings.output)
    for provider in batch.providers:
        provider.check_ready()


def _warnings(summary: PlanSummary) -> list[str]:
    warnings = list(summary.warnings)
    for variant in summary.variants:
        warnings += [text for text in variant.warnings if text not in warnings]
    return warnings


def _write_report(root: Path) -> None:
    """The page is derived: a fault in it is told and fails nothing."""
    try:
        from runner.report import write_report

        write_report(root)
    except Exception as error:
        print(f"the page could not be written: {type(error).__name__}: {error}", file=sys.stderr)
