"""SIGKILL through the whole command line, against a service that keeps its own books."""

from __future__ import annotations

import json
import random
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.record.crash import POINTS
from tests.cli.runs import rows
from tests.figures import Figures
from tests.torture.forge import Forge, forging
from tests.torture.service import Service, Watch

CELLS = 12
FINISH = ("--include", "failed,unknown")


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with Service() as running:
        yield running


@pytest.fixture(scope="module")
def forge(tmp_path_factory: pytest.TempPathFactory, service: Service) -> Iterator[Forge]:
    with forging(tmp_path_factory.mktemp("forge"), OPENAI_API_KEY=service.key) as running:
        yield running


def batch(folder: Path, service: Service, cells: int, n: int) -> tuple[list[str], Watch]:
    """A command line, and who watches its folder."""
    folder.mkdir(exist_ok=True)
    service.asked.clear()
    service.sold.clear()
    service.latency_s = 0.0
    prompts = [f"picture number {at}" for at in range(cells // n)]
    (folder / "prompts.txt").write_text("\n".join(prompts))
    return [
        "provider=openai", f"provider.base_url={service.base_url}", "prompt='{prompt}'", f"n={n}",
        f"prompts={folder / 'prompts.txt'}", f"hydra.run.dir={folder / 'run'}",
        "limits.max_concurrency=4", "output.quiet=true",
    ], Watch(folder / "run", service, prompts, n)  # fmt: skip


def finish(forge: Forge, command: list[str], watch: Watch) -> None:
    """What a user does after a crash: ``resume``, or the same command if that says so."""
    done = forge.run("resume", str(watch.run), *FINISH)
    if done.code == 2:
        assert "give the command" in done.out or "no run folder" in done.out
        done = forge.run(*command)
    assert done.code == 0, done.out
    assert "Traceback" not in done.out
    watch.finished()


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_a_point_of_the_way(
    forge: Forge, service: Service, tmp_path: Path, point: str, figures: Figures
) -> None:
    for passage in figures.passages(1, 2, 7):
        command, watch = batch(tmp_path / str(passage), service, CELLS, n=2)
        died = forge.run(*command, env={"RUNNER_CRASH_AT": f"{point}:{passage}"})
        if died.code == 0:
            watch.finished()
            return
        assert died.code == -9, died.out
        figures.add("kills at a named point")
        watch.look()
        finish(forge, command, watch)


def test_killed_at_any_time_again_and_again(
    forge: Forge, service: Service, tmp_path: Path, figures: Figures
) -> None:
    moments = random.Random(20261124)
    for round_ in range(figures.count(short=1, long=8)):
        command, watch = batch(tmp_path / str(round_), service, cells=240, n=1)
        service.latency_s = 0.02
        start, span = time.monotonic(), 0.0
        for _ in range(30):
            resume = all((watch.run / name).is_file() for name in ("manifest.json", "plan.json"))
            child = forge.start(*(["resume", str(watch.run), *FINISH] if resume else command))
            while not service.asked:
                time.sleep(0.001)
            # The first lives until it has sent something; the others as long, more or less.
            span = span or time.monotonic() - start
            time.sleep(moments.uniform(0, 1.5 * span) if resume else 0)
            child.kill()
            ended = child.wait()
            if ended.code == 0:
                break
            assert ended.code == -9, ended.out
            figures.add("kills at a random time")
            watch.look()
        finish(forge, command, watch)


def test_clocks_that_jump(forge: Forge, service: Service, tmp_path: Path, figures: Figures) -> None:
    command, watch = batch(tmp_path, service, cells=24, n=1)
    for number, passage in enumerate((3, 9, 5)):
        started = (watch.run / "plan.json").is_file()
        died = forge.run(
            *(["resume", str(watch.run), *FINISH] if started else command),
            env={"JUMPING_CLOCK": str(number), "RUNNER_CRASH_AT": f"journal.after_fsync:{passage}"},
        )
        assert died.code == -9, died.out
        figures.add("kills under a jumping clock")
        watch.look()
    done = forge.run("resume", str(watch.run), *FINISH, env={"JUMPING_CLOCK": "9"})
    assert done.code == 0, done.out
    watch.finished()
    assert all(0 <= row["latency_s"] < 60 for row in rows(watch.run))
    assert len(list((watch.run / "journal").glob("*.jsonl"))) == 4


def test_one_folder_has_one_writer_and_no_lock_outlives_it(
    forge: Forge, service: Service, tmp_path: Path
) -> None:
    command, watch = batch(tmp_path, service, cells=6, n=1)
    service.latency_s = 5
    first = forge.start(*command)
    while not service.asked:
        time.sleep(0.01)
    asked = service.calls_made
    for words in (command, ["resume", str(watch.run)]):
        second = forge.run(*words)
        assert second.code == 3, second.out
        assert f"process {first.pid} on {socket.gethostname()}" in second.out
    assert service.calls_made - asked <= 6
    first.kill()
    assert first.wait().code == -9
    service.latency_s = 0.0
    finish(forge, command, watch)


def test_the_last_record_torn_at_every_byte(
    forge: Forge, service: Service, tmp_path: Path, figures: Figures
) -> None:
    command, watch = batch(tmp_path, service, cells=2, n=1)
    assert forge.run(*command).code == 0
    (file,) = (watch.run / "journal").glob("*.jsonl")
    whole = file.read_bytes()
    last = len(whole) - whole[:-1].rfind(b"\n") - 1
    lock = json.dumps({"pid": 1, "host": "h", "boot_id": "b", "started": "1"})
    for cut in range(1, last + 1, figures.step(short=211)):
        (watch.run / "run.lock").write_text(lock)
        file.write_bytes(whole[:-cut])
        watch.look()
        figures.add("torn records")
        finish(forge, command, watch)
        for later in set((watch.run / "journal").glob("*.jsonl")) - {file}:
            later.unlink()
