"""The one retry loop's arithmetic: which faults are worth another try, and after how long."""

from __future__ import annotations

import random
from dataclasses import dataclass

from runner.providers.contract import ProviderError
from runner.settings.schema import RetrySettings

FIRST_WAIT_S = 0.5


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential backoff with full jitter (Brooker, "Exponential Backoff And Jitter", 2015).

    Attributes:
        settings: Bounds on tries and waits.
        resend_safe: Sending the same call twice costs nothing.
    """

    settings: RetrySettings
    resend_safe: bool = False

    def again(self, error: ProviderError, tries: int) -> bool:
        """Whether a call that has been tried so often is worth another try."""
        if tries >= self.settings.max_attempts:
            return False
        if error.kind == "ambiguous":
            return self.resend_safe or self.settings.unknown
        return error.kind in {"rate_limit", "transient"}

    def wait_s(self, error: ProviderError, tries: int, dice: random.Random) -> float:
        """Seconds to wait before the next try; what the provider asked for is obeyed, capped."""
        if error.retry_after is not None:
            return min(max(0.0, error.retry_after), self.settings.max_wait_s)
        ceiling = min(self.settings.max_wait_s, FIRST_WAIT_S * 2 ** (tries - 1))
        return dice.uniform(0, ceiling)
