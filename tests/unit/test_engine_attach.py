"""Jobs of earlier processes: taken up, never sent again; and the budget across processes."""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.engine.job import Job
from runner.engine.marking import Marker
from runner.engine.progress import Quiet
from runner.engine.result import Result
from runner.engine.run import execute
from runner.plan import Plan, PlanSpec, Variant
from runner.providers.contract import Answer, Call, Listener, ProviderError
from runner.record.derive import read_failures, read_rows
from runner.record.manifest import read_manifest
from runner.record.outcomes import CellOutcome
from runner.record.paths import RunPaths
from runner.record.state import load_state
from runner.record.verify import verify
from runner.settings.cell import Json
from runner.settings.schema import OutputSettings
from tests.unit.engine_world import Told, card, settings_of


class Service(Told):
    """An API of jobs. What it knows outlives the processes that use it."""

    def __init__(self, jobs: dict[str, Call], *, cells: int = 4) -> None:
        super().__init__(self._submit, cells=cells)
        self.jobs = jobs
        self.attached: list[Mapping[str, Json]] = []
        self.fault: Exception | None = None
        self.lost = False

    async def _submit(self, call: Call, number: int) -> Answer:
        raise NotImplementedError

    async def generate(self, call: Call, listener: Listener) -> Answer:
        self.calls += 1
        name = f"job-{len(self.jobs)}"
        self.jobs[name] = call
        await listener.note(call, {"job": name})
        if self.fault is not None:
            raise self.fault
        return card(call, 0.5)

    async def attach(self, call: Call, fact: Mapping[str, Json], listener: Listener) -> Answer:
        self.attached.append(fact)
        if self.lost:
            raise ProviderError("ambiguous", "the job cannot be asked", code="HTTP 404")
        submitted = self.jobs[str(fact["job"])]
        assert [cell.cell_id for cell in call.cells] == [cell.cell_id for cell in submitted.cells]
        assert call.call_id == submitted.call_id
        return card(call, 0.5)


def run(
    root: Path,
    provider: Told,
    *,
    include: frozenset[CellOutcome] = frozenset(),
    **limits: Json,
) -> Result:
    chosen = settings_of(provider.cells)
    variant = Variant.from_settings(0, chosen, {"provider": "told"})
    plan = Plan.build(PlanSpec(variants=(variant,)), providers=(provider,), unsupported="drop")
    root.mkdir(exist_ok=True)
    chosen = chosen.model_validate(
        {**chosen.model_dump(), "limits": limits, "retry": {"max_wait_s": 0}}
    )
    job = Job(
        plan=plan,
        providers=(provider,),
        paths=RunPaths(root),
        limits=chosen.limits,
        retry=chosen.retry,
        progress=Quiet(),
        mark=Marker(OutputSettings()),
        command=("test",),
        configs=[{}],
        include=include,
    )
    return asyncio.run(execute(job))


def cut(root: Path, *, kinds: tuple[str, ...] = ("attempt",), images: bool = True) -> None:
    """Leave the folder as a kill would: without some of its last records."""
    for journal in (root / "journal").glob("*.jsonl"):
        lines = journal.read_bytes().splitlines(keepends=True)
        marks = tuple(f'"kind":"{kind}"'.encode() for kind in kinds)
        journal.write_bytes(b"".join(x for x in lines if not any(mark in x for mark in marks)))
    if images:
        for path in (root / "images").rglob("*.png"):
            path.unlink()


def test_jobs_of_a_killed_process_are_taken_up_and_not_sent_again(tmp_path: Path) -> None:
    jobs: dict[str, Call] = {}
    first = Service(jobs)
    assert run(tmp_path / "r", first).status == "done"
    cut(tmp_path / "r")
    second = Service(jobs)
    result = run(tmp_path / "r", second)
    assert second.calls == 0
    assert sorted(str(fact["job"]) for fact in second.attached) == sorted(jobs)
    assert (result.status, result.there, result.cost_usd, result.unknown_usd) == ("done", 4, 2, 0)
    rows = list(read_rows(RunPaths(tmp_path / "r")))
    assert [row.attempts for row in rows] == [1] * 4
    assert verify(RunPaths(tmp_path / "r")).ok
    third = Service(jobs)
    assert run(tmp_path / "r", third).status == "done"
    assert third.attached == []


