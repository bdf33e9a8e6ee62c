"""How hard one quota may be pushed: calls in flight, calls per minute, waits that it asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Limiter:
    """The gate before every call of one quota key.

    Args:
        requests_per_minute: Calls that may start in a minute; ``None``: no limit.
        clock: Monotonic seconds; a test gives its own.
    """

    def __init__(
        self, requests_per_minute: float | None, clock: Callable[[], float] | None = None
    ) -> None:
        self._interval = 60 / requests_per_minute if requests_per_minute else 0.0
        self._clock = clock or asyncio.get_running_loop().time
        self._next = self._clock()

    def delay(self) -> float:
        """Take the next slot and return the seconds until it opens."""
        now = self._clock()
        start = max(now, self._next)
        self._next = start + self._interval
        return start - now

    def pause(self, seconds: float) -> None:
        """Let no call start for that long: the provider asked for it."""
        self._next = max(self._next, self._clock() + seconds)
