"""The whole way against a bare aiohttp client: ``python benchmarks/run.py``.

    python benchmarks/run.py [--images 20000] [--rounds 3] [--latency 0.2]
    python benchmarks/run.py --cells 1000 100000     # peak memory by the number of cells

A server in another process answers after 200 ms with images as base64. *bare* downloads and throws
away; *plain* adds json, base64 and a file for each image, as a script does it, not durably; *run*
is ``python -m runner provider=openai`` in a process of its own: the SDK, the engine with its
limits, every image and every journal record durable, rows, page and manifest. Its time is the
manifest's, from ``started_at`` to ``ended_at``, the import of the SDK and the slow start included;
its CPU is that of the run and its writer, page included, less that of a run of one image. Every
image is a call of its own. ``--images`` is for 256 calls at once; fewer calls make fewer.

What a run has written is kept until the end: some file systems look through the inodes that were
deleted minutes ago for each file that they make, and would be measured instead of us.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import datetime
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from api import measure, servers

ALWAYS = ("prompts=prompts.txt", "hydra.run.dir=run", "output.quiet=true")


@dataclass(frozen=True, slots=True)
class Ran:
    """One run: seconds of the manifest, CPU seconds and peak memory of the process."""

    wall_s: float
    cpu_s: float
    rss_mb: float


def run(within: Path, images: int, *overrides: str) -> Ran:
    """Make images of as many prompts, in a new folder."""
    folder = Path(tempfile.mkdtemp(dir=within))
    prompts = "".join(f"lighthouse number {number}\n" for number in range(images))
    (folder / "prompts.txt").write_text(prompts)
    child = subprocess.Popen(
        [sys.executable, "-m", "runner", *overrides, *ALWAYS], cwd=folder, stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"a run ended with {child.returncode}")
    manifest = json.loads((folder / "run/manifest.json").read_text())
    started, ended = (
        datetime.datetime.fromisoformat(manifest[name]) for name in ("started_at", "ended_at")
    )
    wall = (ended - started).total_seconds()
    return Ran(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


async def client(base_url: str, images: int, at_once: int, folder: Path | None = None) -> float:
    """Images per second of a client that only downloads; with a folder, that also writes files."""
    body = {"model": "gpt-image-2", "n": 1, "prompt": "a lighthouse"}
    connector = aiohttp.TCPConnector(limit=0)
    numbers = itertools.count()
    async with aiohttp.ClientSession(connector=connector) as session:

        async def one() -> None:
            async with session.post(f"{base_url}/images/generations", json=body) as response:
                answer = await response.read()
            if folder is not None:
                image = base64.b64decode(json.loads(answer)["data"][0]["b64_json"])
                (folder / f"{next(numbers)}.png").write_bytes(image)

        return (await measure(one, images, at_once))[0]


def compare(within: Path, base_url: str, images: int, at_once: int, rounds: int) -> None:
    """Bare, plain and ours in turn; prints the medians."""
    common = (
        "provider=openai", f"provider.base_url={base_url}", f"limits.max_concurrency={at_once}",
    )  # fmt: skip
    first = run(within, 1, *common)
    ground: list[float] = []
    script: list[float] = []
    found: list[tuple[float, float]] = []
    for _ in range(rounds):
        ground.append(asyncio.run(client(base_url, images, at_once)))
        folder = Path(tempfile.mkdtemp(dir=within))
        script.append(asyncio.run(client(base_url, images, at_once, folder)))
        ran = run(within, images, *common)
        found.append((images / ran.wall_s, (ran.cpu_s - first.cpu_s) / images * 1000))
    least = statistics.median(ground)
    speed = statistics.median(speed for speed, _ in found)
    cpu = statistics.median(cpu for _, cpu in found)
    usual = statistics.median(script)
    print(f"  bare  {least:7.0f} images/s")
    print(f"  plain {usual:7.0f} images/s {usual / least:6.2f} of bare")
    print(
        f"  run   {speed:7.0f} images/s {speed / least:6.2f} of bare {speed / usual:6.2f} of plain"
        f" {cpu:6.2f} CPU-s/1000"
    )


def memory(within: Path, counts: Sequence[int]) -> None:
    """Peak memory of runs of the fake provider, by their number of cells."""
    for cells in counts:
        ran = run(within, cells, "provider=fake", "size=16x16", "limits.max_concurrency=64")
        print(
            f"  {cells:>9,} cells {ran.rss_mb:7.0f} MB {ran.cpu_s / cells * 1000:6.2f} CPU-s/1000"
        )


def main() -> None:
    """Compare at the sizes and concurrencies of the design, or measure memory."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--latency", type=float, default=0.2)
    parser.add_argument("--cells", type=int, nargs="*", default=[], help="measure memory instead")
    chosen = parser.parse_args()
    os.environ["OPENAI_API_KEY"] = "not-a-real-key"
    with tempfile.TemporaryDirectory() as folder:
        if chosen.cells:
            memory(Path(folder), chosen.cells)
            return
        for address, images, at_once in servers(chosen.images, chosen.latency):
            count = images * at_once // 256
            compare(Path(folder), address, count, at_once, chosen.rounds)


if __name__ == "__main__":
    main()
