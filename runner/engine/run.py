"""One run from its plan to its folder: what is missing is made, everything is written down."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Iterator, Mapping
from functools import partial

from runner.engine.budget import Budget
from runner.engine.chronicle import Chronicle
from runner.engine.job import Job
from runner.engine.lane import Sent, Shared, VariantRun, run_lane, utc_now
from runner.engine.limits import Limiter, Room
from runner.engine.outcome import adopt, recipe_id
from runner.engine.result import Result
from runner.plan import Plan
from runner.providers.contract import Call, Provider
from runner.record.atomic import put_durably
from runner.record.derive import derive
from runner.record.ids import ID_BYTES
from runner.record.manifest import RunStatus
from runner.record.outcomes import RETRIED, CellOutcome
from runner.record.reader import Places
from runner.record.reuse import EarlierRuns, reused
from runner.record.state import RunState, load_state, unanswered_images
from runner.record.store import RunStore
from runner.settings.cell import Cell, Json

REUSED_AT_ONCE = 64
"""Cells that are looked for in earlier runs, and then linked, at once."""


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
            keep=self._keep_manifest,
            resend="unknown" in (job.include or RETRIED),
            insist="unknown" in job.include,
        )
        self.chronicle = Chronicle(job, self.shared, state, self.planned)

    async def work(self) -> None:
        """Adopt what a killed process left, then work off every lane until done or stopped."""
        job = self.job
        self._save_plan()
        self.chronicle.begin()
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
        keeper = asyncio.create_task(self.chronicle.keep_fresh(over))
        shower = asyncio.create_task(self.chronicle.keep_showing())
        try:
            async with asyncio.TaskGroup() as group:
                for runs in self._lanes():
                    group.create_task(run_lane(runs))
        finally:
            # Not cancelled: its thread would write the manifest beside the one that closes the run.
            over.set()
            shower.cancel()
            await _ended(keeper, shower)

    async def _keep_manifest(self) -> None:
        await self.chronicle.write(self.state)

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
        self.chronicle.close(state, status, notes)
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


async def _ended(*tasks: asyncio.Task[None]) -> None:
    """Wait for tasks although this one is cancelled meanwhile: their threads cannot be."""
    cancelled: asyncio.CancelledError | None = None
    while not all(task.done() for task in tasks):
        try:
            await asyncio.wait(tasks)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled


def places_of(plan: Plan, state: RunState) -> Places | None:
    """Where the cells of a run folder stand now; ``None`` if its plan was never amended."""
    if state.same_plan(plan.hash):
        return None
    return {bytes.fromhex(cell.cell_id[: 2 * ID_BYTES]): cell.index for cell in plan.cells()}
