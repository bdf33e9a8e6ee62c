"""A local sweep against Hydra's own multirun of a naive script: ``python benchmarks/sweep.py``.

    python benchmarks/sweep.py [--cells 200] [--steps 4] [--batch-size 8]

Both sides make the same images with the built-in model, one CPU thread, each in one process from
start to end. The script is what one would write first: a Hydra app that loads the pipeline, makes
one image and saves it; ``-m`` runs it once for each cell. Ours writes what a run writes: durable
images, journal, rows, page and contact sheet. Prints CPU and wall seconds and their ratios.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

APP = """\
import hydra, torch
from diffusers import DiffusionPipeline
@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(config):
    pipe = DiffusionPipeline.from_pretrained(
        config.model, text_encoder_3=None, tokenizer_3=None, use_safetensors=True
    )
    pipe.set_progress_bar_config(disable=True)
    image = pipe(
        config.prompt,
        num_inference_steps=config.steps,
        guidance_scale=4,
        max_sequence_length=32,
        generator=torch.Generator().manual_seed(config.seed),
        width=64,
        height=64,
    ).images[0]
    image.save(f"{hydra.core.hydra_config.HydraConfig.get().runtime.output_dir}/image.png")
if __name__ == "__main__":
    main()
"""
CONFIG = "prompt: a red star\nseed: 0\nsteps: {steps}\nmodel: {model}\n"
PROMPTS = "prompt=a red star,a blue circle,a green ring,a black heart"


def measure(command: list[str], cwd: str) -> tuple[float, float]:
    """CPU and wall seconds of one process."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    quiet = subprocess.DEVNULL
    subprocess.run(command, cwd=cwd, env=environment, check=True, stdout=quiet, stderr=quiet)
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, wall


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=200)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=8)
    options = parser.parse_args()
    from runner.providers.local.builtin import MODEL_DIR

    seeds = f"seed=range(0,{options.cells // 4})"
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "app.py").write_text(APP)
        (Path(folder) / "conf").mkdir()
        config = CONFIG.format(steps=options.steps, model=MODEL_DIR)
        (Path(folder) / "conf/config.yaml").write_text(config)
        size = f"device.batch_size={options.batch_size}"
        ours = measure(
            [sys.executable, "-m", "runner", "-m", "device=cpu", "device.threads=1", size,
             f"steps={options.steps}", PROMPTS, seeds, "hydra.sweep.dir=ours"],
            folder,
        )  # fmt: skip
        naive = measure([sys.executable, "app.py", "-m", PROMPTS, seeds], folder)
    print(f"{options.cells} cells, {options.steps} steps, batches of {options.batch_size}")
    print(f"{'':8}{'CPU s':>10}{'wall s':>10}")
    print(f"{'ours':8}{ours[0]:10.1f}{ours[1]:10.1f}")
    print(f"{'naive':8}{naive[0]:10.1f}{naive[1]:10.1f}")
    print(f"{'ratio':8}{naive[0] / ours[0]:10.2f}{naive[1] / ours[1]:10.2f}")


if __name__ == "__main__":
    main()
