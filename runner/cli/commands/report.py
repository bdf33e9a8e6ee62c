"""``runner report RUN_DIR…``: rebuild what is derived, or show several runs side by side."""

from __future__ import annotations

from pathlib import Path

from runner.cli.saved import run_folder, saved_places, split_options
from runner.record.derive import derive
from runner.report import write_report
from runner.report.cuts import SHEET_FORMATS, write_animation, write_sheet_as, write_strips
from runner.report.join import join
from runner.settings.errors import RequestError, listed

_OPTIONS = ("--out", "--sheet", "--strips", "--animate", "--gif")


def command(argv: list[str]) -> int:
    """Rebuild everything that is derived; the journals stay as they are.

    Several folders are joined into ``--out FOLDER``, a page where their cells stand side by side.
    ``--sheet pdf|webp`` writes the contact sheet in that format too, ``--strips AXIS`` one sheet
    per value, ``--animate AXIS`` (or ``--gif AXIS``) one whose frames are the values.
    """
    names, options = split_options(argv, _OPTIONS)
    sheet = next((form for form in SHEET_FORMATS if form == options.get("--sheet", "png")), None)
    if sheet is None:
        raise RequestError(f"--sheet {options['--sheet']}: choose from {listed(SHEET_FORMATS)}")
    runs = [run_folder([name], "report") for name in names or [""]]
    for paths in runs:
        derive(paths, places=saved_places(paths))
    root = runs[0].root
    if len(runs) > 1 or "--out" in options:
        names = [Path(name).resolve().name for name in names]
        root = Path(options.get("--out") or Path("outputs", "comparisons", "+".join(names)))
        join([paths.root for paths in runs], root)
    write_report(root)
    written = [root / "index.html"]
    if "--sheet" in options:
        written += write_sheet_as(root, sheet)
    if "--strips" in options:
        written += write_strips(root, options["--strips"])
    if "--animate" in options:
        written.append(write_animation(root, options["--animate"]))
    if "--gif" in options:
        written.append(write_animation(root, options["--gif"], "gif"))
    for path in written:
        print(path)
    return 0
