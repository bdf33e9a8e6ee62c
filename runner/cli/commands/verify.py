"""``runner verify RUN_DIR``: the files of a run against its record."""

from __future__ import annotations

from runner.cli.saved import run_folder, saved_places
from runner.record.verify import verify


def command(argv: list[str]) -> int:
    """Print what differs; 0 if nothing does, 1 otherwise."""
    paths = run_folder(argv, "verify")
    report = verify(paths, places=saved_places(paths))
    for finding in report.findings:
        print(finding)
    verdict = "all as recorded" if report.ok else f"{report.problems} things differ"
    print(f"{report.checked} images checked in {paths.root}: {verdict}")
    return 0 if report.ok else 1
