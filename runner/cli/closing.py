"""The last words of a run: what there is, what is missing and why, and how to go on."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping

from runner.engine.result import Result
from runner.record.outcomes import CellOutcome
from runner.record.paths import RunPaths
from runner.settings.errors import PrerequisiteError

_LEFT_ALONE: Mapping[CellOutcome, str] = {
    "refused": "a safety system said no",
    "failed": "the same request fails again",
}


def counted(number: int, noun: str) -> str:
    """``1 image``, ``2 images``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def tell(result: Result, paths: RunPaths) -> None:
    """The closing lines: what there is, what is missing and why, where to look."""
    money = f" · ${result.cost_usd:,.4f}" if result.cost_usd else ""
    if result.unknown_usd:
        money += f" · up to ${result.unknown_usd:,.4f} more for calls without an answer"
    made = f"{counted(result.made, 'image')} made"
    if result.reused:
        made += f", {result.reused:,} reused from earlier runs"
    print(f"{made}, {result.there:,} of {result.planned:,} there · {result.elapsed_s:.1f} s{money}")
    for note in result.notes:
        print(f"note: {note}")
    if result.status != "done":
        from runner.record.derive import read_failures

        causes = Counter((row.outcome, row.kind, row.message) for row in read_failures(paths))
        for (outcome, kind, message), count in causes.most_common(5):
            print(f"{count:,} {outcome} ({kind}){': ' + message if message else ''}")
    for reason in result.stopped:
        print(f"stopped: {reason}")
    if result.exhausted:
        print("the budget is used up: raise it with limits.budget_usd=… and resume")
    print(f"look at {paths.gallery}")
    for left, number in result.left_alone.items():
        if number:
            print(
                f"left alone, because {_LEFT_ALONE[left]}: {counted(number, 'image')}; "
                f"all the same: {_resume(paths)} --include {left}"
            )
    if result.there + sum(result.left_alone.values()) < result.planned:
        print(go_on(paths))


def go_on(paths: RunPaths) -> str:
    """The command that goes on with a run, as a line."""
    return f"go on with: {_resume(paths)}"


def _resume(paths: RunPaths) -> str:
    return f"python -m runner resume {shlex.quote(str(paths.root))}"


def disk_fault(error: OSError | ExceptionGroup, paths: RunPaths) -> PrerequisiteError:
    """What a failing disk means for a run: nothing that was journalled is lost.

    Raises:
        ExceptionGroup: It is no fault of a disk.
    """
    fault: BaseException = error
    if isinstance(error, ExceptionGroup):
        if error.split(OSError)[1] is not None:
            raise error
        while isinstance(fault, BaseExceptionGroup):
            fault = fault.exceptions[0]
    return PrerequisiteError(
        f"the run folder cannot be written ({fault}); what was made before is safe: make room or "
        f"access there, then {go_on(paths)}"
    )


def exit_code(result: Result) -> int:
    """What a run says to a shell."""
    if result.status == "done":
        return 0
    if result.status == "interrupted":
        return 130
    if result.exhausted or (result.stopped and not result.there):
        return 3
    return 1
