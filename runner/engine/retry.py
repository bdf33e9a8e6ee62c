"""The one retry loop's arithmetic: which faults are worth another try, and after how long."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from runner.providers.contract import ProviderError
from runner.settings.schema import RetrySettings

FIRST_WAIT_S = 0.5


def backoff_s(tries: int, most_s: float, dice: random.Random) -> float:
    """Exponential backoff with full jitter (Brooker, "Exponential Backoff And Jitter", 2015)."""
    return dice.uniform(0, min(most_s, FIRST_WAIT_S * 2.0 ** min(tries - 1, 30)))


@dataclass(slots=True)
class Tries:
    """The tries of one call so far.

    Attributes:
        began: When the first one left; seconds of the engine's clock.
        sent: How often the call left.
        stumbled: Tries that failed on the way: ``max_attempts`` bounds them. One that a rate limit
            turned away costs nothing and is bounded by time alone.
    """

    began: float = 0.0
    sent: int = 0
    stumbled: int = 0


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Bounds of the retry loop.

    Attributes:
        settings: Bounds on tries, waits and time.
        resend_safe: Sending the same call twice costs nothing.
        dice: For jitter.
    """

    settings: RetrySettings
    resend_safe: bool = False
    dice: random.Random = field(default_factory=random.Random)

    def wait_s(self, error: ProviderError, tries: Tries, now: float) -> float | None:
        """Seconds until a call is tried again; ``None``: it is given up.

        What the provider asks for is obeyed, up to ``max_wait_s``. A rate limit holds its whole
        quota up (:class:`~runner.engine.limits.Limiter`), so the call itself waits no further.
        """
        settings = self.settings
        if error.kind == "rate_limit":
            wait = 0.0
        elif error.kind == "transient" or (
            error.kind == "ambiguous" and (self.resend_safe or settings.unknown)
        ):
            if tries.stumbled >= settings.max_attempts:
                return None
            wait = backoff_s(tries.stumbled, settings.max_wait_s, self.dice)
            if error.retry_after is not None:
                wait = min(max(0.0, error.retry_after), settings.max_wait_s)
        else:
            return None
        return wait if now + wait - tries.began < settings.max_total_s else None