def test_a_job_that_was_given_up_for_its_deadline_is_taken_up_too(tmp_path: Path) -> None:
    jobs: dict[str, Call] = {}
    late = Service(jobs)
    late.fault = ProviderError("ambiguous", "job is still 'running'", code="job_running")
    given_up = run(tmp_path / "r", late)
    assert (given_up.counts["unknown"], given_up.unknown_usd) == (4, 4.0)
    second = Service(jobs)
    result = run(tmp_path / "r", second)
    assert (second.calls, len(second.attached)) == (0, 4)
    assert (result.status, result.cost_usd, result.unknown_usd) == ("done", 2.0, 0.0)
    manifest = read_manifest(RunPaths(tmp_path / "r"))
    assert (manifest.cost_usd, manifest.cost_by_basis) == (2.0, {"reported": 2.0})
    assert manifest.cost_unknown_worst_usd == 0
    assert list(read_failures(RunPaths(tmp_path / "r"))) == []


def test_a_note_without_a_job_means_that_the_call_is_made_again(tmp_path: Path) -> None:
    jobs: dict[str, Call] = {}
    run(tmp_path / "r", Service(jobs))
    cut(tmp_path / "r", kinds=("attempt", "note"))
    second = Service(jobs)
    result = run(tmp_path / "r", second)
    assert (second.calls, second.attached, result.status) == (4, [], "done")
    assert result.unknown_usd == 4.0, "what was sent and lost may have been billed"


def test_a_job_that_cannot_be_asked_is_paid_again_only_on_request(tmp_path: Path) -> None:
    jobs: dict[str, Call] = {}
    run(tmp_path / "r", Service(jobs, cells=2))
    cut(tmp_path / "r")
    lost = Service(jobs, cells=2)
    lost.lost = True
    result = run(tmp_path / "r", lost)
    assert (lost.calls, result.counts["unknown"], result.unknown_usd) == (0, 2, 2.0)
    result = run(tmp_path / "r", lost, include=frozenset({"unknown"}))
    assert (lost.calls, result.status) == (2, "done")
    assert (result.cost_usd, result.unknown_usd) == (1.0, 2.0)


def test_jobs_are_found_when_the_plan_was_amended(tmp_path: Path) -> None:
    jobs: dict[str, Call] = {}
    run(tmp_path / "r", Service(jobs, cells=2))
    cut(tmp_path / "r")
    wider = Service(jobs, cells=3)
    result = run(tmp_path / "r", wider)
    assert (wider.calls, len(wider.attached), result.status) == (1, 2, "done")
    assert verify(RunPaths(tmp_path / "r")).ok


@settings(deadline=None, max_examples=15)
@given(
    limit=st.floats(0.5, 8),
    keep=st.floats(0, 1),
    tear=st.booleans(),
    dice=st.randoms(use_true_random=False),
)
def test_no_kill_lets_a_budget_be_overstepped(
    limit: float, keep: float, tear: bool, dice: random.Random
) -> None:
    """The journal is cut at any record of the first run: what was sent until then was billed."""
    bills: dict[str, float] = {}

    async def script(call: Call, number: int) -> Answer:
        cost = bills[call.call_id] = dice.uniform(0, 1)
        if dice.random() < 0.3:
            raise TimeoutError
        return card(call, dice.choice([cost, None]))

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "r"
        run(root, Told(script, cells=12), budget_usd=limit)
        journals = list((root / "journal").glob("*.jsonl"))
        sent: set[str] = set()
        for journal in journals:
            lines = journal.read_bytes().splitlines(keepends=True)
            kept = lines[: max(1, round(keep * len(lines)))]
            journal.write_bytes(b"".join(kept) + (b'{"crc":"torn' if tear else b""))
            sent = {name for name in bills if any(f'"{name}"'.encode() in line for line in kept)}
        billed = sum(bills[name] for name in sent)
        before = set(bills)
        again = run(root, Told(script, cells=12), budget_usd=limit)
        billed += sum(cost for name, cost in bills.items() if name not in before)
        assert billed <= limit + 1e-6
        assert again.cost_usd + again.unknown_usd <= limit + 1e-6
        assert load_state(RunPaths(root)).counts["done"] == again.there


@pytest.mark.parametrize("spent", [0.25, 0.0])
def test_the_bar_shows_money_of_all_processes_against_the_budget(spent: float) -> None:
    bar = Quiet()
    bar.start(4, 0)
    bar.money(spent, 2.0)
    assert f"${spent:.4f} of $2.00" in bar.tail()
    bar.money(spent, None)
    assert (f"${spent:.4f}" in bar.tail()) is (spent > 0)
