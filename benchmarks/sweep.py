"""A local sweep against Hydra's own multirun of a naive script: ``python benchmarks/sweep.py``.

    python benchmarks/sweep.py [--model builtin|sd15] [--cells 200] [--steps 4] [--guidance 4]
                               [--size 64x64] [--batch-size 8]

Both sides make the same images with one model, one CPU thread, each in one process from start to
end. The script is what one would write first: a Hydra app that loads the pipeline, makes one image
and saves it; ``-m`` runs it once for each cell. Ours writes what a run writes: durable images,
journal, rows, page and contact sheet. Prints CPU and wall seconds and their ratios.

``sd15`` has the networks of Stable Diffusion 1.5 in their real sizes (1.07 billion numbers, 4.3 GB
in a temporary folder) with random weights: it paints noise in the time that the real one takes.
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
    pipe = DiffusionPipeline.from_pretrained(config.model, use_safetensors=True{load})
    pipe.set_progress_bar_config(disable=True)
    image = pipe(
        config.prompt,
        num_inference_steps=config.steps,
        guidance_scale=config.guidance_scale,
        generator=torch.Generator().manual_seed(config.seed),
        width={width},
        height={height},{call}
    ).images[0]
    image.save(f"{{hydra.core.hydra_config.HydraConfig.get().runtime.output_dir}}/image.png")
if __name__ == "__main__":
    main()
"""
BUILT_IN = {
    "load": ", text_encoder_3=None, tokenizer_3=None",
    "call": "\n        max_sequence_length=32,",
}
CONFIG = """\
prompt: a red star
seed: 0
steps: {steps}
guidance_scale: {guidance}
model: {model}
"""
PROMPTS = "prompt=a red star,a blue circle,a green ring,a black heart"


def write_sd15(folder: Path) -> Path:
    """The networks of Stable Diffusion 1.5 with random weights; returns ``folder``."""
    import diffusers
    import torch
    from transformers import CLIPTextConfig, CLIPTextModel

    from tests.tiny import _clip_tokenizer

    torch.manual_seed(0)
    tokenizer = _clip_tokenizer()
    diffusers.StableDiffusionPipeline(
        vae=diffusers.AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(128, 256, 512, 512),
            layers_per_block=2,
            latent_channels=4,
        ),
        text_encoder=CLIPTextModel(
            CLIPTextConfig(
                hidden_size=768,
                intermediate_size=3072,
                num_hidden_layers=12,
                num_attention_heads=12,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        ),
        tokenizer=tokenizer,
        unet=diffusers.UNet2DConditionModel(
            sample_size=64, cross_attention_dim=768, attention_head_dim=8
        ),
        scheduler=diffusers.DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            clip_sample=False,
            steps_offset=1,
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    return folder


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
    parser.add_argument("--model", choices=["builtin", "sd15"], default="builtin")
    parser.add_argument("--cells", type=int, default=200)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--guidance", type=float, default=4, help="0: none, as turbo models do")
    parser.add_argument("--size", default="64x64")
    parser.add_argument("--batch-size", type=int, default=8)
    options = parser.parse_args()
    from runner.providers.local.builtin import MODEL_DIR

    seeds = f"seed=range(0,{options.cells // 4})"
    width, height = options.size.split("x")
    with tempfile.TemporaryDirectory() as folder:
        model, words, ours_too = Path(MODEL_DIR), BUILT_IN, list[str]()
        if options.model == "sd15":
            model, words = write_sd15(Path(folder) / "sd15"), {"load": "", "call": ""}
            ours_too = ["model=hub/sd15", "model.variant=null", f"model.name={model}"]
        (Path(folder) / "app.py").write_text(APP.format(width=width, height=height, **words))
        (Path(folder) / "conf").mkdir()
        config = CONFIG.format(steps=options.steps, guidance=options.guidance, model=model)
        (Path(folder) / "conf/config.yaml").write_text(config)
        size = [f"size={options.size}", f"device.batch_size={options.batch_size}"]
        ours = measure(
            [sys.executable, "-m", "runner", "-m", *ours_too, "device=cpu", "device.threads=1",
             *size, f"steps={options.steps}", f"guidance_scale={options.guidance:g}",
             PROMPTS, seeds, "hydra.sweep.dir=ours"],
            folder,
        )  # fmt: skip
        naive = measure([sys.executable, "app.py", "-m", PROMPTS, seeds], folder)
    print(
        f"{options.model}: {options.cells} cells of {options.size}, {options.steps} steps, "
        f"guidance {options.guidance:g}, batches of {options.batch_size}"
    )
    print(f"{'':8}{'CPU s':>10}{'wall s':>10}")
    print(f"{'ours':8}{ours[0]:10.1f}{ours[1]:10.1f}")
    print(f"{'naive':8}{naive[0]:10.1f}{naive[1]:10.1f}")
    print(f"{'ratio':8}{naive[0] / ours[0]:10.2f}{naive[1] / ours[1]:10.2f}")


if __name__ == "__main__":
    main()
