"""How hard one quota may be pushed: calls in flight and calls per second, learned from its answers.

Two figures adapt, and both only while a call really had to wait for them:

- the **window**, calls in flight, starts small and gains one with every success (slow start);
- the **pace**, seconds between two starts, is unbounded until the first rate limit. That one says
  what was accepted so far; from then on every success lets the pace grow by a share (``gain``).

A rate-limit episode is the first such answer and all those to calls that had left before it. Each
episode cuts once: the pace by a tenth (by more while it is still being learned), and, once the
pace is learned, the window down to the calls that were accepted in flight. Beyond that mark the
window is tried only now and then, and freely again as soon as a try succeeds. So a limit on calls
per minute is found by the pace, a limit on calls in flight by the window, and nobody has to say
which one it is. With gains of 0.1% and cuts of 10% about one call in a hundred is turned away.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from runner.engine.breaker import Breaker
from runner.engine.changes import Changes
from runner.engine.retry import backoff_s
from runner.providers.sizes import SizeError, parse_size
from runner.settings.cell import Cell
from runner.settings.schema import LimitSettings, RetrySettings

FIRST_WINDOW = 4
FIRST_GAIN, LAST_GAIN = 0.25, 0.001
LEARNED = 0.02
"""Below this gain the pace is known well enough to blame the window too."""
CUT, DEEPEST_CUT = 0.1, 0.5
TELLING = 4
"""Successes between two episodes that make the later one say something new."""
QUICKEN_AFTER = 150
"""Successes in a row after which the pace is tried more boldly."""
FIRST_PATIENCE, LAST_PATIENCE = 4, 128
"""Successes per try beyond a window that was once too wide."""
SLOWEST_S = 15.0
"""Longest time between two starts that the pace itself brings about."""


COMMON_BYTES = 2_000_000
"""An image of about a million pixels, as most APIs send it."""


@dataclass(frozen=True, slots=True)
class Pass:
    """Leave to send one call.

    Attributes:
        at: When it was given.
        in_flight: Calls in flight then, this one included.
    """

    at: float
    in_flight: int


@dataclass(frozen=True, slots=True)
class _Waiting:
    """Who stands before the gate."""

    images: int
    halted: Callable[[], bool]
    passed: asyncio.Future[Pass | None]


class Limiter:
    """The gate before every call of one quota key; those who wait are served in order.

    Args:
        limits: The user's own bounds.
        retry: Bounds of waiting.
        clock: Monotonic seconds; the event loop's by default.
        dice: For jitter.

    Attributes:
        window: Calls that may be in flight.
        rate: Calls per second that may start.
        last_good: When a call was last accepted.
        breaker: Pauses everything while the provider is down.
        dice: For jitter.
    """

    def __init__(
        self,
        limits: LimitSettings,
        retry: RetrySettings,
        clock: Callable[[], float] | None = None,
        dice: random.Random | None = None,
    ) -> None:
        self._clock = clock or asyncio.get_running_loop().time
        self.dice = dice or random.Random()
        self._retry = retry
        self._most = limits.max_concurrency
        self._per_call = 60 / limits.requests_per_minute if limits.requests_per_minute else 0.0
        self._per_image = 60 / limits.images_per_minute if limits.images_per_minute else 0.0
        self.breaker = Breaker(retry, self._clock, self.dice)
        self.window = float(min(FIRST_WINDOW, self._most))
        self.rate = math.inf
        self.in_flight = 0
        self.last_good = -math.inf
        self._accepted, self._began = 0, self._clock()
        self._too_wide: float | None = None
        self._patience = FIRST_PATIENCE
        self._gain = FIRST_GAIN
        self._good = 0
        self._waits_for: str | None = None
        self._held: str | None = None
        self._episode = -math.inf
        self._episodes = 0
        self._next = self._next_allowed = self._paused = -math.inf
        self._waiting: deque[_Waiting] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._serving = False

    async def enter(self, images: int, halted: Callable[[], bool]) -> Pass | None:
        """Wait until a call may start.

        Args:
            images: How many images it asks for.
            halted: Whether to give up waiting; asked after every :meth:`wake`.

        Returns:
            The pass, to be given back by :meth:`leave`; ``None`` if halted.
        """
        waiting = _Waiting(images, halted, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self.wake()
        try:
            return await waiting.passed
        except asyncio.CancelledError:
            given = None if waiting.passed.cancelled() else waiting.passed.result()
            if given is not None:
                self.leave(answered=False)
            raise

    def wake(self) -> None:
        """Let all in who may come in, and send those home who are halted."""
        if self._serving:
            return  # whoever finds out that it is halted says so here; the loop below looks anyway
        self._serving = True
        try:
            while self._waiting:
                first = self._waiting[0]
                if first.passed.done():  # cancelled
                    self._waiting.popleft()
                elif first.halted():
                    self._waiting.popleft().passed.set_result(None)
                elif (wait := self.delay()) > 0:
                    self._wake_in(wait)
                    break
                else:
                    # All at once: one for each round of a busy event loop is a slow trickle.
                    self._waiting.popleft().passed.set_result(self.start(first.images))
        finally:
            self._serving = False

    def _wake_in(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if seconds < math.inf:
            self._timer = asyncio.get_running_loop().call_later(seconds, self.wake)

    def delay(self) -> float:
        """Seconds until a call may start; infinite: until one in flight ends."""
        now = self._clock()
        forced = max(self._paused, self._next_allowed) - now
        if forced > 0:
            return forced
        if (closed := self.breaker.delay()) > 0:
            return closed
        if self.in_flight >= int(self.window):
            self._waits_for = "window"
            return math.inf
        if self._next > now:
            self._waits_for = "pace"
            return self._next - now
        return 0.0

    def start(self, images: int = 1) -> Pass:
        """A call starts now."""
        now = self._clock()
        self.in_flight += 1
        self._accepted += 1
        self.breaker.started()
        self._held, self._waits_for = self._waits_for, None
        self._next = max(self._next, now) + 1 / self.rate
        least = max(self._per_call, self._per_image * images)
        self._next_allowed = max(self._next_allowed, now) + least
        return Pass(now, self.in_flight)

    def leave(self, *, answered: bool) -> None:
        """A call ended in a way that says nothing about limits, or was not sent after all."""
        self.in_flight -= 1
        if answered:
            self.breaker.good()
        else:
            self.breaker.withdrawn()
        self.wake()

    def good(self, passed: Pass) -> None:
        """A call was accepted and answered."""
        self.in_flight -= 1
        self.last_good = self._clock()
        self._episodes = 0
        self.breaker.good()
        held = self._waits_for or self._held
        if held == "window":
            if self._too_wide is not None and passed.in_flight > self._too_wide:
                self._too_wide, self._patience = None, FIRST_PATIENCE
            known = self._too_wide is not None and self.window >= self._too_wide
            self.window = min(self._most, self.window + (1 / self._patience if known else 1))
        if held and passed.at >= self._episode:
            self._good += 1
            if self._good % QUICKEN_AFTER == 0:
                self._gain = min(FIRST_GAIN, 2 * self._gain)
            # Never much more than twice as fast within the time that one answer takes.
            self.rate *= 1 + min(self._gain, 1 / max(1, self.in_flight))
        self.wake()

    def limited(self, passed: Pass, retry_after: float | None) -> None:
        """A call was turned away by a rate limit.

        Args:
            passed: Its pass.
            retry_after: Seconds that the provider asked to wait.
        """
        now = self._clock()
        self.in_flight -= 1
        self._accepted -= 1
        self.breaker.good()  # whoever counts calls is alive
        if passed.at >= self._episode:
            self._episode = now
            self._episodes += 1
            self._cut(now)
        most = self._retry.max_wait_s
        if retry_after is None:
            wait = backoff_s(self._episodes, most, self.dice)
        else:
            wait = min(max(0.0, retry_after), most)
        self._paused = max(self._paused, now + wait)
        self.wake()

    def failed(self, reason: str) -> None:
        """A call got no proper answer: the provider stumbled, or said nothing.

        Args:
            reason: What happened, as a sentence.
        """
        self.in_flight -= 1
        self.breaker.bad(reason)
        self.wake()

    def _cut(self, now: float) -> None:
        if self._gain < LEARNED:
            self._too_wide = float(max(1, self.in_flight))
            self.window = min(self.window, self._too_wide)
            self._patience = min(2 * self._patience, LAST_PATIENCE)
        if self.rate == math.inf:
            self.rate = max(self._accepted, 0.5) / max(now - self._began, 0.001)
        else:
            self.rate *= 1 - max(CUT, min(DEEPEST_CUT, 2 * self._gain))
        slowest = min(SLOWEST_S, max(self._retry.max_wait_s, 0.001))
        self.rate = max(self.rate, 1 / slowest)
        if self._good >= TELLING:
            self._gain = max(LAST_GAIN, self._gain / 2)
        self._good = 0


class Room:
    """Bounds the bytes of pictures on their way from the providers to the disk.

    How large an answer is shows only when it is there, so a call reserves what the largest answer
    of its variant had, and the first ones what :func:`likely_bytes` says.

    Args:
        most: Bytes; a single call may always go.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.used = 0
        self._changes = Changes()

    async def take(self, wanted: int) -> None:
        """Reserve bytes, when there is room for them or nothing else is on its way."""
        while self.used and self.used + wanted > self._most:
            await self._changes.wait()
        self.used += wanted

    def change(self, by: int) -> None:
        """An answer was smaller or larger than reserved, or its bytes are on the disk."""
        self.used += by
        self._changes.tell()


def likely_bytes(cells: Sequence[Cell]) -> int:
    """What the images of a call may have at most, before any was seen: three bytes per pixel."""
    try:
        pixels = parse_size(cells[0].params.size or "").pixels
    except SizeError:
        pixels = None
    return len(cells) * (COMMON_BYTES if pixels is None else 3 * pixels[0] * pixels[1])
