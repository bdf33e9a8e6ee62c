"""Never overspend: the worst case of a call is set aside before the call is sent."""

from __future__ import annotations


class Budget:
    """Money of one run, in US dollars.

    Args:
        limit_usd: Most that may be spent, what earlier attempts cost included; ``None``: no limit.
        spent_usd: What earlier attempts in this folder cost, calls without an answer at their
            worst case.
    """

    def __init__(self, limit_usd: float | None, spent_usd: float = 0.0) -> None:
        self.limit_usd = limit_usd
        self.spent_usd = spent_usd
        self._reserved_usd = 0.0

    def reserve(self, worst_usd: float | None) -> bool:
        """Set the worst case of a call aside; ``False`` if the budget does not hold it.

        An unknown price reserves nothing: a run with a budget starts with one only if the user
        allowed it.
        """
        worst = worst_usd or 0.0
        if self.limit_usd is not None and (
            self.spent_usd + self._reserved_usd + worst > self.limit_usd + 1e-9
        ):
            return False
        self._reserved_usd += worst
        return True

    def settle(self, worst_usd: float | None, cost_usd: float | None) -> None:
        """Give a reservation back and book what the call really cost; unknown books the worst."""
        worst = worst_usd or 0.0
        self._reserved_usd -= worst
        self.spent_usd += worst if cost_usd is None else cost_usd
