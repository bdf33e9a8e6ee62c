"""``runner rerun RUN_DIR``: make a run again from what it saved, and compare cell by cell."""

from __future__ import annotations

import datetime
import json
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from runner.cli.batch import fresh_folder, run_saved
from runner.cli.saved import Saved, read_saved, run_folder, saved_places
from runner.record.atomic import put_durably
from runner.record.facts import package_versions
from runner.record.manifest import read_manifest
from runner.record.paths import RunPaths
from runner.record.rerun import CellVerdict, compare_runs, unusual_recipes
from runner.record.rows import ImageRow
from runner.settings.cell import Json

_GOOD = frozenset({"identical-bytes", "identical-pixels", "near", "not-reproducible-by-contract"})


def command(argv: list[str]) -> int:
    """Make the run again in a new folder; 0 if every cell came out the same or near."""
    paths = run_folder(argv, "rerun", overrides=True)
    overrides = [text for text in argv if "=" in text]
    saved = read_saved(paths, overrides)
    now = datetime.datetime.now()
    root = fresh_folder(Path("outputs") / f"{now:%Y-%m-%d}" / f"{now:%H-%M-%S}")
    root.mkdir(parents=True)
    for name in ("inputs", ".hydra"):
        if (paths.root / name).is_dir():
            shutil.copytree(paths.root / name, root / name)
    shutil.copyfile(paths.plan, root / "plan.json")
    _tell_drift(paths)
    again = replace(saved, paths=RunPaths(root))
    anew = any(text.startswith("device.batch_size=") for text in overrides)
    recipes = {} if anew else _recipes(saved)
    code = run_saved(again, command=("rerun", *argv), recipes=recipes)
    return max(code if code in {2, 3, 130} else 0, _compare(saved, again))


def _recipes(saved: Saved) -> Mapping[int, Mapping[str, Json]]:
    """How the images were made that the run could not make as it was asked to."""
    asked = [provider.settings.device.batch_size for provider in saved.providers]
    return unusual_recipes(saved.paths, asked, saved_places(saved.paths))


def _compare(old: Saved, new: Saved) -> int:
    reproducible = [provider.capabilities().reproducible for provider in old.providers]

    def may_repeat(row: ImageRow) -> bool:
        return reproducible[row.variant]

    counts: Counter[str] = Counter()
    lines = []
    for one in compare_runs(old.paths, new.paths, may_repeat):
        counts[one.verdict] += 1
        lines.append(json.dumps(_line(one)))
        if one.verdict not in _GOOD:
            print(f"{one.verdict}: cell {one.old.index}, {one.old.file_name}")
    put_durably(new.paths.root / "rerun.jsonl", "".join(f"{line}\n" for line in lines).encode())
    summary = ", ".join(f"{count} {name}" for name, count in counts.most_common())
    print(f"rerun of {old.paths.root}: {summary or 'no images to compare'}")
    return 0 if set(counts) <= _GOOD else 1


def _line(one: CellVerdict) -> dict[str, object]:
    return {
        "cell_id": one.old.cell_id,
        "index": one.old.index,
        "verdict": one.verdict,
        "max_diff": one.max_diff,
        "psnr_db": one.psnr_db,
        "old": one.old.file_name,
        "new": None if one.new is None else one.new.file_name,
    }


def _tell_drift(paths: RunPaths) -> None:
    """Say which libraries have other versions than the saved run had."""
    for variant in read_manifest(paths).variants:
        now = package_versions(variant.versions)
        for name, version in variant.versions.items():
            if name in now and now[name] != version:
                print(f"{name} was {version} and is {now[name]}: pixels may differ")
