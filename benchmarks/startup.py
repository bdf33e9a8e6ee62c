"""Start-up against a bare Hydra app, side by side: ``python benchmarks/startup.py [RUNS]``.

Prints the median of user + system CPU seconds and of wall seconds of whole processes, and the
median of the ratios pair by pair (the machine's speed drifts; a pair sees the same machine).
Every process reads compiled modules from a cache of this benchmark, as an installed package does.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BARE = """\
import hydra
@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(config):
    pass
if __name__ == "__main__":
    main()
"""
BARE_CONFIG = """\
defaults: [_self_, {a: x}, {b: x}, {c: x}, {d: x}, {e: x}, {f: x}]
prompt: a fox
seed: 7
"""


def measure(command: list[str], cwd: str) -> tuple[float, float]:
    """CPU and wall seconds of one process."""
    compiled = {**os.environ, "PYTHONPYCACHEPREFIX": f"{cwd}/compiled"}
    compiled.pop("PYTHONDONTWRITEBYTECODE", None)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    subprocess.run(command, cwd=cwd, env=compiled, check=True, stdout=subprocess.DEVNULL)
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, wall


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "app.py").write_text(BARE)
        (Path(folder) / "conf").mkdir()
        (Path(folder) / "conf/config.yaml").write_text(BARE_CONFIG)
        for group in "abcdef":
            (Path(folder) / "conf" / group).mkdir()
            (Path(folder) / "conf" / group / "x.yaml").write_text("one: 1\ntwo: 2\n")
        ours = [sys.executable, "-m", "runner"]
        bare = [sys.executable, "app.py"]
        done = f"hydra.run.dir={folder}/run"
        no_op = ["provider=fake", "prompt=a fox", "size=16x16", "seed=1", "output.quiet=true", done]
        subprocess.run([*ours, *no_op], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        os.sync()
        titles = ("ours cpu", "bare cpu", "ratio", "ours wall", "bare wall")
        print(f"{'':28}" + "".join(f"{title:>10}" for title in titles))
        for title, arguments, bare_arguments in (
            ("--help", ["--help"], ["--help"]),
            ("--cfg job", ["--cfg", "job"], ["--cfg", "job"]),
            ("no-op run (all done before)", no_op, []),
        ):
            pairs = [
                (measure([*ours, *arguments], folder), measure([*bare, *bare_arguments], folder))
                for _ in range(runs + 1)
            ][1:]
            cpu, bare_cpu = (statistics.median(pair[i][0] for pair in pairs) for i in (0, 1))
            wall, bare_wall = (statistics.median(pair[i][1] for pair in pairs) for i in (0, 1))
            ratio = statistics.median(pair[0][0] / pair[1][0] for pair in pairs)
            figures = (cpu, bare_cpu, ratio, wall, bare_wall)
            print(f"{title:28}" + "".join(f"{figure:10.3f}" for figure in figures))


if __name__ == "__main__":
    main()
