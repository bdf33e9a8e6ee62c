"""A lane: everything that lives under one rate limit, worked off by a few concurrent workers.

Lanes do not wait for each other, so a slow or limited provider never starves another. Inside a
lane the variants come one after the other: each is opened once, worked off and closed, so that two
local models are never in memory together.
"""

from __future__ import annotations

import asyncio
import datetime
import random
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from runner.engine.budget import Budget
from runner.engine.limits import Limiter
from runner.engine.outcome import Attempt, Written, answered, recipe_id, unanswered
from runner.engine.progress import Progress
from runner.engine.retry import RetryPolicy
from runner.engine.stop import Stop
from runner.plan import Plan, Variant
from runner.providers.contract import Answer, Call, Capabilities, Provider, ProviderError
from runner.record.rows import NoteRecord, SentRecord
from runner.record.store import RunStore
from runner.settings.cell import Cell, Json
from runner.settings.errors import RunnerError
from runner.settings.schema import LimitSettings, RetrySettings


@dataclass(slots=True)
class Shared:
    """What all lanes of a run share.

    Attributes:
        plan: All cells.
        store: Where everything is written.
        tried: Tries of a cell by earlier processes, by its index.
        budget: The money.
        stop: Whether the user asked to stop.
        progress: What the user sees.
        limits: How hard to push.
        retry: Bounds of the retry loop.
        mark: Reads and writes the provenance marks of finished images.
        identities: Variant index to what is known of its weights, for the manifest.
        recipes: Short hash to local recipe, for the manifest.
        stopped: Variant index to the sentence that stopped its provider.
        exhausted: Whether the budget ended the run.
    """

    plan: Plan
    store: RunStore
    tried: Callable[[int], int]
    budget: Budget
    stop: Stop
    progress: Progress
    limits: LimitSettings
    retry: RetrySettings
    mark: Callable[[Written], Written]
    identities: dict[int, dict[str, Json]] = field(default_factory=dict)
    recipes: dict[str, dict[str, Json]] = field(default_factory=dict)
    stopped: dict[int, str] = field(default_factory=dict)
    exhausted: bool = False


class VariantRun:
    """Works off the calls of one variant.

    Args:
        shared: What all lanes share.
        variant: Whose cells.
        provider: Who makes them.
        limiter: The gate of the lane.
        calls: Groups of cells to send, lazily.
    """

    def __init__(
        self,
        shared: Shared,
        variant: Variant,
        provider: Provider,
        limiter: Limiter,
        calls: Iterator[Sequence[Cell]],
    ) -> None:
        self.shared = shared
        self.variant = variant
        self.provider = provider
        self.capabilities: Capabilities = provider.capabilities()
        self._limiter = limiter
        self._calls = calls
        self._policy = RetryPolicy(shared.retry, self.capabilities.resend_safe)

    async def run(self) -> None:
        """Open the provider, work off every call, close it."""
        first = next(self._calls, None)
        if first is None or self._halted():
            return
        try:
            await self.provider.open()
            self.shared.identities[self.variant.index] = dict(self.provider.model_identity())
            wanted = self.shared.limits.max_concurrency
            workers = min(wanted, self.provider.max_concurrency() or wanted)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._work(first))
                for _ in range(workers - 1):
                    group.create_task(self._work(None))
        except RunnerError as error:
            self._halt(str(error))
        finally:
            await self.provider.close()

    def progress(self, call: Call, done: int, total: int) -> None:
        """See :class:`runner.providers.contract.Listener`."""
        self.shared.progress.step(call, done, total)

    async def note(self, call: Call, fact: Mapping[str, Json]) -> None:
        """See :class:`runner.providers.contract.Listener`; durable when it returns."""
        record = NoteRecord(call_id=call.call_id, at=utc_now(), fact=fact)
        await self.shared.store.note(record)

    def _halted(self) -> bool:
        shared = self.shared
        return shared.stop.requested or shared.exhausted or self.variant.index in shared.stopped

    def _halt(self, reason: str) -> None:
        if self.variant.index not in self.shared.stopped:
            self.shared.stopped[self.variant.index] = reason
            self.shared.progress.note(f"{self.variant.name}: {reason}")

    async def _work(self, cells: Sequence[Cell] | None) -> None:
        while not self._halted():
            cells = cells or next(self._calls, None)
            if cells is None:
                return
            await self._call(tuple(cells))
            cells = None

    async def _call(self, cells: tuple[Cell, ...]) -> None:
        """The one retry loop of the program."""
        shared = self.shared
        worst = self.provider.estimate(cells[0].params).times(len(cells)).high_usd
        tries = 0
        while True:
            if delay := self._limiter.delay():
                await shared.stop.sleep(delay)
            if self._halted():
                return
            if not shared.budget.reserve(worst):
                shared.exhausted = True
                return
            tries += 1
            call = Call(uuid.uuid4().hex[:16], cells)
            written, error = await self._attempt(call, tries, worst)
            shared.budget.settle(worst, written.record.cost_usd)
            for name, extras in written.extras.items():
                await shared.store.keep_extras(name, extras)
            await shared.store.commit(written.record, written.files)
            if error is None or written.record.final:
                self._count(written)
                return
            wait = self._policy.wait_s(error, tries, random.Random())
            if error.kind == "rate_limit":
                self._limiter.pause(wait)
            else:
                await shared.stop.sleep(wait)

    async def _attempt(
        self, call: Call, tries: int, worst: float | None
    ) -> tuple[Written, ProviderError | None]:
        shared = self.shared
        started_at, start = utc_now(), time.monotonic()
        if not self.capabilities.resend_safe:
            cells = tuple((cell.index, cell.cell_id) for cell in call.cells)
            await shared.store.sent(
                SentRecord(
                    call_id=call.call_id,
                    at=started_at,
                    cells=cells,
                    worst_usd=worst,
                    variant=self.variant.index,
                    provider=self.variant.settings.provider.name,
                    model=self.variant.settings.model.name,
                )
            )
        error: ProviderError | None = None
        answer: Answer | None = None
        try:
            async with asyncio.timeout(shared.limits.timeout_s):
                answer = await self.provider.generate(call, self)
        except Exception as raised:
            error = self.provider.classify(raised)
        attempt = Attempt(
            call=call,
            variant=self.variant,
            capabilities=self.capabilities,
            tries=shared.tried(call.cells[0].index) + tries,
            started_at=started_at,
            ended_at=utc_now(),
            latency_s=time.monotonic() - start,
        )
        if answer is not None:
            if answer.recipe is not None:
                shared.recipes[recipe_id(answer.recipe)] = dict(answer.recipe)
            return shared.mark(answered(attempt, answer)), None
        if error is None:
            raise RuntimeError("a call ended with neither an answer nor an error")
        if error.kind in {"auth", "gone"}:
            self._halt(error.message)
        final = not self._policy.again(error, tries) or shared.stop.requested
        return unanswered(attempt, error, final=final, worst_usd=worst), error

    def _count(self, written: Written) -> None:
        record = written.record
        if record.images:
            self.shared.progress.images(len(record.images), record.cost_usd)
        for row in record.failures:
            self.shared.progress.failures(1, row.kind)


async def run_lane(runs: Sequence[VariantRun]) -> None:
    """Work off the variants of one quota key, one after the other."""
    for run in runs:
        await run.run()


def utc_now() -> str:
    """Now, UTC, ISO 8601 with milliseconds."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
