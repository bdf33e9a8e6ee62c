"""The limiter against simulated servers, under a fake clock: no sleep, no thread, no chance."""

from __future__ import annotations

import heapq
import itertools
import math
import random
from dataclasses import dataclass, field

import pytest

from runner.engine.limits import COMMON_BYTES, FIRST_WINDOW, Limiter, Pass, likely_bytes
from runner.settings.cell import CellParams
from runner.settings.schema import LimitSettings, RetrySettings
from tests.contract.support import cells


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Server:
    """Turns calls away by a token bucket and by calls in flight; tells when to come back, or not.

    Attributes:
        rate: Calls per second.
        burst: Tokens that the bucket holds.
        latency_s: Mean time of a call.
        spread: Sigma of the log-normal times.
        at_once: Calls in flight.
        says_when: Whether answers carry ``Retry-After``.
    """

    rate: float
    burst: float
    latency_s: float
    spread: float = 0.4
    at_once: float = math.inf
    says_when: bool = True
    flying: int = 0
    tokens: float = field(init=False)
    filled: float = 0.0

    def __post_init__(self) -> None:
        self.tokens = self.burst

    def takes(self, now: float) -> bool:
        self.tokens = min(self.burst, self.tokens + (now - self.filled) * self.rate)
        self.filled = now
        if self.tokens < 1 or self.flying >= self.at_once:
            return False
        self.tokens -= 1
        self.flying += 1
        return True

    @property
    def allowed(self) -> float:
        return min(self.rate, self.at_once / self.latency_s)


@dataclass
class Told:
    """What happened after the warm-up: starts that were taken and turned away, with their times."""

    taken: list[float] = field(default_factory=list)
    away: list[float] = field(default_factory=list)

    def after(self, warm: float, end: float, server: Server) -> tuple[float, float]:
        """Share of the allowed rate that was reached, and share that was turned away."""
        taken = sum(at > warm for at in self.taken)
        away = sum(at > warm for at in self.away)
        return taken / (server.allowed * (end - warm)), away / max(1, taken + away)


def simulate(
    server: Server, end: float, *, seed: int = 0, work: float = math.inf, **limits: float
) -> tuple[Told, Limiter]:
    """Send as fast as the limiter lets us until the clock shows ``end``."""
    clock, dice, told = Clock(), random.Random(seed), Told()
    limiter = Limiter(
        LimitSettings(**{"max_concurrency": 256, **limits}), RetrySettings(), clock, dice
    )
    events: list[tuple[float, int, Pass, float | None]] = []
    numbers = itertools.count()
    while clock.now < end:
        while work > 0 and (wait := limiter.delay()) == 0:
            passed = limiter.start()
            if server.takes(clock.now):
                told.taken.append(clock.now)
                work -= 1
                factor = dice.lognormvariate(-(server.spread**2) / 2, server.spread)
                until, away = clock.now + server.latency_s * factor, None
            else:
                told.away.append(clock.now)
                until = clock.now + dice.uniform(0.05, 0.15)
                away = max(0.0, (1 - server.tokens) / server.rate)
            heapq.heappush(events, (until, next(numbers), passed, away))
        if work <= 0:
            wait = math.inf
        if not events and wait == math.inf:
            break
        clock.now = min(clock.now + wait, events[0][0] if events else math.inf)
        while events and events[0][0] <= clock.now:
            _, _, passed, away = heapq.heappop(events)
            if away is None:
                server.flying -= 1
                limiter.good(passed)
            else:
                limiter.limited(passed, away if server.says_when and away else None)
    return told, limiter


@pytest.mark.parametrize("says_when", [True, False])
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    ("rate", "burst", "latency_s"),
    [
        (5 / 60, 5, 10),
        (1, 60, 5),
        (1, 1, 20),
        (500 / 60, 500, 8),
        (10, 10, 0.5),
        (50, 50, 2),
    ],
)
def test_a_token_bucket_is_used_to_ninety_per_cent_with_under_two_turned_away(
    rate: float, burst: float, latency_s: float, says_when: bool, seed: int
) -> None:
    server = Server(rate, burst, latency_s, says_when=says_when)
    end = max(300, 2500 / rate)
    told, _ = simulate(server, end, seed=seed)
    reached, away = told.after(end / 4, end, server)
    assert 0.9 <= reached <= 1.1
    assert away < 0.02


