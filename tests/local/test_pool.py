"""Worker processes: the same pictures as one process, also when one of them is killed."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

pytest.importorskip("diffusers")

from runner.cli.main import run
from runner.providers.contract import Answer, Call, Picture, ProviderError
from runner.providers.local import load
from runner.providers.local.diffusers import DiffusersProvider
from runner.providers.local.pool import DiffusersPool, visible_gpus, wants_workers
from runner.providers.registry import make_provider
from runner.settings.cell import Json
from runner.settings.errors import RunnerError
from runner.settings.schema import DeviceSettings, VariantSettings
from tests import tiny
from tests.conftest import REPOSITORY, RunCli, cli_command
from tests.local.driver import Driver, cell
from tests.local.driver import make_provider as make_single

Folder = Callable[[tiny.Family], Path]


def pool_of(folder: Path, *, workers: int = 2, batch_size: int | str = 1) -> DiffusersPool:
    single = make_single(folder, batch_size=batch_size)
    device = single.settings.device.model_copy(
        update={"name": "all_gpus", "workers": workers, "threads": 1}
    )
    made = make_provider(single.settings.model_copy(update={"device": device}))
    assert isinstance(made, DiffusersPool)
    return made


def killed(pool: DiffusersPool, place: int) -> int:
    process = pool._workers[place]._process
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    return process.pid


class Killing:
    """A listener that kills the first worker once something is being computed."""

    def __init__(self, pool: DiffusersPool, times: int = 1) -> None:
        self.pool, self.left = pool, times

    def progress(self, call: Call, done: int, total: int) -> None:
        if self.left:
            self.left -= 1
            for place, worker in enumerate(self.pool._workers):
                if worker.load:
                    killed(self.pool, place)
                    return

    async def note(self, call: Call, fact: Mapping[str, Json]) -> None:
        raise AssertionError


async def made(pool: DiffusersPool, listener: Killing, seeds: range) -> list[Answer]:
    await pool.open()
    try:
        calls = [Call(f"call{seed}", (cell("a red circle", seed),)) for seed in seeds]
        if pool.undecided():
            assert pool.images_per_call(calls[0].params) == 16
            # Calls of one image each leave nothing to put together.
            settled = await pool.settle(call.cells for call in calls)
            assert settled == {"device.batch_size": 1}
            assert pool.images_per_call(calls[0].params) == 1
        return list(await asyncio.gather(*(pool.generate(call, listener) for call in calls)))
    finally:
        await pool.close()


def files(answers: list[Answer]) -> list[bytes]:
    outputs = [output for answer in answers for output in answer.outputs]
    return [output.data for output in outputs if isinstance(output, Picture)]


@pytest.fixture(autouse=True)
def _no_gpus(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    yield


def test_a_killed_worker_costs_nothing_but_time(tiny_folder: Folder) -> None:
    folder = tiny_folder("sd15")
    single = Driver(make_single(folder, batch_size=1))
    wanted = [single.files(cell("a red circle", seed))[0] for seed in range(6)]
    pool = pool_of(folder, batch_size="auto")
    answers = asyncio.run(made(pool, Killing(pool), range(6)))
    assert files(answers) == wanted
    warned = [
        output.warnings
        for answer in answers
        for output in answer.outputs
        if isinstance(output, Picture) and output.warnings
    ]
    assert 1 <= len(warned) <= 2
    assert all("died" in text for (text,) in warned)
    # What the libraries say depends on what was loaded before in the process.
    found, known = (dict(each.model_identity()) for each in (pool, single.provider))
    assert found | {"warnings": []} == known | {"warnings": []}
    for worker in pool._workers:
        assert worker._process is not None
        assert worker._process.poll() is not None, "a worker was left"


def test_a_call_that_kills_every_worker_ends_alone(tiny_folder: Folder) -> None:
    pool = pool_of(tiny_folder("sd15"), workers=1)
    with pytest.raises(ProviderError, match="two worker processes died") as caught:
        asyncio.run(made(pool, Killing(pool, times=2), range(1)))
    assert caught.value.code == "worker_died"


class Laden:
    """A worker that has not enough memory."""

    ready, load, memory = True, 0, False

    async def ask(self, call: Call, listener: object) -> Answer:
        if not self.memory:
            raise ProviderError("invalid", "does not fit", code="out_of_memory")
        return Answer(outputs=(Picture(data=b"made"),))


@pytest.mark.parametrize("others", [True, False])
def test_what_does_not_fit_at_one_worker_is_tried_at_another(
    others: bool, tiny_folder: Folder
) -> None:
    async def main() -> Answer:
        pool = pool_of(tiny_folder("sd15"))
        first, second = Laden(), Laden()
        pool._workers = [first, second]  # type: ignore[list-item]
        second.memory = others
        second.load = 1  # so that the first one is asked first
        try:
            return await pool.generate(Call("call", (cell("a fox", 1),)), Killing(pool, 0))
        finally:
            assert (first.load, second.load) == (0, 1)

    if others:
        (picture,) = asyncio.run(main()).outputs
        assert isinstance(picture, Picture)
        assert "not enough memory" in picture.warnings[0]
    else:
        with pytest.raises(ProviderError, match="does not fit"):
            asyncio.run(main())


def test_a_worker_that_cannot_load_is_one_sentence(tiny_folder: Folder, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(tiny_folder("sd15"), folder)
    pool = pool_of(folder, workers=1)
    pool.check_ready()
    shutil.rmtree(folder / "unet")
    with pytest.raises(RunnerError):
        asyncio.run(made(pool, Killing(pool, 0), range(1)))


def test_who_asks_for_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert wants_workers(DeviceSettings(name="all_gpus"))
    assert not wants_workers(DeviceSettings(name="auto"))
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert wants_workers(DeviceSettings(name="auto"))
    assert not wants_workers(DeviceSettings(name="cpu"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0, 3")
    assert visible_gpus() == ["0", "3"]


def test_errors_survive_the_way_between_processes() -> None:
    error = ProviderError("rate_limit", "slow", code="429", retry_after=2.0, request_id="r")
    same = pickle.loads(pickle.dumps(error))
    assert vars(same) == vars(error)
    assert str(same) == "slow"


def test_no_gpu_and_no_number_is_one_sentence(run_cli: RunCli) -> None:
    done = run_cli("device=all_gpus", "prompt=a fox", env={"CUDA_VISIBLE_DEVICES": ""})
    assert done.code == 3
    assert "device.workers=2" in done.err
    assert len(done.err.strip().splitlines()) == 1


JOB = ("-m", "prompt=a red circle,a blue star", "seed=1,2", "steps=2", "device.threads=1")


def hashes(run: Path) -> list[tuple[str, str]]:
    lines = (run / "images/metadata.jsonl").read_text().splitlines()
    return [(row["cell_id"], row["sha256"]) for row in map(json.loads, lines)]


@pytest.mark.long
def test_launchers_make_what_one_process_makes(run_cli: RunCli, tmp_path: Path) -> None:
    one = run_cli(*JOB, "device=cpu", "hydra.sweep.dir=one")
    assert one.code == 0, one.text
    launchers = {
        # One process: accelerate starts several on processors of one machine only through MPI.
        "accelerate": ("accelerate", "launch", "--cpu", "--num_processes", "2"),
        "ranks": ("accelerate", "launch", "--multi_gpu", "--num_processes", "2"),
        "torchrun": ("torchrun", "--standalone", "--nproc-per-node", "2"),
    }
    for name, (program, *words) in launchers.items():
        command = [str(Path(sys.executable).with_name(program)), *words, "-m", "runner", *JOB]
        done = subprocess.run(
            [*command, f"hydra.sweep.dir={name}"],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert hashes(tmp_path / name) == hashes(tmp_path / "one")
        assert done.stdout.count("4 images made, 4 of 4 there") == 1, done.stdout
        assert "Traceback" not in done.stderr


def test_two_processes_make_what_one_makes(
    run_cli: RunCli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run([*JOB, "device=cpu", "hydra.sweep.dir=one"]) == 0
    load.forget()
    # As a launcher starts two ranks: the first does it all, the other leaves.
    ranks = {"WORLD_SIZE": "2", "CUDA_VISIBLE_DEVICES": ""}
    other = run_cli(*JOB, "device=auto", "hydra.sweep.dir=two", env={**ranks, "RANK": "1"})
    assert (other.code, other.text) == (0, "")
    two = run_cli(*JOB, "device=auto", "hydra.sweep.dir=two", env={**ranks, "RANK": "0"})
    assert two.code == 0, two.text

    assert hashes(tmp_path / "two") == hashes(tmp_path / "one")


def test_workers_end_with_their_parent(tmp_path: Path) -> None:
    command = cli_command(
        "device=all_gpus", "device.workers=2", "prompt=a fox", "n=500", "hydra.run.dir=run"
    )
    parent = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    workers: list[int] = []
    try:
        while len(workers) < 2 and time.monotonic() < deadline:
            time.sleep(0.2)
            workers = workers_of(parent.pid)
        assert len(workers) == 2
        maps = Path(f"/proc/{parent.pid}/maps").read_text()
        assert "libtorch" not in maps, "the parent imports torch"
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    while any(alive(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not any(alive(pid) for pid in workers)


def workers_of(pid: int) -> list[int]:
    """The children that compute; another one writes the run folder."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [
        int(child)
        for child in children
        if b"local.worker" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_one_process_stays_one_process(tiny_folder: Folder) -> None:
    settings: VariantSettings = make_single(tiny_folder("sd15")).settings
    assert isinstance(make_provider(settings), DiffusersProvider)
    assert sys.modules["runner.providers.local.pool"]
