"""``runner export RUN_DIR --to FORMAT [--out TARGET]``: a run as a data set for others."""

from __future__ import annotations

from runner.cli.saved import run_folder, saved_places, split_options
from runner.record.derive import derive
from runner.report.export import FORMATS, default_target, export
from runner.settings.errors import RequestError, did_you_mean, listed


def command(argv: list[str]) -> int:
    """Write the format and say where.

    ``--out`` names the folder to make, or the tracking URI for MLflow.
    """
    names, options = split_options(argv, ("--to", "--out"))
    paths = run_folder(names, "export", usage="RUN_DIR --to FORMAT [--out TARGET]")
    name = options.get("--to")
    if name not in FORMATS:
        near = did_you_mean(name, FORMATS) if name else ""
        what = f"--to {name}: no such format{near}" if name else "--to FORMAT is missing"
        raise RequestError(f"{what}; formats: {listed(list(FORMATS))}")
    target = options.get("--out") or default_target(paths.root, name)
    derive(paths, places=saved_places(paths))
    count = export(paths.root, name, target)
    print(f"{count:,} images as {name}: {FORMATS[name].what}")
    print(target)
    return 0
