"""How long a plan takes: the arithmetic, and what is read of earlier runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.cli.duration import Duration, duration_of, total
from runner.record import speed
from runner.record.facts import code_facts, machine_facts
from runner.record.manifest import Manifest, VariantRecord, write_manifest
from runner.record.paths import RunPaths
from runner.record.rows import AttemptRecord
from runner.record.speed import Made, Speed, earlier_speeds, maker_of, most_at_once
from runner.settings.schema import LimitSettings
from tests.unit.plan_stub import StubProvider, variant
from tests.unit.records import attempt, failed, failure_row, image_row, picture, write_run

CONFIG = {
    "provider": {"name": "fake", "options": {"latency_s": 2}},
    "device": {"name": "auto"},
    "model": {"name": "m", "revision": None},
    "pipeline": {"name": "text2img", "image": None},
}
ALONE = Speed(call_s=2.0, images=1, at_once=1)
FREE = LimitSettings()


def call(index: int, *, images: int = 1, second: int = 0, **changes: object) -> AttemptRecord:
    """A call of several images, sent at a second of the minute."""
    rows = tuple(
        image_row(
            number,
            picture(number),
            started_at=f"2026-01-02T03:04:{second:02d}.500+00:00",
            **{"latency_s": 2.0, **changes},
        )
        for number in range(10 * index, 10 * index + images)
    )
    return attempt(index, images=rows, outcome="done", cost_basis="free", cost_usd=0.0)


def run_of(root: Path, *records: AttemptRecord) -> RunPaths:
    root.mkdir(parents=True)
    paths = write_run(root, records)
    one = VariantRecord(index=0, provider="fake", model="m", config=CONFIG)
    manifest = Manifest(
        run_id="r",
        status="done",
        started_at="2026-01-02T03:04:05+00:00",
        plan_hash="h",
        cells=1,
        variants=(one,),
        code=code_facts(),
        machine=machine_facts(),
    )
    write_manifest(paths, manifest)
    return paths


def made(**changes: object) -> Made:
    members = {"maker": maker_of(CONFIG), "size": None, "quality": None, "steps": None, **changes}
    return Made(**members)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("calls", "at_once", "speed", "expected"),
    [
        (1, 32, ALONE, Duration(2.0, 2.0)),
        (10, 1, ALONE, Duration(20.0, 20.0)),
        (10, 5, Speed(2.0, 1, 5), Duration(4.0, 4.0)),
        (10, 5, ALONE, Duration(4.0, 20.0)),  # whether five go at once has not been seen
        (10, 5, Speed(2.0, 1, 32), Duration(4.0, 4.0)),
        (3, 32, Speed(2.0, 1, 4), Duration(2.0, 2.0)),
        (10, 1, Speed(2.0, 0.5, 1), Duration(20.0, 40.0)),  # twice the images in a call
        (10, 1, Speed(2.0, 4, 1), Duration(5.0, 20.0)),  # a quarter of them
    ],
)
def test_a_range_where_more_is_asked_than_was_seen(
    calls: int, at_once: int, speed: Speed, expected: Duration
) -> None:
    assert duration_of([(calls, speed)], calls, at_once, FREE) == expected


def test_parts_count_by_their_images_and_an_unknown_one_makes_all_unknown() -> None:
    slow = Speed(call_s=10.0, images=1, at_once=1)
    assert duration_of([(3, ALONE), (1, slow)], 4, 1, FREE) == Duration(16.0, 16.0)
    assert duration_of([(3, ALONE), (1, None)], 4, 1, FREE) is None
    assert duration_of([], 0, 1, FREE) == Duration(0.0, 0.0)


def test_the_users_own_limits_are_kept() -> None:
    calls = LimitSettings(requests_per_minute=6)
    images = LimitSettings(images_per_minute=6)
    fast = Speed(0.1, 2, 32)
    assert duration_of([(20, fast)], 10, 32, calls) == Duration(90.0, 90.0)
    assert duration_of([(20, fast)], 10, 32, images) == Duration(180.0, 180.0)


def test_variants_of_one_quota_wait_for_each_other() -> None:
    providers = [StubProvider(variant(index).settings) for index in range(3)]
    providers[2].quota_key = lambda: "another"  # type: ignore[method-assign]
    times = [Duration(1, 2), Duration(3, 5), Duration(2, 10)]
    assert total(times, providers) == Duration(4, 10)
    assert total([*times[:2], None], providers) is None


def test_calls_that_only_follow_each_other_are_not_at_once() -> None:
    assert most_at_once([]) == 0
    assert most_at_once([(0, 1), (1, 1), (2, 1)]) == 1
    assert most_at_once([(0, 5), (1, 1), (1.5, 1), (4, 1)]) == 3


def test_the_median_call_of_the_newest_run_that_made_such_images(tmp_path: Path) -> None:
    old = run_of(tmp_path / "day/one", call(0, size="9x9"), call(1, latency_s=50.0))
    run_of(
        tmp_path / "day/two",
        call(0, images=2, second=10, latency_s=9.0),
        call(1, images=2, second=12, latency_s=3.0),
        call(2, images=2, second=20, latency_s=4.0),
        failed(9),
    )
    assert old.manifest.stat().st_mtime <= (tmp_path / "day/two/manifest.json").stat().st_mtime
    assert earlier_speeds(tmp_path, [made(), made(size="9x9"), made(steps=3)]) == {
        made(size="9x9"): Speed(2.0, 1, 2),
        made(): Speed(4.0, 2, 2),
    }
    assert earlier_speeds(tmp_path, [made(maker="another")]) == {}


def test_images_that_did_not_come_were_asked_for(tmp_path: Path) -> None:
    partial = attempt(
        0,
        images=call(0, images=3).images,
        failures=(failure_row(7, "refused"),),
        outcome="partial",
    )
    run_of(tmp_path / "run", partial)
    assert earlier_speeds(tmp_path, [made()]) == {made(): Speed(2.0, 4, 1)}


def test_what_was_not_made_by_a_run_tells_nothing_of_its_speed(tmp_path: Path) -> None:
    run_of(tmp_path / "a", call(0, reused_from="b/images/x.png"), call(1, latency_s=0.0))
    (tmp_path / "b").mkdir()
    (tmp_path / "b/manifest.json").write_text("no manifest")
    assert earlier_speeds(tmp_path, [made()]) == {}
    assert earlier_speeds(tmp_path / "nowhere", [made()]) == {}


def test_only_the_end_of_a_long_journal_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = run_of(tmp_path / "run", call(0, latency_s=70.0), *map(call, range(1, 4)))
    (journal,) = paths.journal_files()
    lines = journal.read_bytes().splitlines(keepends=True)
    monkeypatch.setattr(speed, "TAIL_BYTES", sum(map(len, lines[-3:])) + 20)
    assert earlier_speeds(tmp_path, [made()]) == {made(): Speed(2.0, 1, 3)}


@pytest.mark.parametrize(
    "changes",
    [
        {"provider": {"name": "fake", "options": {"latency_s": 3}}},
        {"device": {"name": "cpu"}},
        {"model": {"name": "another"}},
        {"pipeline": {"name": "img2img"}},
    ],
)
def test_another_maker_is_not_taken_for_this_one(changes: dict[str, object]) -> None:
    assert maker_of({**CONFIG, **changes}) != maker_of(CONFIG)
    assert maker_of({**CONFIG, "seed": 3}) == maker_of(CONFIG)
