"""Never overspend: the worst case of a call is set aside before the call is sent."""

from __future__ import annotations

from runner.engine.changes import Changes


class Budget:
    """Money of one run, in US dollars.

    Args:
        limit_usd: Most that may be spent, what earlier attempts cost included; ``None``: no limit.
        spent_usd: What earlier attempts in this folder cost, calls without an answer at their
            worst case.

    Attributes:
        reserved_usd: Worst case of the calls in flight.
        changes: Told whenever money comes back.
    """

    def __init__(self, limit_usd: float | None, spent_usd: float = 0.0) -> None:
        self.limit_usd = limit_usd
        self.spent_usd = spent_usd
        self.reserved_usd = 0.0
        self.changes = Changes()
        self._flying = 0

    @property
    def waits(self) -> bool:
        """Whether a call in flight may still give money back."""
        return self._flying > 0

    def reserve(self, worst_usd: float | None) -> bool:
        """Set the worst case of a call aside; ``False`` if the budget does not hold it.

        An unknown price reserves nothing: a run with a budget starts with one only if the user
        allowed it. What costs nothing always goes.
        """
        worst = worst_usd or 0.0
        bound = self.spent_usd + self.reserved_usd + worst
        if self.limit_usd is not None and worst and bound > self.limit_usd + 1e-9:
            return False
        self.hold(worst)
        return True

    def hold(self, worst_usd: float | None) -> None:
        """Set the worst case of a call aside that has left already."""
        if worst_usd:
            self.reserved_usd += worst_usd
            self._flying += 1

    def take_back(self, worst_usd: float | None) -> None:
        """A call of an earlier process is asked for again: its worst case is open anew."""
        self.spent_usd -= worst_usd or 0.0
        self.hold(worst_usd)

    def settle(self, worst_usd: float | None, cost_usd: float | None) -> None:
        """Give a reservation back and book what the call really cost; unknown books the worst."""
        worst = worst_usd or 0.0
        if worst:
            self._flying -= 1
            # Nothing of many small sums is left over when nothing is in flight.
            self.reserved_usd = self.reserved_usd - worst if self._flying else 0.0
        self.spent_usd += worst if cost_usd is None else cost_usd
        self.changes.tell()
