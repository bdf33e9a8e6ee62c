"""How long a plan of a million cells takes to its first call, and how much memory.

    python benchmarks/plan.py

Every figure is taken in a process of its own, which has imported the plan and built a small one
before its clock starts. Memory is the growth of the peak resident set.
"""

from __future__ import annotations

import argparse
import csv
import gc
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

from runner.plan import Plan, PlanSpec, PromptFile, Variant
from runner.plan.grammar import axes_from
from runner.providers.contract import Answer, Call, Capabilities, Listener, Param, Price, Provider
from runner.settings.cell import CELL_KEYS, CellParams
from runner.settings.schema import Settings

MILLION = 1_000_000


class Local(Provider):
    """Answers like a local model: batches of 16 that may differ in prompt and seed."""

    name = "bench"

    def capabilities(self) -> Capabilities:
        """Everything is taken; only prompt and seed may differ in a batch."""
        return Capabilities(
            params={key: Param(native=key, minimum=0) for key in CELL_KEYS},
            max_images_per_call=16,
            shared_call_keys=frozenset({"prompt", "negative_prompt", "seed"}),
        )

    def estimate(self, params: CellParams) -> Price:
        """Some price."""
        return Price(0.04, 0.08, "price_book")

    async def generate(self, call: Call, listener: Listener) -> Answer:
        """Nobody asks: a plan sends nothing."""
        raise AssertionError("a plan has sent a call")


def make(axes: dict[str, object], prompts: str | None = None, **more: object) -> tuple[Plan, Local]:
    settings = Settings.model_validate({"provider": {"name": "bench"}, "model": {"name": "m"}})
    variant = Variant.from_settings(0, settings)
    provider = Local(variant.settings)
    file = PromptFile.open(prompts) if prompts else None
    spec = PlanSpec(variants=[variant], axes=axes_from(axes), prompts=file, **more)  # type: ignore[arg-type]
    return Plan.build(spec, providers=[provider]), provider


GRID: dict[str, object] = {
    "prompt": [f"a red fox number {i}, in deep snow" for i in range(100)],
    "seed": "range(0,10000)",
}


def first_call(axes: dict[str, object], prompts: str | None = None) -> str:
    plan, provider = make(axes, prompts)
    group = next(plan.calls([provider], lambda index: True))
    return f"first call of {len(group)} cells out of {plan.count():,}"


def grid_first_call() -> str:
    return first_call(GRID)


def txt_first_call() -> str:
    return first_call({}, sys.argv[3])


def csv_first_call() -> str:
    return first_call({}, sys.argv[3])


def jsonl_first_call() -> str:
    return first_call({}, sys.argv[3])


def every_cell() -> str:
    plan, _ = make(GRID)
    for cell in plan.cells():
        last = cell.cell_id
    return f"cells with ids, last {last[:8]}"


def random_access() -> str:
    plan, _ = make(GRID)
    for index in range(0, MILLION, 10):
        last = plan[(index * 7919) % MILLION]
    return f"100,000 cells by index, last {last.cell_id[:8]}"


def every_call() -> str:
    plan, provider = make(GRID)
    count = sum(1 for _ in plan.calls([provider], lambda index: True))
    return f"{count:,} calls of 16 cells"


def resume() -> str:
    done = bytearray(b"\1") * (MILLION - 1) + b"\0"
    plan, provider = make(GRID)
    group = next(plan.calls([provider], lambda index: not done[index]))
    return f"999,999 finished cells skipped, call of {len(group)}"


def count_with_rules() -> str:
    rules = [
        {"seed": list(range(0, 10_000, 3)), "prompt": GRID["prompt"][0]},  # type: ignore[index]
        {"seed": [7, 70_000]},
        {"prompt": GRID["prompt"][5:50]},  # type: ignore[index]
    ]
    plan, provider = make(GRID, exclude=rules)
    summary = plan.summary([provider])
    return f"{plan.count():,} cells, {summary.calls:,} calls, ${summary.price.low_usd:,.0f}"


def save_and_load() -> str:
    plan, _ = make(GRID)
    text = json.dumps(plan.to_json())
    again = Plan.from_json(json.loads(text))
    return f"plan.json of {len(text):,} bytes, same cell: {again[999_999] == plan[999_999]}"


MEASURED: dict[str, Callable[[], str]] = {
    "100 prompts x 10,000 seeds: spec to first call": grid_first_call,
    "1,000,000 lines .txt: file to first call": txt_first_call,
    "1,000,000 records .csv with seeds: file to first call": csv_first_call,
    "1,000,000 objects .jsonl with seeds: file to first call": jsonl_first_call,
    "resume, one cell of 1,000,000 missing": resume,
    "count, calls and price of 1,000,000 cells, 3 rules": count_with_rules,
    "plan.json there and back": save_and_load,
    "1,000,000 cells in order": every_cell,
    "1,000,000 cells as calls": every_call,
    "random access": random_access,
}


def peak_mb() -> float:
    """Peak resident set of this process; the one of getrusage starts at the parent's."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def child(name: str) -> None:
    gc.disable()  # as in `python -m runner` until the run begins
    for _ in islice(make({"seed": "range(0,9)"})[0].cells(), 3):
        pass
    before, start, cpu = peak_mb(), time.perf_counter(), time.process_time()
    what = MEASURED[name]()
    wall, used = time.perf_counter() - start, time.process_time() - cpu
    print(f"{name:56} {wall:7.2f} s {used:7.2f} s CPU {peak_mb() - before:+7.1f} MB   {what}")


def write_files(folder: Path) -> dict[str, Path]:
    texts = [f"a red fox number {i} in the deep snow, 35mm photograph" for i in range(MILLION)]
    files = {name: folder / f"prompts.{name}" for name in ("txt", "csv", "jsonl")}
    files["txt"].write_text("\n".join(texts))
    with files["csv"].open("w", newline="") as file:
        csv.writer(file).writerows([["prompt", "seed"], *([t, i] for i, t in enumerate(texts))])
    with files["jsonl"].open("w") as file:
        file.writelines(json.dumps({"prompt": t, "seed": i}) + "\n" for i, t in enumerate(texts))
    return files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default="", help="measure names that hold this text")
    only = parser.parse_args().only
    with tempfile.TemporaryDirectory() as folder:
        files = write_files(Path(folder))
        for name in MEASURED:
            if only in name:
                file = next((str(path) for kind, path in files.items() if f".{kind}" in name), "")
                subprocess.run([sys.executable, __file__, "--child", name, file], check=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2])
    else:
        main()
