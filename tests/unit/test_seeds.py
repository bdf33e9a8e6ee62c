"""Seeds that a server counts up itself: which cells may share a request."""

from __future__ import annotations

import asyncio

import pytest

from runner.providers.contract import Answer, Call, Missing, Picture, ProviderError
from runner.providers.seeds import in_runs, seed_runs
from runner.settings.cell import Cell, CellParams


def cells(*images: int, seed: int | None = 5) -> tuple[Cell, ...]:
    params = CellParams(seed=seed)
    return tuple(Cell(image, 0, image, params, (), f"{image:064x}") for image in images)


@pytest.mark.parametrize(
    ("images", "runs"),
    [((0, 1, 2), [(0, 1, 2)]), ((1, 3, 4), [(1,), (3, 4)]), ((2,), [(2,)])],
)
def test_runs(images: tuple[int, ...], runs: list[tuple[int, ...]]) -> None:
    found = seed_runs(cells(*images))
    assert [tuple(cell.image_index for cell in run) for run in found] == runs


def test_without_seeds_all_cells_share_a_request() -> None:
    assert len(seed_runs(cells(0, 3, seed=None))) == 1


async def draw(call: Call) -> Answer:
    if call.cells[0].image_index == 7:
        raise ProviderError("refused", "not this one", code="no")
    outputs = tuple(Picture(data=bytes([cell.image_index])) for cell in call.cells)
    sent = {"seed": call.cells[0].image_seed}
    return Answer(
        outputs=outputs, params_sent=sent, cost_usd=0.25 * len(outputs), cost_basis="reported"
    )


def ask(*images: int) -> Answer:
    def classify(error: Exception) -> ProviderError:
        assert isinstance(error, ProviderError)
        return error

    return asyncio.run(in_runs(Call("call", cells(*images)), draw, classify))


def test_one_answer_of_several_requests() -> None:
    answer = ask(0, 1, 4)
    assert [output.data for output in answer.outputs] == [b"\x00", b"\x01", b"\x04"]
    assert (answer.params_sent, answer.cost_usd) == ({"seed": 5}, 0.75)


def test_what_came_before_a_failure_is_kept() -> None:
    answer = ask(0, 7)
    picture, lost = answer.outputs
    assert isinstance(picture, Picture)
    assert lost == Missing(outcome="refused", kind="refused", code="no", message="not this one")
    assert answer.cost_usd == 0.25


def test_a_failure_of_the_first_request_is_the_calls() -> None:
    with pytest.raises(ProviderError):
        ask(7, 9)
