"""A whole run in this process, with providers that misbehave on cue."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from runner.engine.job import Job
from runner.engine.marking import Marker
from runner.engine.progress import Quiet
from runner.engine.result import Result
from runner.engine.run import execute
from runner.plan import Plan, PlanSpec, Variant
from runner.providers.contract import (
    Answer,
    Call,
    Capabilities,
    Listener,
    Missing,
    Param,
    Picture,
    Price,
    Provider,
    ProviderError,
)
from runner.providers.fake import draw_card
from runner.record.derive import read_failures, read_rows
from runner.record.manifest import read_manifest
from runner.record.outcomes import CellOutcome
from runner.record.paths import RunPaths
from runner.record.verify import verify
from runner.settings.cell import CellParams, Json
from runner.settings.errors import PrerequisiteError
from runner.settings.load import read_settings
from runner.settings.schema import OutputSettings

Script = Callable[[Call, int], Answer]


class Scripted(Provider):
    """Answers each call with what a function says; counts calls."""

    name = "scripted"

    def __init__(self, script: Script, *, quota: str = "scripted", ready: bool = True) -> None:
        super().__init__(SETTINGS.variant())
        self.script = script
        self.calls = 0
        self.open_calls = 0
        self.closed = 0
        self._quota = quota
        self._ready = ready

    def capabilities(self) -> Capabilities:
        params = {"prompt": Param(native="prompt"), "seed": Param(native="seed")}
        return Capabilities(
            params={**params, "size": Param(native="size")},
            max_images_per_call=2,
            reproducible=True,
        )

    def quota_key(self) -> str:
        return self._quota

    def estimate(self, params: CellParams) -> Price:
        return Price(0.5, 1.0, "estimate")

    async def open(self) -> None:
        self.open_calls += 1
        if not self._ready:
            raise PrerequisiteError("no server here; start one")

    async def generate(self, call: Call, listener: Listener) -> Answer:
        self.calls += 1
        await listener.note(call, {"job": self.calls})
        listener.progress(call, 1, 1)
        return self.script(call, self.calls)

    async def close(self) -> None:
        self.closed += 1


SETTINGS = read_settings(
    {"provider": {"name": "scripted"}, "model": {"name": "m"}, "n": 4, "prompt": "a", "seed": 1}
)


def card(call: Call, **more: object) -> Answer:
    pictures = tuple(
        Picture(data=draw_card(cell, cell.image_seed), seed_sent=cell.image_seed)
        for cell in call.cells
    )
    return Answer(outputs=pictures, cost_usd=0.5 * len(pictures), cost_basis="reported")


def run(
    root: Path, *providers: Scripted, include: frozenset[CellOutcome] = frozenset(), **limits: Json
) -> Result:
    variants = tuple(
        Variant.from_settings(index, SETTINGS, {"provider": provider.quota_key()})
        for index, provider in enumerate(providers)
    )
    plan = Plan.build(PlanSpec(variants=variants), providers=providers)
    root.mkdir(exist_ok=True)
    data: Mapping[str, Json] = {"limits": limits, "retry": {"max_attempts": 3, "max_wait_s": 0}}
    settings = SETTINGS.model_validate({**SETTINGS.model_dump(), **data})
    job = Job(
        mark=Marker(OutputSettings()),
        plan=plan,
        providers=providers,
        paths=RunPaths(root),
        limits=settings.limits,
        retry=settings.retry,
        progress=Quiet(),
        command=("test",),
        configs=[{} for _ in providers],
        include=include,
    )
    return asyncio.run(execute(job))


def test_everything_is_made_written_and_closed(tmp_path: Path) -> None:
    provider = Scripted(lambda call, _: card(call))
    result = run(tmp_path / "r", provider)
    assert (result.status, result.made, result.there, result.planned) == ("done", 4, 4, 4)
    assert (provider.calls, provider.open_calls, provider.closed) == (2, 1, 1)
    paths = RunPaths(tmp_path / "r")
    assert [row.cost_usd for row in read_rows(paths)] == [0.5] * 4
    assert read_manifest(paths).cost_usd == 2
    assert verify(paths).ok


def test_auth_stops_that_provider_at_once_and_others_go_on(tmp_path: Path) -> None:
    def locked_out(call: Call, _: int) -> Answer:
        raise ProviderError("auth", "the key is not valid", code="401")

    bad = Scripted(locked_out, quota="bad")
    good = Scripted(lambda call, _: card(call), quota="good")
    result = run(tmp_path / "r", bad, good, max_concurrency=1)
    assert bad.calls == 1
    assert result.stopped == ("the key is not valid",)
    assert result.there == 4
    assert {row.variant for row in read_rows(RunPaths(tmp_path / "r"))} == {1}


def test_a_provider_that_cannot_open_is_told_and_closed(tmp_path: Path) -> None:
    provider = Scripted(lambda call, _: card(call), ready=False)
    result = run(tmp_path / "r", provider)
    assert result.stopped == ("no server here; start one",)
    assert (provider.calls, provider.closed) == (0, 1)


def test_no_answer_is_unknown_at_worst_price_and_not_resent(tmp_path: Path) -> None:
    def silent(call: Call, number: int) -> Answer:
        if number == 1:
            raise TimeoutError
        return card(call)

    provider = Scripted(silent)
    result = run(tmp_path / "r", provider, max_concurrency=1)
    assert provider.calls == 2
    assert result.counts["unknown"] == 2
    assert result.unknown_usd == 2
    assert {row.outcome for row in read_failures(RunPaths(tmp_path / "r"))} == {"unknown"}
    again = Scripted(lambda call, _: card(call))
    assert run(tmp_path / "r", again).status == "done"
    assert again.calls == 1


def test_the_budget_counts_what_earlier_processes_spent(tmp_path: Path) -> None:
    first = run(tmp_path / "r", Scripted(lambda call, _: card(call)), budget_usd=2.9)
    assert first.exhausted
    spent = first.cost_usd
    second = run(tmp_path / "r", Scripted(lambda call, _: card(call)), budget_usd=2.9)
    assert second.cost_usd <= 2.9
    assert second.cost_usd >= spent


def test_fewer_images_than_asked_is_partial_never_done(tmp_path: Path) -> None:
    def one_short(call: Call, _: int) -> Answer:
        return Answer(outputs=card(call).outputs[:1], cost_usd=0.5, cost_basis="reported")

    result = run(tmp_path / "r", Scripted(one_short))
    assert result.counts == {"done": 2, "refused": 0, "failed": 2, "unknown": 0}
    assert {row.kind for row in read_failures(RunPaths(tmp_path / "r"))} == {"no_image"}


@pytest.mark.parametrize("data", [b"", b"<html>sorry</html>", b"\x89PNG\r\n\x1a\n", b"{}"])
def test_bytes_that_are_no_image_are_never_done(tmp_path: Path, data: bytes) -> None:
    def liar(call: Call, _: int) -> Answer:
        return Answer(outputs=tuple(Picture(data=data) for _ in call.cells))

    result = run(tmp_path / "r", Scripted(liar))
    assert result.there == 0
    assert {row.kind for row in read_failures(RunPaths(tmp_path / "r"))} == {"bad_image"}
    assert not list((tmp_path / "r/images").rglob("*.png"))


def test_refusals_are_left_alone_unless_included(tmp_path: Path) -> None:
    def refuse(call: Call, _: int) -> Answer:
        no = Missing(outcome="refused", kind="content_filter", message="no")
        return Answer(outputs=(no,) * len(call.cells))

    assert run(tmp_path / "r", Scripted(refuse)).counts["refused"] == 4
    left_alone = Scripted(lambda call, _: card(call))
    assert run(tmp_path / "r", left_alone).there == 0
    assert left_alone.calls == 0
    assert run(tmp_path / "r", left_alone, include=frozenset({"refused"})).status == "done"


def test_partial_images_are_kept_outside_the_data_set(tmp_path: Path) -> None:
    def streamed(call: Call, _: int) -> Answer:
        answer = card(call)
        (first, *rest) = answer.outputs
        assert isinstance(first, Picture)
        kept = Picture(data=first.data, extras={"partial-0.png": first.data[:50]})
        return Answer(outputs=(kept, *rest))

    run(tmp_path / "r", Scripted(streamed))
    paths = RunPaths(tmp_path / "r")
    names = sorted(path.name for path in (tmp_path / "r/extras").iterdir())
    rows = list(read_rows(paths))
    assert names == [f"{Path(rows[i].file_name).stem}-partial-0.png" for i in (0, 2)]
    assert verify(paths).ok


def test_a_provider_that_breaks_fails_its_cells_and_nothing_else(tmp_path: Path) -> None:
    def broken(call: Call, _: int) -> Answer:
        raise KeyError("data")

    result = run(
        tmp_path / "r", Scripted(broken, quota="a"), Scripted(lambda c, _: card(c), quota="b")
    )
    assert result.there == 4
    assert result.counts["failed"] == 4


def test_an_image_on_disk_without_its_record_is_adopted_not_paid_again(tmp_path: Path) -> None:
    run(tmp_path / "r", Scripted(lambda call, _: card(call)))
    (journal,) = (tmp_path / "r/journal").glob("*.jsonl")
    lines = journal.read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if json.loads(line)["kind"] != "attempt"]
    journal.write_bytes(b"".join(line for line in kept if b'"close"' not in line))
    provider = Scripted(lambda call, _: card(call))
    result = run(tmp_path / "r", provider)
    assert provider.calls == 0
    assert result.there == 4
    rows = list(read_rows(RunPaths(tmp_path / "r")))
    assert all("found on disk" in row.warnings[0] for row in rows)
    assert verify(RunPaths(tmp_path / "r")).ok


def test_what_is_left_alone_is_counted_in_the_plan_that_is(tmp_path: Path) -> None:
    def says(call: Call, _: int) -> Answer:
        wrong = Missing(outcome="failed", kind="invalid", message="no such size")
        no = Missing(outcome="refused", kind="content_filter", message="no")
        return Answer(outputs=(wrong, no))

    first = Scripted(says)
    assert run(tmp_path / "r", first).left_alone == {"refused": 2, "failed": 2}
    # The same cells stand in another plan twice.
    amended = run(tmp_path / "r", first, Scripted(says, quota="another"))
    assert first.calls == 2
    assert amended.left_alone == {"refused": 4, "failed": 4}