@pytest.mark.parametrize("at_once", [2, 24])
def test_a_limit_on_calls_in_flight_is_found_too(at_once: int) -> None:
    server = Server(1000, 1000, 8, spread=0.5, at_once=at_once)
    end = 16_000 / at_once * 4
    told, limiter = simulate(server, end)
    reached, away = told.after(end / 4, end, server)
    assert reached >= 0.8
    assert away < 0.03
    assert at_once <= limiter.window <= at_once + 1.5


def test_the_window_starts_small_and_doubles_only_while_it_is_used() -> None:
    idle, limiter = simulate(Server(1e6, 1e6, 1, 0), 100, work=2)
    assert len(idle.taken) == 2
    assert limiter.window == FIRST_WINDOW
    busy, limiter = simulate(Server(1e6, 1e6, 1, 0), 5.5)
    starts = [sum(second <= at < second + 1 for at in busy.taken) for second in range(5)]
    assert starts == [4, 8, 16, 32, 64]


def test_max_concurrency_is_never_passed() -> None:
    server = Server(1e6, 1e6, 1, at_once=7)
    told, _ = simulate(server, 30, max_concurrency=7)
    assert told.away == []
    assert len(told.taken) > 100


def test_one_cut_per_episode_whatever_the_number_turned_away() -> None:
    clock = Clock()
    limiter = Limiter(LimitSettings(), RetrySettings(), clock, random.Random(0))
    passes = [limiter.start() for _ in range(4)]
    clock.now = 1.0
    limiter.limited(passes[0], 5)
    rate = limiter.rate
    assert rate < math.inf
    for passed in passes[1:]:
        limiter.limited(passed, 2)
    assert limiter.rate == rate
    assert limiter.delay() == 5, "the longest wait that was asked for counts"
    clock.now = 7.0
    later = limiter.start()
    limiter.limited(later, None)
    assert limiter.rate < rate


@pytest.mark.parametrize(("asked", "waits"), [(7, 7), (86_400, 60), (-3, 0)])
def test_what_a_rate_limit_asks_for_is_obeyed_within_bounds(asked: float, waits: float) -> None:
    limiter = Limiter(LimitSettings(), RetrySettings(), Clock(), random.Random(0))
    first, _ = limiter.start(), limiter.start()
    limiter.limited(first, asked)
    assert limiter.delay() >= waits
    assert limiter.delay() <= max(waits, 2)


def test_requests_and_images_per_minute_are_kept_from_the_start() -> None:
    server = Server(1.0, 2, 3)
    told, _ = simulate(server, 600, requests_per_minute=60)
    assert told.away == []
    assert len(told.taken) >= 0.95 * 600
    clock = Clock()
    limiter = Limiter(LimitSettings(images_per_minute=60), RetrySettings(), clock)
    limiter.start(images=4)
    assert limiter.delay() == 4


def test_a_provider_that_is_down_holds_its_quota_up_and_no_other() -> None:
    clock = Clock()
    retry = RetrySettings(breaker_failures=2)
    one, other = (Limiter(LimitSettings(), retry, clock) for _ in range(2))
    for _ in range(2):
        one.start()
        one.failed("HTTP 500")
    assert one.delay() > 0
    assert other.delay() == 0


@pytest.mark.parametrize(
    ("size", "each"),
    [
        ("1024x768", 3 * 1024 * 768),
        ("16:9", COMMON_BYTES),
        ("auto", COMMON_BYTES),
        (None, COMMON_BYTES),
        ("?!", COMMON_BYTES),
    ],
)
def test_how_large_an_answer_may_be_before_one_was_seen(size: str | None, each: int) -> None:
    assert likely_bytes(cells(CellParams(prompt="a", size=size), 3)) == 3 * each
