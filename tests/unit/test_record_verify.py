"""Every way in which a run folder can differ from its record is found and named."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from runner.record.derive import derive
from runner.record.facts import code_facts, machine_facts
from runner.record.manifest import Counts, Manifest, write_manifest
from runner.record.paths import RunPaths, image_name
from runner.record.verify import Finding, verify
from runner.settings.errors import RequestError
from tests.unit.records import NOW, PLAN, cell_id, done, failed, picture, sent, write_run


def finished_run(root: Path) -> RunPaths:
    paths = write_run(root, [done(1), failed(2, "refused"), done(1001), done(3)])
    state = derive(paths)
    write_manifest(
        paths,
        Manifest(
            run_id="r",
            status="incomplete",
            started_at=NOW,
            plan_hash=PLAN,
            cells=4,
            counts=Counts(**state.counts),
            code=code_facts(),
            machine=machine_facts(),
        ),
    )
    return paths


def file_of(paths: RunPaths, index: int) -> Path:
    return paths.image(image_name(index, cell_id(index), ".png"))


def test_a_run_as_it_was_made_has_no_findings(tmp_path: Path) -> None:
    report = verify(finished_run(tmp_path), pixels=True)
    assert report.ok
    assert (report.checked, report.problems, report.findings) == (3, 0, ())


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(data)


def in_manifest(paths: RunPaths, **changes: object) -> None:
    paths.manifest.write_text(json.dumps({**json.loads(paths.manifest.read_text()), **changes}))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def drop_line(path: Path) -> None:
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


SHARD = "images/0000"
ONE = f"{SHARD}/0000001-{cell_id(1)[:12]}.png"

DAMAGE: list[tuple[str, Callable[[RunPaths], object], str, str]] = [
    ("missing", lambda p: file_of(p, 1).unlink(), ONE, "is missing"),
    ("short", lambda p: file_of(p, 1).write_bytes(b"x"), ONE, "has 1 bytes, and its row says"),
    ("flipped", lambda p: flip(file_of(p, 1)), ONE, "has sha256"),
    (
        "folder",
        lambda p: (file_of(p, 1).unlink(), file_of(p, 1).mkdir()),
        ONE,
        "bytes, and its row",
    ),
    ("stray", lambda p: (p.images / "a.png").touch(), "images/a.png", "belongs to no row"),
    ("stranger", lambda p: (p.images / "0000/x").touch(), f"{SHARD}/x", "belongs to no row"),
    (
        "image of a cell that was refused",
        lambda p: file_of(p, 2).write_bytes(picture(2)),
        f"{SHARD}/0000002-{cell_id(2)[:12]}.png",
        "belongs to no row",
    ),
    (
        "counts",
        lambda p: in_manifest(p, counts={"done": 4, "refused": 1}),
        "manifest.json",
        "counts 4 done, and the journal 3",
    ),
    ("running", lambda p: in_manifest(p, status="running"), "manifest.json", "still goes on"),
    (
        "row",
        lambda p: edit(p.metadata, "number 3", "number 4"),
        "images/metadata.jsonl",
        "line 2 differs from the journal in prompt",
    ),
    ("fewer", lambda p: drop_line(p.metadata), "images/metadata.jsonl", "fewer rows"),
    ("no failures", lambda p: drop_line(p.failures), "failures.jsonl", "fewer rows"),
    (
        "more",
        lambda p: p.failures.write_text(p.failures.read_text() * 2),
        "failures.jsonl",
        "more rows",
    ),
]


@pytest.mark.parametrize(
    ("damage", "file", "problem"), [d[1:] for d in DAMAGE], ids=[d[0] for d in DAMAGE]
)
def test_damage_is_named(
    tmp_path: Path, damage: Callable[[RunPaths], object], file: str, problem: str
) -> None:
    paths = finished_run(tmp_path)
    damage(paths)
    report = verify(paths)
    assert report.problems == len(report.findings) == 1
    assert report.findings[0].file == file
    assert problem in report.findings[0].problem
    assert str(report.findings[0]) == f"{file} {report.findings[0].problem}"


def test_a_damaged_journal_is_named_with_all_that_hangs_on_it(tmp_path: Path) -> None:
    paths = finished_run(tmp_path)
    file = paths.journal_files()[0]
    file.write_bytes(file.read_bytes().replace(b"a fox, number 3", b"a cat, number 3"))
    report = verify(paths)
    assert {finding.file for finding in report.findings} == {
        "manifest.json",
        f"journal/{file.name}",
        "images/metadata.jsonl",
        f"{SHARD}/0000003-{cell_id(3)[:12]}.png",
    }


def test_pixels_are_checked_on_request(tmp_path: Path) -> None:
    wrong = done(1)
    row = replace(wrong.images[0], pixel_sha256="0" * 64)
    paths = write_run(tmp_path, [replace(wrong, images=(row,)), sent(7)])
    derive(paths)
    write_manifest(
        paths,
        Manifest(
            run_id="r",
            status="interrupted",
            started_at=NOW,
            plan_hash=PLAN,
            cells=2,
            counts=Counts(done=1, unknown=1),
            code=code_facts(),
            machine=machine_facts(),
        ),
    )
    assert verify(paths).ok
    assert verify(paths, pixels=True).findings == (
        Finding(ONE, "decodes to other pixels than its row says"),
    )


def test_a_copy_in_another_format_is_no_stranger(tmp_path: Path) -> None:
    paths = finished_run(tmp_path)
    file_of(paths, 1).with_suffix(".webp").write_bytes(picture(1, kind="WEBP"))
    assert verify(paths).ok


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="is not a run folder"):
        verify(RunPaths(tmp_path))
