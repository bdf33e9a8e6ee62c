"""Where the pixels are computed: environment, device, dtype, threads, and the facts of the machine.

Nothing here imports torch until :func:`choose_machine` is called.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from runner.providers.local.options import DiffusersOptions, Offload
from runner.settings.cell import Json
from runner.settings.errors import PrerequisiteError
from runner.settings.schema import DeviceSettings

if TYPE_CHECKING:
    import torch

PACKAGES = (
    "torch", "diffusers", "transformers", "accelerate", "safetensors", "numpy", "pillow", "peft",
    "compel",
)  # fmt: skip
"""Distributions whose version may change a pixel or a file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What a pipeline runs on. All of it belongs to the recipe of an image.

    Attributes:
        device: A torch device: ``cpu``, ``cuda:0`` …, ``mps``.
        device_name: The processor's or the GPU's own name.
        dtype: Name of a torch dtype: ``float32``, ``bfloat16`` or ``float16``.
        threads: CPU threads inside one operation.
        cpu_capability: Instruction set that torch uses, such as ``AVX512``.
        offload: What is kept on the CPU while it is not needed.
        tiling: Whether large images are decoded in tiles.
    """

    device: str
    device_name: str
    dtype: str
    threads: int
    cpu_capability: str
    offload: Offload
    tiling: bool


def prepare_environment(threads: int | None) -> None:
    """Set what the libraries read once, when they are imported. A value already set wins.

    Args:
        threads: CPU threads inside one operation; ``None`` leaves it to the libraries.
    """
    defaults = {
        # Spinning OpenMP threads make a batch ten times slower beside one other busy process.
        "OMP_WAIT_POLICY": "PASSIVE",
        # Without it cuBLAS may choose another summation order from run to run.
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        # The pool of the tokenizers warns about every fork, and has nothing to do for prompts.
        "TOKENIZERS_PARALLELISM": "false",
    }
    if threads is not None:
        defaults["OMP_NUM_THREADS"] = str(threads)
    for name, value in defaults.items():
        os.environ.setdefault(name, value)


def choose_machine(
    settings: DeviceSettings, options: DiffusersOptions, weights: Weights
) -> Machine:
    """Settle device, dtype, threads and what fits into the memory, and tell torch about them.

    Call it on the thread that computes, after :func:`prepare_environment`.

    Args:
        settings: What is asked.
        options: Options that win over what the memory suggests.
        weights: How large the model is.

    Raises:
        PrerequisiteError: The device is not there.
    """
    import torch

    device = _device(settings.name)
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    torch.backends.cudnn.deterministic = True
    dtype = _dtype(device) if settings.dtype == "auto" else settings.dtype
    free = free_bytes(device) if settings.memory == "auto" else None
    offload, tiling = suited(settings.memory, free, weights.bytes_as(dtype))
    return Machine(
        device=str(device),
        device_name=_device_name(device),
        dtype=dtype,
        threads=torch.get_num_threads(),
        cpu_capability=torch.backends.cpu.get_cpu_capability(),
        offload=options.offload or offload,
        tiling=tiling if options.vae_tiling is None else options.vae_tiling,
    )


@dataclass(frozen=True, slots=True)
class Weights:
    """How many numbers a model's largest part and all of it hold."""

    largest: int
    all: int

    def __add__(self, other: Weights) -> Weights:
        return Weights(max(self.largest, other.largest), self.all + other.all)

    def bytes_as(self, dtype: str) -> tuple[int, int]:
        """Their bytes as numbers of a type."""
        width = 4 if dtype == "float32" else 2
        return self.largest * width, self.all * width


_ROOM = 2 * 2**30
"""Bytes left free for what is computed: about what an image of 1024 x 1024 takes."""


def suited(memory: str, free: int | None, weights: tuple[int, int]) -> tuple[Offload, bool]:
    """What fits into the memory: how much is kept on the CPU, and whether to decode in tiles.

    Args:
        memory: ``auto``, ``high`` (everything on the device) or ``low`` (as little as possible).
        free: Free bytes of the device; ``None`` where it shares the machine's memory.
        weights: Bytes of the model's largest part and of all of it.
    """
    if memory == "low":
        return "model", True
    if memory == "high" or free is None or weights[1] + _ROOM <= free:
        return "none", False
    return ("model" if weights[0] + _ROOM <= free else "sequential"), True


def free_bytes(device: torch.device) -> int | None:
    """Free memory of a GPU that has its own; ``None`` for other devices."""
    import torch

    return int(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else None


def recipe(
    machine: Machine, batch_size: int, scheduler: str, options: Mapping[str, Json]
) -> dict[str, Json]:
    """Everything besides the request that a pixel depends on: equal recipes give equal pixels.

    Args:
        machine: What the pipeline runs on.
        batch_size: Images that were computed together, padding included.
        scheduler: Class name of the scheduler.
        options: Further options that were set.
    """
    memory: dict[str, Json] = {"offload": machine.offload} if machine.offload != "none" else {}
    if machine.tiling:
        memory["vae_tiling"] = True
    return {
        "device": machine.device.partition(":")[0],
        "device_name": machine.device_name,
        "dtype": machine.dtype,
        "batch_size": batch_size,
        "threads": machine.threads,
        "cpu_capability": machine.cpu_capability,
        "scheduler": scheduler,
        **options,
        **memory,
        **{name: number for name, number in package_versions().items() if name in PACKAGES[:3]},
    }


@cache
def package_versions() -> Mapping[str, str]:
    """Installed versions of :data:`PACKAGES`, without importing any of them."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def free_memory() -> None:
    """Give cached memory back to the device."""
    import gc

    from accelerate.utils.memory import clear_device_cache

    gc.collect()
    clear_device_cache()


def _device(name: str) -> torch.device:
    import torch

    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if name == "auto":
        name = "cuda" if cuda else "mps" if mps else "cpu"
    if name.startswith("cuda"):
        count = torch.cuda.device_count() if cuda else 0
        index = int(name.partition(":")[2] or 0)
        if index >= count:
            raise PrerequisiteError(
                f"device.name={name}: torch {torch.__version__} sees {count} CUDA devices here; "
                "take device=cpu, or install a torch that is built for this machine's driver"
            )
        return torch.device("cuda", index)
    if name == "mps" and not mps:
        raise PrerequisiteError(
            f"device.name=mps: torch {torch.__version__} has no Metal device here; take device=cpu"
        )
    return torch.device(name)


def _dtype(device: torch.device) -> str:
    import torch

    if device.type == "cpu":
        return "float32"
    half = device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False)
    return "float16" if half else "bfloat16"


def _device_name(device: torch.device) -> str:
    import torch

    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
