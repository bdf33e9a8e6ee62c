"""A lane: everything that lives under one rate limit, worked off by a few concurrent workers.

Lanes do not wait for each other, so a slow or limited provider never starves another. Inside a
lane the variants come one after the other: each is opened once, worked off and closed, so that two
local models are never in memory together.
"""

from __future__ import annotations

import asyncio
import datetime
import secrets
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from runner.engine.budget import Budget
from runner.engine.limits import Limiter, Pass, Room, likely_bytes
from runner.engine.outcome import Attempt, Written, answered, recipe_id, unanswered
from runner.engine.progress import Progress
from runner.engine.retry import RetryPolicy, Tries
from runner.engine.stop import Stop
from runner.plan import Plan, Variant
from runner.providers.contract import (
    NO_JOB,
    Answer,
    Call,
    Capabilities,
    Provider,
    ProviderError,
)
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
        room: Bytes of pictures on their way.
        recipes_before: Index of a cell to the recipe by which it is to be made again.
        resend: Whether unknown calls of earlier processes are made again.
        insist: Also those whose job may still be there, but cannot be asked.
        identities: Variant index to what is known of its weights, for the manifest.
        settled: Variant index to what its provider decided, for the manifest.
        keep: Writes the manifest now, durably.
        recipes: Short hash to local recipe, for the manifest.
        stopped: Variant index to the sentence that stopped its provider.
        exhausted: Variants that the budget ended.
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
    room: Room
    keep: Callable[[], Awaitable[None]]
    recipes_before: Mapping[int, Mapping[str, Json]] = field(default_factory=dict)
    resend: bool = True
    insist: bool = False
    identities: dict[int, dict[str, Json]] = field(default_factory=dict)
    settled: dict[int, dict[str, Json]] = field(default_factory=dict)
    recipes: dict[str, dict[str, Json]] = field(default_factory=dict)
    stopped: dict[int, str] = field(default_factory=dict)
    exhausted: set[int] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Sent:
    """A call that an earlier process sent, with a job that may still be there.

    Attributes:
        call: As it was sent.
        fact: What its provider noted of it.
        worst_usd: Most that it can have cost.
    """

    call: Call
    fact: Mapping[str, Json]
    worst_usd: float | None


