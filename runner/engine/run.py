"""One run from its plan to its folder: what is missing is made, everything is written down."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from runner.engine.budget import Budget
from runner.engine.lane import Sent, Shared, VariantRun, run_lane, utc_now
from runner.engine.limits import Limiter, Room
from runner.engine.outcome import Written, adopt, recipe_id
from runner.engine.progress import Progress
from runner.engine.result import Result
from runner.engine.stop import Stop
from runner.plan import Plan
from runner.providers.contract import Call, Provider
from runner.record.atomic import put_durably
from runner.record.derive import derive
from runner.record.facts import code_facts, machine_facts, package_versions
from runner.record.ids import ID_BYTES
from runner.record.manifest import (
    Counts,
    Manifest,
    RunStatus,
    VariantRecord,
    plain_object,
    read_manifest,
    write_manifest,
)
from runner.record.outcomes import RETRIED, CellOutcome
from runner.record.paths import RunPaths
from runner.record.reader import Places
from runner.record.reuse import EarlierRuns, reused
from runner.record.state import RunState, load_state, unanswered_images
from runner.record.store import RunStore
from runner.settings.cell import Cell, CostBasis, Json
from runner.settings.schema import LimitSettings, RetrySettings

REFRESH_S = 5.0
"""Seconds between two manifests of a run that goes on."""

REUSED_AT_ONCE = 64
"""Cells that are looked for in earlier runs, and then linked, at once."""

REFRESH_SHARE = 20.0
"""Rows and page read everything again: they wait so many times as long as the last took."""


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
        refresh: Called now and then while the run goes on, on another thread.
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
    refresh: Callable[[], None] | None = None


async def execute(job: Job) -> Result:
    """Make what is missing, and leave a folder that proves it.

    Raises:
        PrerequisiteError: The folder cannot be written, or another process writes it.
        OSError: The disk failed; what was journalled before is intact.
    """
    started = time.monotonic()
    store = await RunStore.open(job.paths, job.plan.hash)
    try:
        state = load_state(job.paths)
        run = _Run(job, store, state)
        await run.work()
    finally:
        await store.close()
    return run.finish(time.monotonic() - started)


class _Run:
    """One process's work on a run folder."""

    def __init__(self, job: Job, store: RunStore, state: RunState) -> None:
        self.job = job
        self.plan = job.plan
        self.state = state
        self.same_plan = state.same_plan(job.plan.hash)
        self.places = places_of(job.plan, state)
        self.planned = job.plan.count()
        spent = state.cost_usd + state.cost_unknown_worst_usd
        self.reused = 0
        self.stop = job.stop
        self.taken_up: frozenset[int] = frozenset()
        self.shared = Shared(
            plan=job.plan,
            store=store,
            tried=self._tried,
            recipes_before=job.recipes,
            budget=Budget(job.limits.budget_usd, spent),
            stop=self.stop,
            progress=job.progress,
            limits=job.limits,
            retry=job.retry,
            mark=job.mark,
            room=Room(job.limits.in_flight_mb * 1_000_000),
            keep=self._write_manifest,
            resend="unknown" in (job.include or RETRIED),
            insist="unknown" in job.include,
        )
        earlier = read_manifest(job.paths) if job.paths.manifest.is_file() else None
        self.started_at = earlier.started_at if earlier else utc_now()
        self.run_id = earlier.run_id if earlier else uuid.uuid4().hex[:12]
        self.manifest = self._first_manifest(earlier)
        self._writing = asyncio.Lock()

    async def work(self) -> None:
        """Adopt what a killed process left, then work off every lane until done or stopped."""
        job = self.job
        self._save_plan()
        write_manifest(job.paths, self.manifest)
        # From here on the copies are read: an input edited during the run changes nothing.
        self.plan = self.shared.plan = job.plan.moved(job.paths.root)
        await self._adopt()
        if job.reuse:
            await self._reuse()
        job.progress.start(self.planned, self._done_of_plan(self.state))
        job.progress.money(self.shared.budget.spent_usd, job.limits.budget_usd)
        self.stop.on_request.append(self._tell_stop)
        try:
            with self.stop.working():
                await self._make()
        except asyncio.CancelledError:
            if not self.stop.at_once:
                raise
        finally:
            job.progress.stop()

    async def _make(self) -> None:
        over = asyncio.Event()
        keeper = asyncio.create_task(self._keep_fresh(over))
        try:
            async with asyncio.TaskGroup() as group:
                for runs in self._lanes():
                    group.create_task(run_lane(runs))
        finally:
            # Not cancelled: its thread would write the manifest beside the one that closes the run.
            over.set()
            await _ended(keeper)

    def _tell_stop(self) -> None:
        self.job.progress.note(
            "stopping at once: calls in flight count as unknown"
            if self.stop.at_once
            else "stopping: calls in flight are finished and written; once more stops at once"
        )

    def finish(self, elapsed_s: float) -> Result:
        """Derive the rows from the journal and close the manifest."""
        job, shared = self.job, self.shared
        state = derive(job.paths, places=self.places)
        before = self.state.counts["done"]
        there = self._done_of_plan(state)
        missing = self.planned - there
        status: RunStatus = (
            "interrupted" if self.stop.requested and missing
            else "incomplete" if missing
            else "done"
        )  # fmt: skip
        notes = [*shared.store.repairs, *state.damaged]
        if state.counts["done"] > there:
            more = state.counts["done"] - there
            notes.append(
                f"images of earlier plans that this one does not ask for are kept: {more:,}"
            )
        self.manifest = self._live_manifest(state, status, ended=True, notes=notes)
        write_manifest(job.paths, self.manifest)
        return Result(
            status=status,
            planned=self.planned,
            there=there,
            counts=dict(state.counts),
            made=state.counts["done"] - before,
            reused=self.reused,
            tried=state.attempts_made - self.state.attempts_made,
            left_alone=self._left_alone(state),
            notes=notes,
            cost_usd=state.cost_usd,
            unknown_usd=state.cost_unknown_worst_usd,
            elapsed_s=elapsed_s,
            stopped=tuple(shared.stopped.values()),
            exhausted=bool(shared.exhausted),
        )

    def _save_plan(self) -> None:
        """Write what defines the plan, and copy what it reads, so that the folder is complete."""
        paths = self.job.paths
        text = json.dumps(self.job.plan.to_json(), ensure_ascii=False, indent=1).encode() + b"\n"
        if paths.plan.is_file() and paths.plan.read_bytes() == text:
            return
        for file in self.job.plan.inputs():
            copy = paths.root / file.copy
            if not copy.exists():
                copy.parent.mkdir(exist_ok=True)
                put_durably(copy, file.source.read_bytes())
        put_durably(paths.plan, text)

    def _outcome(self, index: int) -> CellOutcome | None:
        if self.same_plan:
            return self.state.outcome(index)
        return self.state.outcome_of(self.plan[index].cell_id)

    def _tried(self, index: int) -> int:
        if self.same_plan:
            return self.state.attempts(index)
        return self.state.attempts_of(self.plan[index].cell_id)

    def _todo(self, index: int) -> bool:
        if index in self.taken_up:
            return False
        outcome, include = self._outcome(index), self.job.include
        if outcome == "failed" and not include:
            return not self._lasts(index)
        return outcome is None or outcome in (include or RETRIED)

    def _lasts(self, index: int) -> bool:
        if self.same_plan:
            return self.state.lasts(index)
        return self.state.lasts_of(self.plan[index].cell_id)

    def _done_of_plan(self, state: RunState) -> int:
        if self.same_plan:
            return state.counts["done"]
        cells = self.plan.cells()
        return sum(state.outcome_of(cell.cell_id) == "done" for cell in cells)

    def _left_alone(self, state: RunState) -> dict[CellOutcome, int]:
        """Cells of this plan that only a user who names their outcome tries again."""
        refused, lasting = state.counts["refused"], state.lasting
        if not self.same_plan and refused + lasting:
            refused = lasting = 0
            for cell in self.plan.cells():
                refused += state.outcome_of(cell.cell_id) == "refused"
                lasting += state.lasts_of(cell.cell_id)
        return {"refused": refused, "failed": lasting}

    def _lanes(self) -> list[list[VariantRun]]:
        job, earlier = self.job, self._earlier()
        lanes: dict[str, list[VariantRun]] = {}
        limiters: dict[str, Limiter] = {}
        for variant, provider in zip(self.plan.variants, job.providers, strict=True):
            key = provider.quota_key()
            if key not in limiters:
                limiters[key] = Limiter(job.limits, job.retry)
                self.stop.on_request.append(limiters[key].wake)
            calls = partial(self._calls, variant.index, provider)
            sent = earlier.get(variant.index, ())
            run = VariantRun(self.shared, variant, provider, limiters[key], calls, sent)
            lanes.setdefault(key, []).append(run)
        return list(lanes.values())

    def _calls(self, variant: int, provider: Provider) -> Iterator[tuple[Cell, ...]]:
        """Cells that may share a call; what is to be made by another recipe is apart."""
        recipes = self.job.recipes
        for recipe in [None, *{id(each): each for each in recipes.values()}.values()]:

            def todo(index: int, recipe: Mapping[str, Json] | None = recipe) -> bool:
                return recipes.get(index) is recipe and self._todo(index)

            yield from self.plan.variant_calls(variant, provider, todo if recipes else self._todo)

    def _earlier(self) -> dict[int, list[Sent]]:
        """Calls of earlier processes whose job may still be there, by variant."""
        found: dict[int, list[Sent]] = {}
        taken_up: set[int] = set()
        for unanswered in self.state.jobs():
            sent = unanswered.sent
            cells = tuple(cell for name in sent.cells if (cell := self._cell(*name)) is not None)
            open_cells = [cell for cell in cells if self._outcome(cell.index) == "unknown"]
            if len(open_cells) < len(sent.cells) or taken_up & {cell.index for cell in cells}:
                continue  # not as it was sent, or made in another way since
            fact = {key: value for fact in unanswered.facts for key, value in fact.items()}
            call = Call(sent.call_id, cells)
            found.setdefault(cells[0].variant, []).append(Sent(call, fact, sent.worst_usd))
            taken_up.update(cell.index for cell in cells)
            self.shared.budget.take_back(sent.worst_usd)
        self.taken_up = frozenset(taken_up)
        return found

    def _cell(self, index: int, cell_id: str) -> Cell | None:
        """The cell that stood at a place of the plan when its call was sent."""
        if self.places is not None:
            place = self.places.get(bytes.fromhex(cell_id[: 2 * ID_BYTES]))
            return None if place is None else self.plan[place]
        cell = self.plan[index]
        return cell if cell.cell_id == cell_id else None

    async def _adopt(self) -> None:
        """Images that reached the disk before their record did are kept, not paid again."""
        if not self.same_plan:
            return
        found: dict[str, dict[int, bytes]] = {}
        calls = {}
        for call, position, path in unanswered_images(self.job.paths, self.state):
            found.setdefault(call.sent.call_id, {})[position] = path.read_bytes()
            calls[call.sent.call_id] = call.sent
        for call_id, images in found.items():
            sent = calls[call_id]
            cells = tuple(self.plan[index] for index, _ in sent.cells)
            variant = self.plan.variants[cells[0].variant]
            provider = self.job.providers[variant.index]
            record = adopt(sent, cells, images, variant, provider.capabilities())
            await self.shared.store.commit(record, {})
        if found:
            self.state = load_state(self.job.paths)

    async def _reuse(self) -> None:
        """What other runs have made of the same cells is linked, not made again."""
        wanted = (cell for cell in self.plan.cells() if self._todo(cell.index))
        with await asyncio.to_thread(EarlierRuns, self.job.paths) as runs:
            while group := list(itertools.islice(wanted, REUSED_AT_ONCE)):
                found = await asyncio.to_thread(lambda: [*filter(None, map(runs.find, group))])
                records = [reused(earlier, utc_now()) for earlier in found]
                await asyncio.gather(
                    *(
                        self.shared.store.commit(record, {earlier.row.file_name: earlier.file})
                        for record, earlier in zip(records, found, strict=True)
                    )
                )
                for record in records:
                    if record.recipe is not None:
                        self.shared.recipes[recipe_id(record.recipe)] = dict(record.recipe)
                self.reused += len(found)
        if self.reused:
            self.state = load_state(self.job.paths)

    async def _keep_fresh(self, over: asyncio.Event) -> None:
        """Rewrite the manifest often, rows and page more rarely, until the run is over."""
        live = await asyncio.to_thread(load_state, self.job.paths, live=True)
        next_rows = time.monotonic() + REFRESH_S
        while not over.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(REFRESH_S):
                    await over.wait()
            if over.is_set():
                return
            await asyncio.to_thread(live.update, self.job.paths)
            await self._write_manifest(live)
            if (started := time.monotonic()) >= next_rows:
                await asyncio.to_thread(self._refresh_rows)
                ended = time.monotonic()
                next_rows = ended + REFRESH_SHARE * (ended - started)

    async def _write_manifest(self, state: RunState | None = None) -> None:
        # One at a time, so that none replaces a newer one.
        async with self._writing:
            manifest = self._live_manifest(state or self.state, "running", ended=False)
            await asyncio.to_thread(write_manifest, self.job.paths, manifest)

    def _refresh_rows(self) -> None:
        derive(self.job.paths, live=True, places=self.places)
        if self.job.refresh is not None:
            self.job.refresh()

    def _first_manifest(self, earlier: Manifest | None) -> Manifest:
        job = self.job
        variants = tuple(
            VariantRecord(
                index=variant.index,
                provider=variant.settings.provider.name,
                model=variant.settings.model.name,
                config=plain_object(config),
                settled=plain_object(settled),
                versions=dict(provider.versions()),
            )
            for variant, provider, config, settled in zip(
                job.plan.variants,
                job.providers,
                job.configs,
                job.settled or [{}] * len(job.configs),
                strict=True,
            )
        )
        return Manifest(
            run_id=self.run_id,
            command=earlier.command if earlier else tuple(job.command),
            status="running",
            started_at=self.started_at,
            plan_hash=job.plan.hash,
            cells=self.planned,
            counts=Counts(**self.state.counts),
            variants=variants,
            code=code_facts(),
            machine=machine_facts(),
            packages=package_versions(_PACKAGES),
            recipes=dict(earlier.recipes) if earlier else {},
            inputs={file.path: file.sha256 for file in job.plan.inputs()},
            warnings=(*job.warnings, *self.shared.store.repairs),
        )

    def _live_manifest(
        self, state: RunState, status: RunStatus, *, ended: bool, notes: Sequence[str] = ()
    ) -> Manifest:
        shared = self.shared
        variants = tuple(
            variant.model_copy(
                update={
                    "model_identity": plain_object(shared.identities[variant.index]),
                    "settled": variant.settled
                    | plain_object(shared.settled.get(variant.index, {})),
                }
            )
            if variant.index in shared.identities
            else variant
            for variant in self.manifest.variants
        )
        known = state.cost_usd if state.cost_by_basis else None
        journal = self.job.paths.journal_files()
        return self.manifest.model_copy(
            update={
                "status": status,
                "ended_at": utc_now() if ended else None,
                "counts": Counts(**state.counts),
                "cost_usd": known,
                "cost_basis": _weakest(state),
                "cost_by_basis": {
                    basis: round(usd, 6) for basis, usd in state.cost_by_basis.items()
                },
                "cost_unknown_worst_usd": (
                    None if state.unpriced_calls else state.cost_unknown_worst_usd
                ),
                "variants": variants,
                "recipes": {
                    **self.manifest.recipes,
                    **{key: plain_object(recipe) for key, recipe in shared.recipes.items()},
                },
                "warnings": tuple(dict.fromkeys([*self.manifest.warnings, *state.damaged, *notes])),
                "writers": tuple(path.name for path in journal),
                "journal_bytes": sum(path.stat().st_size for path in journal),
            }
        )


async def _ended(task: asyncio.Task[None]) -> None:
    """Wait for a task although this one is cancelled meanwhile: its thread cannot be."""
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled


def places_of(plan: Plan, state: RunState) -> Places | None:
    """Where the cells of a run folder stand now; ``None`` if its plan was never amended."""
    if state.same_plan(plan.hash):
        return None
    return {bytes.fromhex(cell.cell_id[: 2 * ID_BYTES]): cell.index for cell in plan.cells()}


_PACKAGES = ("hydra-core", "omegaconf", "pydantic", "pillow")

_BASES: tuple[CostBasis, ...] = (
    "unknown", "estimate", "price_book", "usage", "reported", "free",
)  # fmt: skip


def _weakest(state: RunState) -> CostBasis:
    """The weakest basis among the known costs."""
    return next((basis for basis in _BASES if basis in state.cost_by_basis), "unknown")
