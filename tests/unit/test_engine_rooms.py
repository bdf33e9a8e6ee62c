"""The engine's small rooms: budget, retries, breaker. Plain logic under a fake clock."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.engine.breaker import Breaker
from runner.engine.budget import Budget
from runner.engine.retry import FIRST_WAIT_S, RetryPolicy, Tries, backoff_s
from runner.providers.contract import FaultKind, ProviderError
from runner.settings.schema import RetrySettings

MONEY = st.floats(0, 5, allow_nan=False)


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


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
        assert budget.spent_usd + budget.reserved_usd <= max(limit, spent) + 1e-6
        if flying and order.random() < 0.5:
            budget.settle(*flying.pop(order.randrange(len(flying))))
    for worst, cost in flying:
        budget.settle(worst, cost)
    assert budget.spent_usd <= max(limit, spent) + 1e-6
    assert budget.reserved_usd == 0
    assert not budget.waits


def test_a_call_without_a_known_cost_books_its_worst() -> None:
    budget = Budget(10)
    assert budget.reserve(4)
    budget.settle(4, None)
    assert budget.spent_usd == 4
    assert not budget.reserve(7)


def test_what_costs_nothing_goes_also_when_the_budget_is_used_up() -> None:
    budget = Budget(1, spent_usd=2)
    assert not budget.reserve(0.01)
    assert budget.reserve(0)


def test_a_call_that_is_asked_for_again_is_booked_once() -> None:
    budget = Budget(10, spent_usd=7)
    budget.take_back(4)
    assert (budget.spent_usd, budget.reserved_usd) == (3, 4)
    assert not budget.reserve(4)
    budget.settle(4, 1)
    assert budget.spent_usd == 4
    assert budget.reserve(6)


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
    assert (policy.wait_s(error, Tries(0, 1, 1), 1) is not None) is again


def test_an_unanswered_call_is_sent_again_only_on_request() -> None:
    error = ProviderError("ambiguous", "x")
    assert RetryPolicy(RetrySettings(unknown=True)).wait_s(error, Tries(0, 1, 1), 1) is not None


def test_tries_are_bounded_in_number_and_in_time() -> None:
    policy = RetryPolicy(RetrySettings(max_attempts=3, max_total_s=100))
    stumbled, limited = ProviderError("transient", "x"), ProviderError("rate_limit", "x")
    assert policy.wait_s(stumbled, Tries(0, 2, 2), 50) is not None
    assert policy.wait_s(stumbled, Tries(0, 3, 3), 50) is None
    assert policy.wait_s(stumbled, Tries(0, 1, 1), 100) is None
    # Being turned away is free: only time ends it.
    assert policy.wait_s(limited, Tries(0, 20, 0), 99) == 0
    assert policy.wait_s(limited, Tries(0, 20, 0), 100) is None


@given(tries=st.integers(1, 3000), seed=st.integers())
def test_waits_grow_with_full_jitter_and_are_capped(tries: int, seed: int) -> None:
    wait = backoff_s(tries, 20, random.Random(seed))
    assert 0 <= wait <= min(20, FIRST_WAIT_S * 2 ** (min(tries, 60) - 1))


@pytest.mark.parametrize(("asked", "waits"), [(3, 3), (500, 20), (-1, 0)])
def test_what_the_provider_asks_for_is_obeyed_within_bounds(asked: float, waits: float) -> None:
    policy = RetryPolicy(RetrySettings(max_wait_s=20))
    error = ProviderError("transient", "x", retry_after=asked)
    assert policy.wait_s(error, Tries(0, 1, 1), 1) == waits


def breaker(clock: Clock, **settings: int) -> Breaker:
    limits = RetrySettings(breaker_failures=3, breaker_probes=2, **settings)
    return Breaker(limits, clock, random.Random(1))


def test_failures_in_a_row_pause_a_provider_and_one_probe_brings_it_back() -> None:
    clock = Clock()
    one = breaker(clock)
    for _ in range(2):
        one.bad("HTTP 500")
        one.good()
    for _ in range(3):
        assert one.delay() == 0
        one.started()
    for _ in range(3):
        one.bad("HTTP 500")
    pause = one.delay()
    assert pause > 0
    clock.now += pause
    assert one.delay() == 0
    one.started()
    assert one.delay() == math.inf, "one probe at a time"
    one.good()
    assert one.delay() == 0
    assert one.given_up is None


def test_a_provider_that_stays_down_is_given_up_with_one_sentence() -> None:
    clock = Clock()
    one = breaker(clock)
    for _ in range(3):
        one.started()
        one.bad("HTTP 503")
    one.bad("a late failure of before the pause is no probe")
    pauses = []
    while one.given_up is None:
        pauses.append(one.delay())
        clock.now += pauses[-1]
        one.started()
        one.bad("HTTP 503")
    assert len(pauses) == 2
    assert pauses[1] > pauses[0] / 2
    assert "6 calls in a row" in one.given_up
    assert "HTTP 503" in one.given_up


def test_a_probe_that_is_not_sent_leaves_its_place_to_another() -> None:
    clock = Clock()
    one = breaker(clock)
    for _ in range(3):
        one.bad("x")
    clock.now += one.delay()
    one.started()
    one.withdrawn()
    assert one.delay() == 0
