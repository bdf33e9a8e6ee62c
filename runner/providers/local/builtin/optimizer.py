"""Optimizers of the training: Muon for the hidden matrices, AdamW for everything else."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

_QUINTIC = (3.4445, -4.7750, 2.0315)


def orthogonalise(matrices: Tensor, rounds: int = 5) -> Tensor:
    """Replace a stack of matrices by nearly orthogonal ones with the same singular vectors."""
    a, b, c = _QUINTIC
    x = matrices / (matrices.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    for _ in range(rounds):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):  # type: ignore[misc]
    """Momentum whose update is orthogonalised, in float32.

    ``torch.optim.Muon`` does the same in bfloat16, which many CPUs only emulate, and takes no
    convolutions. Updates have the size that AdamW's have, so that learning rates compare.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], lr: float, momentum: float = 0.95
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def step(self, closure: Callable[[], float] | None = None) -> None:
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[tuple[nn.Parameter, Tensor]]] = {}
            for p in group["params"]:
                state: dict[str, Any] = self.state[p]
                average = state.setdefault("average", torch.zeros_like(p))
                average.lerp_(p.grad, 1 - group["momentum"])
                ahead = p.grad.lerp(average, group["momentum"]).flatten(1)
                by_shape.setdefault(ahead.shape, []).append((p, ahead))
            for shape, pairs in by_shape.items():
                updates = orthogonalise(torch.stack([ahead for _, ahead in pairs]))
                scale = -group["lr"] * 0.2 * math.sqrt(max(shape))
                for (p, _), update in zip(pairs, updates, strict=True):
                    p.add_(update.view(p.shape), alpha=scale)


class Optimizers:
    """Both optimizers under one cosine schedule that ends at zero."""

    def __init__(
        self,
        parameters: Iterable[tuple[str, nn.Parameter]],
        is_hidden: Callable[[str, nn.Parameter], bool],
        *,
        rates: tuple[float, float],
        momentum: float,
        warmup: int,
        steps: int,
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

    def step(self, done: int) -> None:
        """Make one update; ``done`` updates were made before it."""
        share = min(1.0, (done + 1) / self._warmup)
        share *= 0.5 + 0.5 * math.cos(math.pi * min(1.0, done / self._steps))
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
