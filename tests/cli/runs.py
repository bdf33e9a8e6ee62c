"""Reading a run folder in tests."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from runner.record.derive import AS_TEXT


def only_run(root: Path) -> Path:
    """The one run folder under ``outputs/``."""
    (run,) = [path.parent for path in root.glob("outputs/*/*/manifest.json")]
    return run


def manifest(run: Path) -> dict[str, Any]:
    return dict(json.loads((run / "manifest.json").read_text()))


def rows(run: Path) -> list[dict[str, Any]]:
    return [_row(line) for line in (run / "images/metadata.jsonl").read_text().splitlines()]


def _row(line: str) -> dict[str, Any]:
    row = json.loads(line)
    return {**row, **{key: json.loads(row[key]) for key in AS_TEXT & row.keys()}}


def failures(run: Path) -> list[dict[str, Any]]:
    return [_row(line) for line in (run / "failures.jsonl").read_text().splitlines()]


def image_files(run: Path) -> list[Path]:
    return sorted(path for path in (run / "images").rglob("*") if path.suffix in {".png", ".webp"})


def pixels(run: Path) -> dict[str, str]:
    """Cell id to hash of the file on disk, checked against its row."""
    found = {}
    for row in rows(run):
        data = (run / "images" / row["file_name"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == row["sha256"], row["file_name"]
        found[row["cell_id"]] = row["sha256"]
    return found


def attempts(run: Path) -> list[dict[str, Any]]:
    """Every attempt record of every journal file."""
    records = []
    for file in sorted((run / "journal").glob("*.jsonl")):
        records += [json.loads(line) for line in file.read_text().splitlines()]
    return [record for record in records if record["kind"] == "attempt"]
