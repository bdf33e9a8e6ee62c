"""Lanes without a disk and without waiting: a clock that jumps, a store in memory."""

from __future__ import annotations

import asyncio
import random
import selectors
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from runner.engine.budget import Budget
from runner.engine.lane import Sent, Shared, VariantRun, run_lane
from runner.engine.limits import Limiter, Room
from runner.engine.progress import Quiet
from runner.engine.stop import Stop
from runner.plan import Plan, PlanSpec, Variant
from runner.providers.contract import (
    Answer,
    Call,
    Capabilities,
    Listener,
    Param,
    Picture,
    Price,
    Provider,
)
from runner.providers.fake import draw_card
from runner.record.rows import AttemptRecord, NoteRecord, SentRecord
from runner.settings.cell import CellParams, Json
from runner.settings.load import read_settings

Script = Callable[[Call, int], Awaitable[Answer]]


class _Selector(selectors.DefaultSelector):
    """Never waits: it moves the clock to the next thing that is due."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("everybody waits, and nothing will ever happen")
        self.now += max(0.0, timeout)
        return super().select(0)


class JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop whose hours pass at once."""

    def __init__(self) -> None:
        self.jumps = _Selector()
        super().__init__(self.jumps)

    def time(self) -> float:
        return self.jumps.now


def run_jumping(work: Coroutine[Any, Any, None]) -> float:
    """Run to the end; the seconds that would have passed."""
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        runner.run(work)
        return runner.get_loop().time()


@dataclass
class MemoryStore:
    """Keeps records in a list."""

    sents: list[SentRecord] = field(default_factory=list)
    notes: list[NoteRecord] = field(default_factory=list)
    attempts: list[AttemptRecord] = field(default_factory=list)

    async def sent(self, record: SentRecord) -> None:
        self.sents.append(record)

    async def note(self, record: NoteRecord) -> None:
        self.notes.append(record)

    async def commit(self, record: AttemptRecord, files: Mapping[str, bytes]) -> None:
        await asyncio.sleep(0)
        self.attempts.append(record)

    async def keep_extras(self, file_name: str, extras: Mapping[str, bytes]) -> None:
        raise NotImplementedError


class Told(Provider):
    """Answers each call with what an async function says."""

    name = "told"

    def __init__(
        self, script: Script, *, cells: int = 8, quota: str = "told", price: float = 1.0
    ) -> None:
        super().__init__(settings_of(cells).variant())
        self.cells, self.script, self.quota, self.price = cells, script, quota, price
        self.calls = 0

    def capabilities(self) -> Capabilities:
        params = {"prompt": Param(native="prompt"), "seed": Param(native="seed")}
        return Capabilities(params=params)

    def quota_key(self) -> str:
        return self.quota

    def estimate(self, params: CellParams) -> Price:
        return Price(0.0, self.price, "estimate")

    async def generate(self, call: Call, listener: Listener) -> Answer:
        self.calls += 1
        return await self.script(call, self.calls)

    async def attach(self, call: Call, fact: Mapping[str, Json], listener: Listener) -> Answer:
        raise NotImplementedError


def settings_of(cells: int) -> Any:
    return read_settings(
        {
            "provider": {"name": "told"},
            "model": {"name": "m"},
            "n": cells,
            "prompt": "a",
            "seed": 1,
            "size": "16x16",
        }
    )


CARD: dict[str, bytes] = {}


def card(call: Call, cost_usd: float | None = 0.0) -> Answer:
    """A whole answer."""
    data = CARD.setdefault("16", draw_card(call.cells[0], 1))
    outputs = tuple(Picture(data=data) for _ in call.cells)
    return Answer(outputs=outputs, cost_usd=cost_usd, cost_basis="reported")


@dataclass
class World:
    """What a run in memory left."""

    store: MemoryStore
    shared: Shared
    seconds: float
    ended: dict[str, float]

    @property
    def done(self) -> int:
        return sum(len(record.images) for record in self.store.attempts)


def work(
    *providers: Told,
    limits: Mapping[str, Json] | None = None,
    retry: Mapping[str, Json] | None = None,
    earlier: Mapping[int, list[Sent]] | None = None,
    stop_at: float | None = None,
    seen: Callable[[Shared], None] | None = None,
) -> World:
    """Work off all cells of some providers, each in a lane of its own quota."""
    variants, lanes = [], {}
    store, ended, found = MemoryStore(), {}, {}
    settings = settings_of(1)
    settings = settings.model_validate(
        {**settings.model_dump(), "limits": limits or {}, "retry": retry or {}}
    )
    for index, provider in enumerate(providers):
        variants.append(
            Variant.from_settings(index, settings_of(provider.cells), {"provider": provider.quota})
        )
    plan = Plan.build(PlanSpec(variants=tuple(variants)), providers=providers, unsupported="drop")

    async def kept() -> None:
        raise AssertionError("there is nothing to decide here")

    async def main() -> None:
        stop = Stop()
        shared = found["shared"] = Shared(
            plan=plan,
            store=store,  # type: ignore[arg-type]
            tried=lambda index: 0,
            budget=Budget(settings.limits.budget_usd),
            stop=stop,
            progress=Quiet(),
            limits=settings.limits,
            retry=settings.retry,
            mark=lambda written: written,
            room=Room(settings.limits.in_flight_mb * 1_000_000),
            keep=kept,
        )
        loop = asyncio.get_running_loop()
        for variant, provider in zip(plan.variants, providers, strict=True):
            limiter = Limiter(settings.limits, settings.retry, dice=random.Random(1))
            stop.on_request.append(limiter.wake)
            again = (earlier or {}).get(variant.index, [])
            taken_up = {cell.index for sent in again for cell in sent.call.cells}
            calls = partial(
                plan.variant_calls, variant.index, provider, lambda i, t=taken_up: i not in t
            )
            shared.budget.spent_usd += sum(sent.worst_usd or 0 for sent in again)
            for sent in again:
                shared.budget.take_back(sent.worst_usd)
            run = VariantRun(shared, variant, provider, limiter, calls, again)
            lanes.setdefault(provider.quota, []).append(run)

        async def lane(name: str) -> None:
            await run_lane(lanes[name])
            ended[name] = loop.time()

        if stop_at is not None:
            loop.call_later(stop_at, stop.request)
        with stop.working():
            async with asyncio.TaskGroup() as group:
                for name in lanes:
                    group.create_task(lane(name))

    seconds = run_jumping(main())
    return World(store, found["shared"], seconds, ended)