class VariantRun:
    """Works off the calls of one variant.

    Args:
        shared: What all lanes share.
        variant: Whose cells.
        provider: Who makes them.
        limiter: The gate of the lane.
        calls: Begins to group the cells that are still to be sent, lazily.
        earlier: Calls of earlier processes to take up again.
    """

    def __init__(
        self,
        shared: Shared,
        variant: Variant,
        provider: Provider,
        limiter: Limiter,
        calls: Callable[[], Iterator[Sequence[Cell]]],
        earlier: Sequence[Sent] = (),
    ) -> None:
        self.shared = shared
        self.variant = variant
        self.provider = provider
        self.capabilities: Capabilities = provider.capabilities()
        self._limiter = limiter
        self._group = calls
        self._calls = calls()
        self._earlier = iter(earlier)
        self._policy = RetryPolicy(shared.retry, self.capabilities.resend_safe, limiter.dice)
        self._largest: int | None = None
        self._noted: set[str] = set()

    async def run(self) -> None:
        """Open the provider, work off every call, close it."""
        sent = next(self._earlier, None)
        first = next(self._calls, None) if sent is None else None
        if (sent is None and first is None) or self._halted():
            return
        try:
            await self.provider.open()
            self.shared.identities[self.variant.index] = dict(self.provider.model_identity())
            if await self._settle() and first is not None:
                self._calls = self._group()  # other calls than those of before
                first = next(self._calls)
            # The limiter bounds what is in flight; as many answers again are being written.
            workers = self.provider.max_concurrency() or 2 * self.shared.limits.max_concurrency
            async with asyncio.TaskGroup() as group:
                group.create_task(self._work(first, sent))
                for _ in range(workers - 1):
                    group.create_task(self._work())
        except RunnerError as error:
            self._halt(str(error))
        finally:
            await self.provider.close()

    async def _settle(self) -> bool:
        """Keep what the provider decides, before anything is made by it."""
        shared, index = self.shared, self.variant.index
        settled = await self.provider.settle(self._group())
        if not settled:
            return False
        shared.settled[index] = dict(settled)
        await shared.keep()
        return True

    def progress(self, call: Call, done: int, total: int) -> None:
        """See :class:`runner.providers.contract.Listener`."""
        self.shared.progress.step(call, done, total)

    async def note(self, call: Call, fact: Mapping[str, Json]) -> None:
        """See :class:`runner.providers.contract.Listener`; durable when it returns."""
        record = NoteRecord(call_id=call.call_id, at=utc_now(), fact=fact)
        await self.shared.store.note(record)
        self._noted.add(call.call_id)

    def _halted(self) -> bool:
        shared, index = self.shared, self.variant.index
        if (reason := self._limiter.breaker.given_up) is not None:
            self._halt(reason)
        return shared.stop.requested or index in shared.exhausted or index in shared.stopped

    def _halt(self, reason: str) -> None:
        if self.variant.index not in self.shared.stopped:
            self.shared.stopped[self.variant.index] = reason
            self.shared.progress.note(f"{self.variant.name}: {reason}")
            self._limiter.wake()

    async def _work(self, cells: Sequence[Cell] | None = None, sent: Sent | None = None) -> None:
        while not self._halted():
            if sent := sent or next(self._earlier, None):
                await self._take_up(sent)
            elif cells := cells or next(self._calls, None):
                await self._call(tuple(cells))
            else:
                return
            cells = sent = None

    async def _call(self, cells: tuple[Cell, ...]) -> None:
        """The one retry loop of the program."""
        shared, limiter = self.shared, self._limiter
        worst = self.provider.estimate(cells[0].params).times(len(cells)).high_usd
        before, tries = shared.tried(cells[0].index), Tries()
        while (passed := await limiter.enter(len(cells), self._halted)) is not None:
            if not await self._afford(worst):
                limiter.leave(answered=False)
                return
            await shared.room.take(room := self._reserve(cells))
            recipe = shared.recipes_before.get(cells[0].index)
            call = Call(secrets.token_hex(8), cells, recipe)
            await self._journal_sent(call, worst)
            tries.began = tries.began if tries.sent else self._now()
            tries.sent += 1
            attempt, reply = await self._ask(
                call, self.provider.generate(call, self), before + tries.sent
            )
            error = reply if isinstance(reply, ProviderError) else None
            self._learn(passed, error)
            wait = None
            if error is not None:
                tries.stumbled += error.kind != "rate_limit"
                wait = self._wait_s(call, error, tries)
            await self._keep(attempt, reply, worst, room, final=wait is None)
            if wait is None:
                return
            await shared.stop.sleep(wait)

    async def _afford(self, worst: float | None) -> bool:
        """Set the worst case aside, if need be when calls in flight have given money back."""
        budget = self.shared.budget
        while not budget.reserve(worst):
            if self._halted():
                return False
            if not budget.waits:
                self.shared.exhausted.add(self.variant.index)
                self._limiter.wake()
                return False
            await budget.changes.wait()
        return True

    def _learn(self, passed: Pass, error: ProviderError | None) -> None:
        """Tell the limiter how a call ended."""
        if error is None or error.kind == "refused":
            self._limiter.good(passed)
        elif error.kind == "rate_limit":
            self._limiter.limited(passed, error.retry_after)
        elif error.kind in {"transient", "ambiguous"}:
            self._limiter.failed(error.message)
        else:
            if error.kind in {"auth", "gone"}:
                self._halt(error.message)  # before its place is given to the next call
            self._limiter.leave(answered=True)

    def _wait_s(self, call: Call, error: ProviderError, tries: Tries) -> float | None:
        """Seconds until the next try of these cells; ``None``: there is none."""
        if self._halted():
            return None
        if error.kind == "ambiguous" and call.call_id in self._noted:
            return None  # its job may still be there: resume takes it up
        wait = self._policy.wait_s(error, tries, self._now())
        if wait is None and error.kind == "rate_limit" and self._limiter.last_good < tries.began:
            waited = self._now() - tries.began
            self._halt(f"nothing was accepted for {waited:.0f} s ({error.message})")
        return wait

    async def _take_up(self, sent: Sent) -> None:
        """Ask for the job of a call that an earlier process sent; nothing is sent again by that."""
        shared, call, worst = self.shared, sent.call, sent.worst_usd
        await shared.room.take(room := self._reserve(call.cells))
        attempt, reply = await self._ask(
            call, self.provider.attach(call, sent.fact, self), shared.tried(call.cells[0].index)
        )
        if isinstance(reply, Answer) or reply.kind in {"refused", "invalid"}:
            await self._keep(attempt, reply, worst, room)
            return
        again = reply.kind == "transient"  # the job is over and brought nothing
        if not again:
            if reply.kind == "auth":
                self._halt(reply.message)
            again = shared.resend and (shared.insist or reply.code == NO_JOB)
            reply = ProviderError(
                "ambiguous", reply.message, code=reply.code, request_id=reply.request_id
            )
        await self._keep(attempt, reply, worst, room, final=not again)
        if again:
            await self._call(call.cells)

    def _reserve(self, cells: Sequence[Cell]) -> int:
        """Bytes that the answer to a call will probably have."""
        return likely_bytes(cells) if self._largest is None else self._largest

    async def _journal_sent(self, call: Call, worst: float | None) -> None:
        if self.capabilities.resend_safe:
            return
        await self.shared.store.sent(
            SentRecord(
                call_id=call.call_id,
                at=utc_now(),
                cells=tuple((cell.index, cell.cell_id) for cell in call.cells),
                worst_usd=worst,
                variant=self.variant.index,
                provider=self.variant.settings.provider.name,
                model=self.variant.settings.model.name,
            )
        )

    async def _ask(
        self, call: Call, question: Awaitable[Answer], tries: int
    ) -> tuple[Attempt, Answer | ProviderError]:
        """One try: an answer, or a classified error, and when that was."""
        started_at, start = utc_now(), self._now()
        reply: Answer | ProviderError
        try:
            async with asyncio.timeout(self.shared.limits.timeout_s):
                reply = await question
        except Exception as raised:
            reply = self.provider.classify(raised)
        return Attempt(
            call=call,
            variant=self.variant,
            capabilities=self.capabilities,
            tries=tries,
            started_at=started_at,
            ended_at=utc_now(),
            latency_s=self._now() - start,
        ), reply

    async def _keep(
        self,
        attempt: Attempt,
        reply: Answer | ProviderError,
        worst: float | None,
        room: int,
        *,
        final: bool = True,
    ) -> None:
        """Write down how a try ended; durable on return."""
        shared = self.shared
        if isinstance(reply, Answer):
            if reply.recipe is not None:
                shared.recipes[recipe_id(reply.recipe)] = dict(reply.recipe)
            written = shared.mark(answered(attempt, reply))
        else:
            written = unanswered(attempt, reply, final=final, worst_usd=worst)
        size = sum(map(len, written.files.values()))
        if written.files:
            self._largest = max(self._largest or 0, size)
        shared.room.change(size - room)
        for name, extras in written.extras.items():
            await shared.store.keep_extras(name, extras)
        await shared.store.commit(written.record, written.files)
        # Only now: after a kill the journal must not show this call open beside the one that
        # the money it gave back has paid for.
        shared.budget.settle(worst, written.record.cost_usd)
        shared.room.change(-size)
        self._noted.discard(attempt.call.call_id)
        shared.progress.money(shared.budget.spent_usd, shared.budget.limit_usd)
        if final:
            shared.progress.images(len(written.record.images))
            for row in written.record.failures:
                shared.progress.failures(1, row.kind)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


async def run_lane(runs: Sequence[VariantRun]) -> None:
    """Work off the variants of one quota key, one after the other."""
    for run in runs:
        await run.run()


def utc_now() -> str:
    """Now, UTC, ISO 8601 with milliseconds."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
