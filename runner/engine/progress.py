"""What a person sees while a run goes on: one bar in a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections import Counter
from typing import Protocol, TextIO

from runner.providers.contract import Call


class Progress(Protocol):
    """Told of every event of a run; also hears the providers."""

    def start(self, total: int, done_before: int) -> None:
        """A run of ``total`` cells begins, of which some were done by an earlier process."""

    def images(self, count: int) -> None:
        """That many cells have their image."""

    def money(self, spent_usd: float, limit_usd: float | None) -> None:
        """What the run has cost so far, earlier processes included, and what it may cost."""

    def failures(self, count: int, kind: str) -> None:
        """That many cells ended without an image."""

    def note(self, text: str) -> None:
        """One line that the user should read now."""

    def step(self, call: Call, done: int, total: int) -> None:
        """How far a call in flight is."""

    def stop(self) -> None:
        """The run is over."""


class Quiet:
    """Counts, and prints only notes. Base of the other two."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stderr
        self.total = self.done = 0
        self.cost_usd = 0.0
        self.limit_usd: float | None = None
        self.kinds: Counter[str] = Counter()
        self.started = time.monotonic()
        self._before = 0

    def start(self, total: int, done_before: int) -> None:
        """See :class:`Progress`."""
        self.total, self.done, self._before = total, done_before, done_before
        self.started = time.monotonic()

    def images(self, count: int) -> None:
        """See :class:`Progress`."""
        self.done += count
        self.refresh()

    def money(self, spent_usd: float, limit_usd: float | None) -> None:
        """See :class:`Progress`."""
        self.cost_usd, self.limit_usd = spent_usd, limit_usd

    def failures(self, count: int, kind: str) -> None:
        """See :class:`Progress`."""
        self.kinds[kind] += count
        self.refresh()

    def note(self, text: str) -> None:
        """See :class:`Progress`."""
        print(text, file=self.stream, flush=True)

    def step(self, call: Call, done: int, total: int) -> None:
        """See :class:`Progress`."""

    def stop(self) -> None:
        """See :class:`Progress`."""

    def refresh(self) -> None:
        """Called after every change of the counts."""

    @property
    def ended(self) -> int:
        """Cells that have an image or never will in this run."""
        return self.done + self.kinds.total()

    def rate(self) -> float:
        """Images per second of this process."""
        elapsed = time.monotonic() - self.started
        return (self.done - self._before) / elapsed if elapsed > 0 else 0.0

    def tail(self) -> str:
        """Rate, cost and failures by kind, as one short text."""
        parts = [f"{self.rate():.1f} images/s" if self.rate() >= 1 else _pace(self.rate())]
        if self.limit_usd is not None:
            parts.append(f"${self.cost_usd:.4f} of ${self.limit_usd:.2f}")
        elif self.cost_usd:
            parts.append(f"${self.cost_usd:.4f}")
        parts += [f"{count} {kind}" for kind, count in self.kinds.most_common()]
        return " · ".join(part for part in parts if part)


class Lines(Quiet):
    """A plain line at most every few seconds: for logs and pipes."""

    interval_s = 5.0

    def __init__(self, stream: TextIO | None = None) -> None:
        super().__init__(stream)
        self._last = 0.0

    def refresh(self) -> None:
        """Print a line if the last one is old enough, or the run is complete."""
        now = time.monotonic()
        if now - self._last >= self.interval_s or self.ended == self.total:
            self._last = now
            self.note(f"{self.done}/{self.total} images · {self.tail()}")


class Bar(Quiet):
    """One progress bar for the whole run, drawn by rich."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        super().__init__()
        self._steps: dict[str, float] = {}
        self._rich = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[tail]}"),
            console=Console(stderr=True),
        )
        self._task = self._rich.add_task("images", total=None, tail="")

    def start(self, total: int, done_before: int) -> None:
        """See :class:`Progress`."""
        super().start(total, done_before)
        self._rich.start()
        self.refresh()

    def step(self, call: Call, done: int, total: int) -> None:
        """Let the bar creep while a call computes."""
        self._steps[call.call_id] = len(call.cells) * min(1.0, done / max(1, total))
        if done >= total:
            self._steps.pop(call.call_id, None)
        self.refresh()

    def note(self, text: str) -> None:
        """See :class:`Progress`."""
        self._rich.console.print(text, markup=False, highlight=False)

    def stop(self) -> None:
        """See :class:`Progress`."""
        self._steps.clear()
        self.refresh()
        self._rich.stop()

    def refresh(self) -> None:
        """Redraw."""
        self._rich.update(
            self._task,
            total=self.total,
            completed=min(self.total, self.ended + sum(self._steps.values())),
            tail=self.tail(),
        )


def choose(quiet: bool) -> Quiet:
    """The bar in a terminal, lines elsewhere, nothing but notes when quiet."""
    if quiet:
        return Quiet()
    return Bar() if sys.stderr.isatty() else Lines()


def _pace(rate: float) -> str:
    return f"{1 / rate:.1f} s/image" if rate > 0 else ""
