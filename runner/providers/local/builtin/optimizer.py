"""Optimizers of the training: Muon for the hidden matrices, AdamW for everything else."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

_QUINTIC = (3.4445, -4.7750, 2.0315)


def orthogonalise(matrix: Tensor, rounds: int = 5) -> Tensor:
    """Find a nearly orthogonal matrix with the same singular vectors."""
    a, b, c = _QUINTIC
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.mT if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(rounds):
        gram = x @ x.mT
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):  # type: ignore[misc]
    """Momentum whose update is orthogonalised, in float32.

    ``torch.optim.Muon`` does the same in bfloat16, which many CPUs only emulate, and takes no
    convolutions. Updates have the size that AdamW's have, so that learning rates compare.
    Processes that train together share the work.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], lr: float, momentum: float = 0.95
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def step(self, closure: Callable[[], float] | None = None) -> None:
        """Update every parameter."""
        rank, processes = 0, 1
        if dist.is_initialized():
            rank, processes = dist.get_rank(), dist.get_world_size()
        for group in self.param_groups:
            updates = []
            for i, p in enumerate(group["params"]):
                average = self.state[p].setdefault("average", torch.zeros_like(p))
                average.lerp_(p.grad, 1 - group["momentum"])
                if i % processes != rank:
                    updates.append(torch.zeros_like(p))
                    continue
                update = orthogonalise(p.grad.lerp(average, group["momentum"]).flatten(1))
                updates.append((update * 0.2 * math.sqrt(max(update.shape))).view(p.shape))
            add_over_processes(updates)
            for p, update in zip(group["params"], updates, strict=True):
                p.add_(update, alpha=-group["lr"])


def add_over_processes(tensors: Sequence[Tensor]) -> None:
    """Replace tensors by their sums over all processes that train together."""
    if not dist.is_initialized():
        return
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    dist.all_reduce(flat)
    for tensor, piece in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
        tensor.copy_(piece.view(tensor.shape))


def cosine(progress: float) -> float:
    """Share of the full learning rate: half a cosine wave from one to zero."""
    return 0.5 + 0.5 * math.cos(math.pi * progress)


def plateau(progress: float) -> float:
    """Share of the full learning rate: constant, then a straight line to zero."""
    return min(1.0, (1 - progress) / 0.35)


class Optimizers:
    """Both optimizers under one schedule that ends at zero."""

    def __init__(
        self,
        parameters: Iterable[tuple[str, nn.Parameter]],
        is_hidden: Callable[[str, nn.Parameter], bool],
        *,
        rates: tuple[float, float],
        momentum: float,
        warmup: int,
        steps: int,
        schedule: Callable[[float], float] = cosine,
    ) -> None:
        named = list(parameters)
        hidden = [p for name, p in named if is_hidden(name, p)]
        others = [p for name, p in named if not is_hidden(name, p)]
        self._optimizers = (
            Muon(hidden, lr=rates[0], momentum=momentum),
            torch.optim.AdamW(others, lr=rates[1], betas=(0.9, 0.97), weight_decay=0.0),
        )
        self._rates = rates
        self._warmup = warmup
        self._steps = steps
        self._schedule = schedule

    def step(self, done: int) -> None:
        """Make one update; ``done`` updates were made before it."""
        share = self._schedule(done / self._steps) * min(1.0, (done + 1) / self._warmup)
        for optimizer, rate in zip(self._optimizers, self._rates, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate * share
            optimizer.step()
            optimizer.zero_grad()

    def state_dict(self) -> list[dict[str, Any]]:
        """The state of both, for a checkpoint."""
        return [optimizer.state_dict() for optimizer in self._optimizers]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        """Continue from a checkpoint."""
        for optimizer, state in zip(self._optimizers, states, strict=True):
            optimizer.load_state_dict(state)
