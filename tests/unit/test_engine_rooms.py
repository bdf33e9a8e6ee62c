"""The engine's small rooms: limits, budget, retries. Plain logic under a fake clock."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.engine.budget import Budget
from runner.engine.limits import Limiter
from runner.engine.retry import FIRST_WAIT_S, RetryPolicy
from runner.providers.contract import FaultKind, ProviderError
from runner.settings.schema import RetrySettings

MONEY = st.floats(0, 5, allow_nan=False)


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


def test_calls_start_no_faster_than_the_limit() -> None:
    clock = Clock()
    limiter = Limiter(60, clock)
    assert [limiter.delay() for _ in range(3)] == [0, 1, 2]
    clock.now += 10
    assert limiter.delay() == 0


def test_an_unlimited_quota_never_waits_until_it_is_told_to() -> None:
    clock = Clock()
    limiter = Limiter(None, clock)
    assert [limiter.delay() for _ in range(3)] == [0, 0, 0]
    limiter.pause(7)
    assert limiter.delay() == 7
    clock.now += 8
    assert limiter.delay() == 0


@given(
    limit=MONEY,
    spent=MONEY,
    calls=st.lists(st.tuples(MONEY, st.floats(0, 1)), max_size=40),
    order=st.randoms(use_true_random=False),
)
def test_a_budget_is_never_overstepped_whatever_the_order(
    limit: float, spent: float, calls: list[tuple[float, float]], order: random.Random
) -> None:
    budget = Budget(limit, spent)
    flying: list[tuple[float, float]] = []
    for worst, share in calls:
        if budget.reserve(worst):
            flying.append((worst, worst * share))
        if flying and order.random() < 0.5:
            budget.settle(*flying.pop(order.randrange(len(flying))))
    for worst, cost in flying:
        budget.settle(worst, cost)
    assert budget.spent_usd <= max(limit, spent) + 1e-6


def test_a_call_without_a_known_cost_books_its_worst() -> None:
    budget = Budget(10)
    assert budget.reserve(4)
    budget.settle(4, None)
    assert budget.spent_usd == 4
    assert not budget.reserve(7)


@pytest.mark.parametrize(
    ("kind", "resend_safe", "again"),
    [
        ("rate_limit", False, True),
        ("transient", False, True),
        ("ambiguous", False, False),
        ("ambiguous", True, True),
        ("refused", True, False),
        ("auth", True, False),
        ("invalid", True, False),
        ("gone", True, False),
    ],
)
def test_which_faults_are_worth_another_try(
    kind: FaultKind, resend_safe: bool, again: bool
) -> None:
    policy = RetryPolicy(RetrySettings(max_attempts=3), resend_safe)
    error = ProviderError(kind, "x")
    assert policy.again(error, 1) is again
    assert policy.again(error, 3) is False


def test_an_unanswered_call_is_sent_again_only_on_request() -> None:
    error = ProviderError("ambiguous", "x")
    assert RetryPolicy(RetrySettings(unknown=True)).again(error, 1)


@given(tries=st.integers(1, 30), seed=st.integers())
def test_waits_grow_with_full_jitter_and_are_capped(tries: int, seed: int) -> None:
    policy = RetryPolicy(RetrySettings(max_wait_s=20))
    wait = policy.wait_s(ProviderError("transient", "x"), tries, random.Random(seed))
    assert 0 <= wait <= min(20, FIRST_WAIT_S * 2 ** (tries - 1))


@pytest.mark.parametrize(("asked", "waits"), [(3, 3), (500, 20), (-1, 0)])
def test_what_the_provider_asks_for_is_obeyed_within_bounds(asked: float, waits: float) -> None:
    policy = RetryPolicy(RetrySettings(max_wait_s=20))
    error = ProviderError("rate_limit", "x", retry_after=asked)
    assert policy.wait_s(error, 1, random.Random(0)) == waits
