"""``runner report RUN_DIR``: rebuild the page and the contact sheet."""

from __future__ import annotations

from runner.cli.saved import run_folder, saved_places
from runner.record.derive import derive
from runner.report import write_report


def command(argv: list[str]) -> int:
    """Rebuild everything that is derived; the journal stays as it is."""
    paths = run_folder(argv, "report")
    derive(paths, places=saved_places(paths))
    write_report(paths.root)
    print(paths.gallery)
    return 0
