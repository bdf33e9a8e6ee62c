"""A provider that is down is left alone: pause, probe with one call, and at last give up."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

from runner.settings.schema import RetrySettings

FIRST_PAUSE_S = 5.0


class Breaker:
    """The circuit breaker of one quota.

    Closed, it lets everything pass. ``breaker_failures`` calls in a row without a proper answer
    open it: nothing starts for a while, then one call goes as a probe. A probe that is answered
    closes it; one that fails doubles the pause, and after ``breaker_probes`` of them the provider
    is given up.

    Args:
        settings: The bounds.
        clock: Monotonic seconds.
        dice: For jitter.

    Attributes:
        given_up: Why the provider was given up, as a sentence.
    """

    def __init__(
        self, settings: RetrySettings, clock: Callable[[], float], dice: random.Random
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._dice = dice
        self.given_up: str | None = None
        self._failures = 0
        self._probes = 0
        self._open_until: float | None = None
        self._probing = False

    def delay(self) -> float:
        """Seconds until a call may start; infinite while a probe is out."""
        if self._open_until is None:
            return 0.0
        if self._probing:
            return math.inf
        return max(0.0, self._open_until - self._clock())

    def started(self) -> None:
        """A call starts; while open it is the probe."""
        self._probing = self._open_until is not None

    def withdrawn(self) -> None:
        """A call was not sent after all, or is given up: if it was the probe, another one goes."""
        self._probing = False

    def good(self) -> None:
        """The provider answered."""
        self._failures = self._probes = 0
        self._open_until = None
        self._probing = False

    def bad(self, reason: str) -> None:
        """A call got no proper answer."""
        self._failures += 1
        if self._open_until is not None:
            if not self._probing:
                return  # it left before the pause began and says nothing new
            self._probes += 1
        elif self._failures < self._settings.breaker_failures:
            return
        self._probing = False
        if self._probes >= self._settings.breaker_probes:
            self.given_up = (
                f"{self._failures} calls in a row got no answer, {self._probes} of them after "
                f"pauses ({reason}); given up for now"
            )
        pause = min(self._settings.max_wait_s, FIRST_PAUSE_S * 2.0**self._probes)
        self._open_until = self._clock() + pause * self._dice.uniform(0.5, 1.0)
