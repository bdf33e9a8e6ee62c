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

from runner.settings.cell import Json
from runner.settings.errors import PrerequisiteError
from runner.settings.schema import DeviceSettings

if TYPE_CHECKING:
    import torch

PACKAGES = ("torch", "diffusers", "transformers", "accelerate", "safetensors", "numpy", "pillow")
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
    """

    device: str
    device_name: str
    dtype: str
    threads: int
    cpu_capability: str


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


def choose_machine(settings: DeviceSettings) -> Machine:
    """Settle device, dtype and threads, and tell torch about them.

    Call it on the thread that computes, after :func:`prepare_environment`.

    Raises:
        PrerequisiteError: The device is not there.
    """
    import torch

    device = _device(settings.name)
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    torch.backends.cudnn.deterministic = True
    dtype = settings.dtype
    if dtype == "auto":
        dtype = "float32" if device.type == "cpu" else "bfloat16"
    return Machine(
        device=str(device),
        device_name=_device_name(device),
        dtype=dtype,
        threads=torch.get_num_threads(),
        cpu_capability=torch.backends.cpu.get_cpu_capability(),
    )


def recipe(machine: Machine, batch_size: int, scheduler: str) -> dict[str, Json]:
    """Everything besides the request that a pixel depends on: equal recipes give equal pixels.

    Args:
        machine: What the pipeline runs on.
        batch_size: Images that were computed together, padding included.
        scheduler: Class name of the scheduler.
    """
    return {
        "device": machine.device.partition(":")[0],
        "device_name": machine.device_name,
        "dtype": machine.dtype,
        "batch_size": batch_size,
        "threads": machine.threads,
        "cpu_capability": machine.cpu_capability,
        "scheduler": scheduler,
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


def _device_name(device: torch.device) -> str:
    import torch

    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
