"""How a run ended: what the command line tells, without the engine behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runner.record.manifest import RunStatus
    from runner.record.outcomes import CellOutcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How a run ended.

    Attributes:
        status: ``done``, ``incomplete`` or ``interrupted``.
        planned: Cells of the plan.
        there: How many of them have their image.
        counts: Cells by outcome, earlier processes' included.
        made: Images that this process made.
        reused: Images that this process took from other runs.
        tried: Attempts that this process made.
        cost_usd: What is known to have been paid, earlier processes' included.
        unknown_usd: What calls without an answer may have cost at most.
        elapsed_s: Wall seconds of this process.
        stopped: Sentences about providers that were stopped.
        exhausted: Whether the budget ended the run.
        notes: Sentences about the folder: what was mended in it, what it holds beyond the plan.
        left_alone: Cells by outcome that are tried again only if the user names it.
    """

    status: RunStatus
    planned: int
    there: int
    counts: Mapping[CellOutcome, int]
    made: int
    reused: int
    tried: int
    cost_usd: float
    unknown_usd: float
    elapsed_s: float
    stopped: Sequence[str] = field(default_factory=tuple)
    exhausted: bool = False
    notes: Sequence[str] = ()
    left_alone: Mapping[CellOutcome, int] = field(default_factory=dict)
