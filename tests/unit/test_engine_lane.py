"""Whole lanes under a clock that jumps: retries, outages, fairness, budget, bytes, stopping."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.engine.lane import Sent
from runner.providers.contract import Answer, Call, Picture, ProviderError
from tests.unit.engine_world import Told, card, work


async def answers(call: Call, number: int) -> Answer:
    await asyncio.sleep(1)
    return card(call)


def fails(kind: str, times: int | None = None, **more: object) -> object:
    async def script(call: Call, number: int) -> Answer:
        await asyncio.sleep(0.1)
        if times is None or number <= times:
            raise ProviderError(kind, f"HTTP says {kind}", **more)  # type: ignore[arg-type]
        return card(call)

    return script


def test_a_stumble_is_repeated_and_its_tries_are_in_the_record() -> None:
    provider = Told(fails("transient", 2), cells=1)  # type: ignore[arg-type]
    world = work(provider)
    assert provider.calls == 3
    assert [record.final for record in world.store.attempts] == [False, False, True]
    (row,) = world.store.attempts[-1].images
    assert row.attempts == 3
    assert len({record.call_id for record in world.store.sents}) == 3


def test_tries_end_by_number() -> None:
    provider = Told(fails("transient"), cells=1)  # type: ignore[arg-type]
    world = work(provider, retry={"max_attempts": 3})
    assert provider.calls == 3
    assert world.store.attempts[-1].final
    assert world.store.attempts[-1].outcome == "failed"


def test_tries_end_by_time_too() -> None:
    provider = Told(fails("transient", retry_after=50.0), cells=1)  # type: ignore[arg-type]
    limits = {"max_attempts": 100, "breaker_failures": 100, "max_total_s": 240}
    world = work(provider, retry=limits)
    assert provider.calls == 5
    assert world.seconds < 240


@pytest.mark.parametrize("asked", [None, 0.0, 7.0, 1_700_000_000.0])
def test_a_rate_limit_that_never_ends_stops_its_provider_and_no_other(
    asked: float | None,
) -> None:
    limited = Told(fails("rate_limit", retry_after=asked), quota="limited")  # type: ignore[arg-type]
    good = Told(answers, quota="good")
    world = work(limited, good, retry={"max_total_s": 600})
    assert world.done == 8
    assert world.ended["good"] < 10
    assert 500 < world.seconds < 800
    (reason,) = world.shared.stopped.values()
    assert "nothing was accepted for" in reason
    assert limited.calls < 700


def test_being_turned_away_costs_no_try() -> None:
    provider = Told(fails("rate_limit", 9, retry_after=3.0), cells=1)  # type: ignore[arg-type]
    world = work(provider, retry={"max_attempts": 2})
    assert (provider.calls, world.done) == (10, 1)
    assert world.seconds >= 27


@pytest.mark.parametrize("kind", ["transient", "ambiguous"])
def test_a_provider_that_is_down_is_given_up_after_a_few_calls(kind: str) -> None:
    down = Told(fails(kind), cells=1000, quota="down")  # type: ignore[arg-type]
    good = Told(answers, cells=40, quota="good")
    world = work(down, good)
    assert world.done == 40
    assert down.calls < 50
    (reason,) = world.shared.stopped.values()
    assert "given up" in reason
    assert "HTTP says" in reason


def test_a_provider_that_comes_back_is_used_again() -> None:
    provider = Told(fails("transient", 12), cells=30)  # type: ignore[arg-type]
    world = work(provider, retry={"max_attempts": 10})
    assert world.done == 30
    assert world.shared.stopped == {}


def test_a_locked_out_provider_stops_at_once() -> None:
    locked = Told(fails("auth"), cells=1000, quota="locked")  # type: ignore[arg-type]
    good = Told(answers, quota="good")
    world = work(locked, good)
    assert locked.calls <= 4, "no more than were in flight"
    assert world.done == 8


def test_a_slow_or_limited_provider_starves_nobody() -> None:
    async def slow(call: Call, number: int) -> Answer:
        await asyncio.sleep(500)
        return card(call)

    alone = work(Told(answers, cells=60, quota="quick")).ended["quick"]
    world = work(
        Told(slow, quota="slow"),
        Told(fails("rate_limit", 50, retry_after=5.0), quota="limited"),  # type: ignore[arg-type]
        Told(answers, cells=60, quota="quick"),
    )
    assert world.done == 76
    assert world.ended["quick"] == pytest.approx(alone)


@settings(deadline=None, max_examples=60)
@given(
    limit=st.floats(0.1, 8),
    cells=st.integers(1, 30),
    dice=st.randoms(use_true_random=False),
    worst=st.sampled_from([0.1, 0.5, 1.0]),
)
def test_a_budget_is_never_overstepped_and_never_left_unused(
    limit: float, cells: int, dice: random.Random, worst: float
) -> None:
    billed = 0.0

    async def script(call: Call, number: int) -> Answer:
        nonlocal billed
        await asyncio.sleep(dice.expovariate(1))
        cost = dice.choice([0.0, dice.uniform(0, worst), worst])
        if dice.random() < 0.2:
            raise ProviderError("transient", "x")
        billed += cost
        if dice.random() < 0.2:
            raise ProviderError("ambiguous", "x")
        return card(call, dice.choice([cost, None]))

    provider = Told(script, cells=cells, price=worst)
    world = work(provider, limits={"budget_usd": limit}, retry={"breaker_failures": 1000})
    budget = world.shared.budget
    assert billed <= budget.spent_usd + 1e-6
    assert budget.spent_usd <= limit + 1e-6
    assert budget.reserved_usd == 0
    if world.shared.exhausted:
        assert budget.spent_usd + worst > limit, "one more call would have fitted"
    else:
        assert {row.index for one in world.store.attempts for row in one.images} | {
            row.index for one in world.store.attempts if one.final for row in one.failures
        } == set(range(cells))


def test_money_that_comes_back_is_spent() -> None:
    async def cheap(call: Call, number: int) -> Answer:
        await asyncio.sleep(1)
        return card(call, 0.1)

    world = work(Told(cheap, cells=20, price=1.0), limits={"budget_usd": 1.5})
    assert world.done == 6
    assert world.shared.exhausted == {0}


def test_what_is_free_goes_on_when_the_budget_is_used_up() -> None:
    async def dear(call: Call, number: int) -> Answer:
        return card(call, 1.0)

    world = work(
        Told(dear, quota="dear"),
        Told(answers, quota="free", price=0.0),
        limits={"budget_usd": 2.0},
    )
    assert world.shared.exhausted == {0}
    assert world.done == 10


class Padded:
    """Answers with pictures of a size, and counts how many are asked for at once."""

    def __init__(self, more: int) -> None:
        self.more = more
        self.flying = self.peak = 0

    async def __call__(self, call: Call, number: int) -> Answer:
        self.flying += 1
        self.peak = max(self.peak, self.flying)
        await asyncio.sleep(1)
        self.flying -= 1
        (picture,) = card(call).outputs
        assert isinstance(picture, Picture)
        return Answer(outputs=(Picture(data=picture.data + bytes(self.more)),))


def test_bytes_on_their_way_are_bounded_not_only_calls() -> None:
    large = Padded(1_000_000)
    world = work(Told(large, cells=100), limits={"in_flight_mb": 10, "max_concurrency": 64})
    assert world.done == 100
    assert 5 < large.peak <= 10


@pytest.mark.parametrize(("more", "at_once"), [(1_800_000, 1), (0, 20)])
def test_bytes_of_the_first_calls_are_bounded_too(more: int, at_once: int) -> None:
    """And where the pictures turn out to be small, nothing waits for room."""
    padded = Padded(more)
    world = work(Told(padded, cells=200), limits={"in_flight_mb": 3, "max_concurrency": 20})
    assert world.done == 200
    assert padded.peak == at_once


def test_images_per_minute_are_kept() -> None:
    provider = Told(answers, cells=60)
    world = work(provider, limits={"images_per_minute": 60})
    assert world.done == 60
    assert 58 <= world.seconds <= 62


@pytest.mark.parametrize("kind", ["transient", "rate_limit"])
def test_a_stop_ends_every_wait(kind: str) -> None:
    provider = Told(fails(kind, retry_after=60.0), cells=8)  # type: ignore[arg-type]
    world = work(provider, stop_at=5.0)
    assert world.seconds == 5.0
    calls = provider.calls
    assert calls == len(world.store.attempts)


def test_a_stop_lets_calls_in_flight_end_and_starts_no_other() -> None:
    async def slow(call: Call, number: int) -> Answer:
        await asyncio.sleep(10)
        return card(call)

    provider = Told(slow, cells=100)
    world = work(provider, stop_at=12.0)
    assert world.seconds == 20.0
    assert world.done == provider.calls == 4 + 8


class Jobs(Told):
    """Its jobs outlive the process that sent them."""

    found: object = None

    async def attach(self, call: Call, fact: object, listener: object) -> Answer:
        await asyncio.sleep(3)
        if isinstance(self.found, Exception):
            raise self.found
        return card(call, 0.25)


def sent_before(provider: Told) -> tuple[dict[int, list[Sent]], list[Call]]:
    """A call that an earlier process sent; taken from a first run in memory."""
    calls: list[Call] = []

    async def keep(call: Call, number: int) -> Answer:
        calls.append(call)
        return card(call)

    work(Told(keep, cells=provider.cells))
    return {0: [Sent(calls[0], {"job": "j1"}, 1.0)]}, calls


def test_a_job_of_an_earlier_process_is_taken_up_under_its_own_name() -> None:
    provider = Jobs(answers, cells=3)
    earlier, calls = sent_before(provider)
    world = work(provider, earlier=earlier)
    taken = next(one for one in world.store.attempts if one.call_id == calls[0].call_id)
    assert taken.cost_usd == 0.25
    assert calls[0].call_id not in {sent.call_id for sent in world.store.sents}
    assert world.shared.budget.reserved_usd == 0


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (ProviderError("refused", "no"), "refused"),
        (ProviderError("invalid", "a wrong size"), "failed"),
        (ProviderError("ambiguous", "job j1 is still 'running'", code="job_running"), "unknown"),
        (ProviderError("gone", "no such job", code="404"), "unknown"),
        (TimeoutError(), "unknown"),
    ],
)
def test_a_job_that_brings_nothing_is_settled_truthfully(error: Exception, outcome: str) -> None:
    provider = Jobs(answers, cells=1)
    provider.found = error
    earlier, calls = sent_before(provider)
    world = work(provider, earlier=earlier)
    first = world.store.attempts[0]
    assert (first.call_id, first.outcome) == (calls[0].call_id, outcome)
    assert first.cost_usd == (1.0 if outcome == "unknown" else 0.0)
    assert world.shared.stopped == {}
