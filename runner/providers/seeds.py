"""Seeds of the images of one call, for servers that are told one and count up from it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from runner.providers.contract import Answer, Call, Missing, Picture, ProviderError
from runner.settings.cell import Cell


def seed_runs(cells: Sequence[Cell]) -> list[tuple[Cell, ...]]:
    """Cells in groups whose seeds follow each other.

    The images of a point do so anyway; after a resume some in the middle may be missing.
    """
    runs: list[list[Cell]] = []
    for cell in cells:
        seed = cell.image_seed
        if runs and (seed is None or runs[-1][-1].image_seed == seed - 1):
            runs[-1].append(cell)
        else:
            runs.append([cell])
    return [tuple(run) for run in runs]


async def in_runs(
    call: Call,
    ask: Callable[[Call], Awaitable[Answer]],
    classify: Callable[[Exception], ProviderError],
) -> Answer:
    """Make a call as one request per group of following seeds: nearly always one.

    Args:
        call: What is asked.
        ask: Makes the images of one group.
        classify: Names what it raised.

    Returns:
        One answer for all. What was sent is told of the first request; when a later one fails,
        the images before it are kept.
    """
    first, *others = seed_runs(call.cells)
    answers = [await ask(Call(call.call_id, first))]
    for run in others:
        try:
            answers.append(await ask(Call(call.call_id, run)))
        except Exception as error:
            answers.append(Answer(outputs=(_lost(classify(error)),) * len(run)))
    if len(answers) == 1:
        return answers[0]
    costs = [answer.cost_usd for answer in answers if _has_picture(answer)]
    known = [cost for cost in costs if cost is not None]
    return replace(
        answers[0],
        outputs=tuple(output for answer in answers for output in answer.outputs),
        cost_usd=sum(known) if known and len(known) == len(costs) else None,
    )


def _has_picture(answer: Answer) -> bool:
    return any(isinstance(output, Picture) for output in answer.outputs)


def _lost(fault: ProviderError) -> Missing:
    return Missing(
        outcome="refused" if fault.kind == "refused" else "failed",
        kind=fault.kind,
        code=fault.code,
        message=fault.message,
    )
