"""Train the built-in model from scratch.

    python -m runner.providers.local.builtin.train vae          # autoencoder
    python -m runner.providers.local.builtin.train latents      # encode the drawings once
    python -m runner.providers.local.builtin.train captions     # text encoders alone
    python -m runner.providers.local.builtin.train transformer  # text encoders and transformer
    python -m runner.providers.local.builtin.train save         # write the pipeline
    python -m runner.providers.local.builtin.train controlnet   # edges for the saved pipeline

The ControlNet is written beside the pipeline, into ``controlnet/`` next to ``--out``.

A pipeline that was saved before is trained further by ``start`` in place of ``vae`` and
``captions``: it turns the pipeline in ``--out`` into checkpoints.

Two or more processes share a batch when started by ``torchrun --standalone --nproc-per-node N
-m runner.providers.local.builtin.train …``; on a small CPU, two processes of one thread are
faster than one of two. A stage that was interrupted continues from its last checkpoint.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812
from diffusers import AutoencoderKL
from PIL import Image
from torch import Tensor, nn

from runner.providers.local.builtin import MODEL_DIR, networks, scenes
from runner.providers.local.builtin.captions import CaptionReader
from runner.providers.local.builtin.measure import load_pipeline
from runner.providers.local.builtin.optimizer import Optimizers, add_over_processes, plateau
from runner.providers.local.builtin.painter import Painter
from runner.providers.local.canny import canny

_CHECKPOINT_EVERY = 250
_LOG_EVERY = 50
_EMA_DECAY = 0.998
_CAPTION_DROPOUT = 0.1
_CONTROL_CAPTION_DROPOUT = 0.3
"""Without a caption the edges alone say what is where, as they must for guidance to add to them."""
_UNKNOWN_WORDS = 0.25
_ONLY_UNKNOWN_WORDS = 0.03
_NULL_TOKENS = (1, 32, 77, 256, 256, 256)
"""Numbers of zero tokens that stand in for T5; 256 is what the pipeline appends by default."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line sets."""

    work: Path
    steps: int
    batch: int
    scenes: int
    seed: int
    out: Path
    pairs: float


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one stage."""
    parser = argparse.ArgumentParser(
        prog="python -m runner.providers.local.builtin.train",
        description=(__doc__ or "").partition("\n")[0],
    )
    parser.add_argument("stage", choices=_STAGES)
    parser.add_argument("--work", type=Path, default=Path("builtin-training"), help="checkpoints")
    parser.add_argument("--steps", type=int, default=0, help="updates; 0: the stage's own number")
    parser.add_argument("--batch", type=int, default=0, help="pictures; 0: the stage's own number")
    parser.add_argument("--scenes", type=int, default=30_000, help="drawings to train on")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=MODEL_DIR, help="folder of the pipeline")
    parser.add_argument(
        "--pairs", type=float, default=0.5, help="share of drawings of two things (transformer)"
    )
    given = parser.parse_args(arguments)
    stage, steps, batch = _STAGES[given.stage]
    options = Options(
        given.work,
        given.steps or steps,
        given.batch or batch,
        given.scenes,
        given.seed,
        given.out,
        given.pairs,
    )
    options.work.mkdir(parents=True, exist_ok=True)
    if "RANK" in os.environ:
        dist.init_process_group("gloo")
    torch.manual_seed(options.seed)
    stage(options)
    if dist.is_initialized():
        dist.destroy_process_group()


def train_vae(options: Options) -> None:
    """Train the autoencoder on crowded drawings, which have more to reconstruct than tidy ones."""
    vae = networks.build_vae().to(memory_format=torch.channels_last)
    optimizers = Optimizers(
        vae.named_parameters(),
        lambda name, p: p.ndim == 4 and "conv_in" not in name and "conv_out" not in name,
        rates=(1.5e-3, 3e-3),
        momentum=0.9,
        warmup=20,
        steps=options.steps,
    )

    def loss_of(rng: random.Random, done: int) -> Tensor:
        drawn = (_crowd(rng) if i % 4 else scenes.sample_scene(rng) for i in range(_share(options)))
        pixels = _pixels([scenes.render(scene, networks.PIXELS) for scene in drawn])
        posterior = vae.encode(pixels).latent_dist
        mean, variance = posterior.mean, posterior.var
        error = (vae.decode(posterior.sample()).sample - pixels).abs().mean()
        divergence = (mean.square() + variance - 1 - posterior.logvar).mean() / 2
        return error + 1e-3 * min(1.0, done / 300) * divergence

    _loop(options, "vae", vae, optimizers, loss_of)


def encode_drawings(options: Options) -> None:
    """Encode the drawings once, and find the shift and scale that make latents unit normal."""
    vae = _trained_vae(options).eval()
    drawn = _drawings(options)
    latents = []
    with torch.no_grad():
        while chunk := list(itertools.islice(drawn, 200)):
            pixels = _pixels([scenes.render(scene, networks.PIXELS) for scene in chunk])
            latents.append(vae.encode(pixels).latent_dist.mean.contiguous())
    stacked = torch.cat(latents)
    shift, scale = stacked.mean().item(), 1 / stacked.std().item()
    torch.save(
        {"latents": (stacked - shift) * scale, "shift": shift, "scale": scale},
        options.work / "latents.pt",
    )
    print(f"{len(stacked)} drawings, shift {shift:.4f}, scale {scale:.4f}")


def train_captions(options: Options) -> None:
    """Train the text encoders alone to tell what a caption says."""
    tokenizer = networks.build_tokenizer()
    reader = CaptionReader(tokenizer, networks.build_text_encoders(tokenizer))
    optimizers = Optimizers(
        reader.named_parameters(),
        _is_hidden,
        rates=(2e-3, 2e-3),
        momentum=0.95,
        warmup=50,
        steps=options.steps,
    )

    def loss_of(rng: random.Random, done: int) -> Tensor:
        drawn = [scenes.sample_scene(rng) for _ in range(_share(options))]
        return reader.loss([_caption(scene, rng) for scene in drawn], drawn)

    _loop(options, "captions", reader, optimizers, loss_of)


def train_transformer(options: Options) -> None:
    """Train the text encoders and the transformer together by flow matching."""
    latents: Tensor = torch.load(options.work / "latents.pt", weights_only=True)["latents"]
    drawn = list(_drawings(options))
    painter = Painter()
    start = options.work / "start.pt"
    known = _load(start if start.exists() else options.work / "captions.pt")["weights"]
    wanted = painter.state_dict()
    painter.load_state_dict(
        {key: value for key, value in known.items() if key in wanted}, strict=False
    )
    optimizers = Optimizers(
        painter.named_parameters(),
        _is_hidden,
        rates=(3e-3, 2.5e-3),
        momentum=0.95,
        warmup=100,
        steps=options.steps,
        schedule=plateau,
    )

    by_things = [[i for i, s in enumerate(drawn) if len(s.things) == count] for count in (1, 2)]

    def loss_of(rng: random.Random, done: int) -> Tensor:
        chosen = [
            rng.choice(by_things[rng.random() < options.pairs]) for _ in range(_share(options))
        ]
        captions = [_caption(drawn[i], rng) for i in chosen]
        noisy, times, velocity = _flow(latents[chosen])
        painter.attention.set_count(rng.choice(_NULL_TOKENS))
        return F.mse_loss(painter(noisy, times, captions), velocity)

    _loop(options, "transformer", painter, optimizers, loss_of)


def start_from_saved(options: Options) -> None:
    """Turn a saved pipeline into the checkpoints that the other stages continue from."""
    pipeline = load_pipeline(options.out)
    torch.save({"weights": pipeline.vae.state_dict()}, options.work / "vae.pt")
    painter = Painter()
    painter.read(pipeline)
    torch.save({"weights": painter.state_dict()}, options.work / "start.pt")


def save(options: Options) -> None:
    """Write the averaged weights as a pipeline."""
    painter = Painter()
    painter.load_state_dict(_load(options.work / "transformer.pt")["average"])
    statistics = _load(options.work / "latents.pt")
    vae = _trained_vae(options).to(memory_format=torch.contiguous_format)
    vae.register_to_config(shift_factor=statistics["shift"], scaling_factor=statistics["scale"])
    networks.save(
        networks.build_pipeline(vae, tuple(painter.encoders), painter.transformer), options.out
    )


def train_controlnet(options: Options) -> None:
    """Teach a ControlNet to draw along edges, with the saved pipeline as it is, and write it."""
    pipeline = load_pipeline(options.out)
    painter = Painter().requires_grad_(False)
    painter.read(pipeline)
    controlnet = networks.build_controlnet(painter.transformer)
    drawn = list(_drawings(options))
    latents, edges = _edge_pairs(options, drawn, pipeline.vae)
    optimizers = Optimizers(
        controlnet.named_parameters(),
        _is_hidden,
        rates=(5e-3, 2e-3),
        momentum=0.95,
        warmup=50,
        steps=options.steps,
        schedule=plateau,
    )
    no_text = torch.zeros(_share(options), controlnet.config.pooled_projection_dim)

    def loss_of(rng: random.Random, done: int) -> Tensor:
        chosen = [rng.randrange(len(drawn)) for _ in range(_share(options))]
        captions = [_caption(drawn[i], rng, edges=True) for i in chosen]
        # Where things are is settled early, among much noise.
        noisy, times, velocity = _flow(latents[chosen], noise_bias=1.2)
        control = controlnet(
            hidden_states=noisy,
            controlnet_cond=edges[chosen],
            pooled_projections=no_text,
            timestep=times * 1000,
            return_dict=False,
        )[0]
        painter.attention.set_count(rng.choice(_NULL_TOKENS))
        return F.mse_loss(painter(noisy, times, captions, control), velocity)

    _loop(options, "controlnet", controlnet, optimizers, loss_of)
    controlnet.load_state_dict(_load(options.work / "controlnet.pt")["average"])
    networks.save(controlnet, options.out.parent / "controlnet")


def _edge_pairs(
    options: Options, drawn: Sequence[scenes.Scene], vae: AutoencoderKL
) -> tuple[Tensor, Tensor]:
    """Drawings and their edges as the pipeline encodes them: only the former are shifted."""
    vae = vae.to(memory_format=torch.channels_last)
    shift, scale = vae.config.shift_factor, vae.config.scaling_factor
    pairs: tuple[list[Tensor], list[Tensor]] = ([], [])
    with torch.no_grad():
        for start in range(0, len(drawn), 200):
            pictures = [
                scenes.render(scene, networks.PIXELS) for scene in drawn[start : start + 200]
            ]
            lines = [canny(picture).convert("RGB") for picture in pictures]
            for kept, images, moved in zip(pairs, (pictures, lines), (shift, 0), strict=True):
                kept.append((vae.encode(_pixels(images)).latent_dist.mean - moved) * scale)
    return torch.cat(pairs[0]).contiguous(), torch.cat(pairs[1]).contiguous()


def _flow(clean: Tensor, noise_bias: float = 0.5) -> tuple[Tensor, Tensor, Tensor]:
    """Latents mixed with noise, the share of the noise, and the velocity to predict."""
    noise = torch.randn_like(clean)
    times = (torch.randn(len(clean)) + noise_bias).sigmoid()
    uniform = torch.rand(len(clean))
    times = torch.where(torch.rand(len(clean)) < 0.2, uniform, times)
    mix = times[:, None, None, None]
    return (1 - mix) * clean + mix * noise, times, noise - clean


def _is_hidden(name: str, parameter: nn.Parameter) -> bool:
    """Whether a parameter is a matrix inside a layer, other than the modulation of its norms."""
    inside = "blocks." in name or ".layers." in name
    return inside and parameter.ndim == 2 and "norm1" not in name


def _loop(
    options: Options,
    name: str,
    module: nn.Module,
    optimizers: Optimizers,
    loss_of: Callable[[random.Random, int], Tensor],
) -> None:
    """Train a module, keeping a moving average of its weights and regular checkpoints."""
    path = options.work / f"{name}.pt"
    rank, processes = 0, 1
    if dist.is_initialized():
        rank, processes = dist.get_rank(), dist.get_world_size()
    parameters = [p for p in module.parameters() if p.requires_grad]
    first = 0
    if path.exists():
        state = _load(path)
        module.load_state_dict(state["weights"])
        optimizers.load_state_dict(state["optimizers"])
        first = state["done"]
    average = {key: value.clone() for key, value in module.state_dict().items()}
    if first:
        average = state["average"]
    started, losses = time.monotonic(), []
    for done in range(first, options.steps):
        # A seed per step makes a continued training draw what an uninterrupted one would.
        seed = (options.seed * 1_000_003 + done) * 64 + rank
        torch.manual_seed(seed)
        loss = loss_of(random.Random(seed), done) / processes
        loss.backward()
        add_over_processes([p.grad for p in parameters if p.grad is not None])
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizers.step(done)
        losses.append(loss.item() * processes)
        decay = min(_EMA_DECAY, (done + 1) / (done + 10))
        for key, value in module.state_dict().items():
            average[key].lerp_(value, 1 - decay) if value.is_floating_point() else None
        last = done + 1 == options.steps
        if rank == 0 and ((done + 1) % _LOG_EVERY == 0 or last):
            mean = sum(losses[-_LOG_EVERY:]) / len(losses[-_LOG_EVERY:])
            print(f"{name} {done + 1}: {mean:.4f}, {time.monotonic() - started:.0f} s", flush=True)
        if rank == 0 and ((done + 1) % _CHECKPOINT_EVERY == 0 or last):
            state = {"weights": module.state_dict(), "average": average, "done": done + 1}
            part = path.with_suffix(".part")
            torch.save({**state, "optimizers": optimizers.state_dict()}, part)
            part.replace(path)


def _share(options: Options) -> int:
    """How many pictures of a batch this process takes."""
    return options.batch // (dist.get_world_size() if dist.is_initialized() else 1)


def _drawings(options: Options) -> Iterator[scenes.Scene]:
    rng = random.Random(options.seed)
    return (scenes.sample_scene(rng) for _ in range(options.scenes))


def _caption(scene: scenes.Scene, rng: random.Random, *, edges: bool = False) -> str:
    """Words for a scene; beside its edges more often none, and half of the time not where it is."""
    style, dropout = rng.random(), _CONTROL_CAPTION_DROPOUT if edges else _CAPTION_DROPOUT
    if style < dropout:
        return ""
    if style < dropout + _ONLY_UNKNOWN_WORDS:
        return scenes.blur("", rng, "<unk>")
    text = scenes.describe(scene, rng, where=not edges or rng.random() < 0.5).text
    return scenes.blur(text, rng, "<unk>") if rng.random() < _UNKNOWN_WORDS else text


def _crowd(rng: random.Random) -> scenes.Scene:
    """Up to five things of any size anywhere, one over the other."""
    while True:
        things = []
        for _ in range(rng.randint(1, 5)):
            diameter = rng.uniform(0.22, 0.66)
            x, y = (rng.uniform(diameter / 2, 1 - diameter / 2) for _ in range(2))
            shape, colour = rng.choice(scenes.SHAPES), rng.choice(tuple(scenes.COLOURS))
            things.append(scenes.Thing(shape, colour, "medium", "center", x, y, diameter))
        scene = scenes.Scene(tuple(things), rng.choice(tuple(scenes.COLOURS)))
        if not scenes.held_out(scene):
            return scene


def _pixels(images: Sequence[Image.Image]) -> Tensor:
    stacked = torch.from_numpy(np.stack([np.asarray(image) for image in images]))
    scaled = stacked.permute(0, 3, 1, 2).float() / 127.5 - 1
    return scaled.contiguous(memory_format=torch.channels_last)


def _trained_vae(options: Options) -> AutoencoderKL:
    vae = networks.build_vae().to(memory_format=torch.channels_last)
    vae.load_state_dict(_load(options.work / "vae.pt")["weights"])
    return vae


def _load(path: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(path, weights_only=True)
    return state


_STAGES: dict[str, tuple[Callable[[Options], None], int, int]] = {
    "vae": (train_vae, 1300, 16),
    "latents": (encode_drawings, 0, 0),
    "captions": (train_captions, 550, 96),
    "start": (start_from_saved, 0, 0),
    "transformer": (train_transformer, 6000, 48),
    "save": (save, 0, 0),
    "controlnet": (train_controlnet, 3800, 32),
}

if __name__ == "__main__":
    main()
