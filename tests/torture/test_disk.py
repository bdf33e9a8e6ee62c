"""Disks that are full, read-only or gone: one sentence, the old state intact, then resumable."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import Finished
from tests.figures import Figures
from tests.torture.forge import Forge, forging
from tests.torture.service import Service, journal
from tests.torture.test_kills import batch, finish

SHIM = Path(__file__).with_name("full_disk.c")

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs to mount file systems")


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with Service() as running:
        yield running


@pytest.fixture(scope="module")
def forge(tmp_path_factory: pytest.TempPathFactory, service: Service) -> Iterator[Forge]:
    folder = tmp_path_factory.mktemp("forge")
    env = {"OPENAI_API_KEY": service.key}
    if compiler := shutil.which("cc"):
        library = folder / "full_disk.so"
        subprocess.run([compiler, "-shared", "-fPIC", "-o", library, SHIM, "-ldl"], check=True)
        env["LD_PRELOAD"] = str(library)
    with forging(folder, **env) as running:
        yield running


def check_told(ended: Finished) -> None:
    """A full disk ends a run with a sentence about it, exit code 3 and the way to go on."""
    assert "Traceback" not in ended.out
    assert ended.code == 3, ended.out
    (sentence,) = [line for line in ended.out.splitlines() if line.startswith("error: ")]
    assert "No space left on device" in sentence


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
@pytest.mark.parametrize("once", [False, True])
def test_full_at_every_change(
    forge: Forge, service: Service, tmp_path: Path, figures: Figures, once: bool
) -> None:
    """The disk refuses the Nth change, once or for good, for every N until nothing is refused."""
    at = 0
    while True:
        at += figures.step(short=9)
        command, watch = batch(tmp_path / str(at), service, cells=6, n=2)
        command += ["output.quiet=false"]
        told, count = tmp_path / f"told-{at}", tmp_path / f"count-{at}"
        count.write_bytes(bytes(8))
        env = {
            "FULL_DISK_COUNT": str(count),
            "FULL_DISK_AT": str(at),
            "FULL_DISK_IN": str(watch.run),
            "FULL_DISK_TOLD": str(told),
        }
        ended = forge.run(*command, env=env | ({"FULL_DISK_ONCE": "1"} if once else {}))
        if not told.exists():
            watch.finished()
            break
        figures.add("full disks")
        if ended.code == 0:
            # What was refused was there already, or can be made again at any time.
            watch.finished()
            continue
        check_told(ended)
        watch.look()
        finish(forge, command, watch)
    assert at > 60


@contextmanager
def mounted(folder: Path, *options: str) -> Iterator[Path]:
    """A small file system of its own."""
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", *options, "none", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@needs_root
def test_a_small_disk_page_by_page(
    forge: Forge, service: Service, tmp_path: Path, figures: Figures
) -> None:
    size = 0
    while True:
        size += figures.step(short=9)
        command, watch = batch(tmp_path / "disk", service, cells=6, n=2)
        prompts = tmp_path / "disk/prompts.txt"
        text = prompts.read_text()
        with mounted(tmp_path / "disk", "-o", f"size={size * 4096}") as disk:
            outside = tmp_path / "prompts.txt"
            outside.write_text(text)
            command.append(f"prompts={outside}")
            ended = forge.run(*command, "output.quiet=false")
            figures.add("small disks")
            if ended.code == 0 and "could not be written" not in ended.out:
                watch.finished()
                break
            if ended.code:
                check_told(ended)
            watch.look()
            subprocess.run(["mount", "-o", "remount,size=64M", disk], check=True)
            finish(forge, command, watch)
    assert size > 9


@needs_root
def test_a_read_only_folder_costs_nothing(forge: Forge, service: Service, tmp_path: Path) -> None:
    with mounted(tmp_path / "disk") as disk:
        command, watch = batch(tmp_path / "disk", service, cells=2, n=1)
        watch.run.mkdir()
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        calls = service.calls_made
        ended = forge.run(*command)
        assert ended.code == 3, ended.out
        assert "Traceback" not in ended.out
        assert "Read-only file system" in ended.out
        assert service.calls_made == calls
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
        finish(forge, command, watch)


@pytest.mark.parametrize("what", ["file", "missing"])
def test_a_folder_that_is_none_costs_nothing(
    forge: Forge, service: Service, tmp_path: Path, what: str
) -> None:
    command, _ = batch(tmp_path, service, cells=2, n=1)
    if what == "file":
        (tmp_path / "run").write_text("in the way")
    else:
        command.append("hydra.run.dir=/proc/nowhere/run")
    calls = service.calls_made
    ended = forge.run(*command)
    assert ended.code == 3, ended.out
    assert "Traceback" not in ended.out
    assert service.calls_made == calls


def test_a_folder_that_vanishes_stops_the_sending(
    forge: Forge, service: Service, tmp_path: Path
) -> None:
    command, watch = batch(tmp_path, service, cells=200, n=1)
    service.latency_s = 0.05
    calls = service.calls_made
    child = forge.start(*command)
    while not (watch.run.exists() and journal(watch.run, "attempt")):
        pass
    watch.run.rename(tmp_path / "elsewhere")
    ended = child.wait()
    assert ended.code == 3, ended.out
    assert "Traceback" not in ended.out
    assert "No such file or directory" in ended.out
    # A few were on their way.
    assert service.calls_made - calls < 100
