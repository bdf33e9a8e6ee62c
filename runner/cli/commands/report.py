"""``runner report RUN_DIR…``: rebuild what is derived, or show several runs side by side."""

from __future__ import annotations

from pathlib import Path

from runner.cli.saved import run_folder, saved_places, split_options
from runner.record.derive import derive
from runner.report import write_report
from runner.report.join import join


def command(argv: list[str]) -> int:
    """Rebuild everything that is derived; the journals stay as they are.

    Several folders are joined into ``--out FOLDER``, a page where their cells stand side by side.
    """
    names, options = split_options(argv, ("--out",))
    runs = [run_folder([name], "report") for name in names or [""]]
    for paths in runs:
        derive(paths, places=saved_places(paths))
    root = runs[0].root
    if len(runs) > 1 or "--out" in options:
        names = [Path(name).resolve().name for name in names]
        root = Path(options.get("--out") or Path("outputs", "comparisons", "+".join(names)))
        join([paths.root for paths in runs], root)
    write_report(root)
    print(root / "index.html")
    return 0
