"""Facts about code and machine for the manifest. Cheap, and never a reason to fail."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path

import runner
from runner.record.manifest import Code, Machine

_VECTOR_UNITS = (("avx512f", "AVX512"), ("avx2", "AVX2"), ("asimd", "NEON"), ("sve", "SVE"))


def code_facts() -> Code:
    """Version of the runner and, in a source checkout, its commit."""
    checkout = Path(runner.__file__).parent.parent
    if not (checkout / ".git").exists():
        return Code(version=runner.__version__)
    commit = _git(checkout, "rev-parse", "HEAD")
    changes = _git(checkout, "status", "--porcelain", "--untracked-files=no")
    return Code(
        version=runner.__version__,
        commit=commit or None,
        dirty=None if changes is None else bool(changes),
    )


def machine_facts(devices: Sequence[str] = ()) -> Machine:
    """Python, platform and processor.

    Args:
        devices: Names of the accelerators in use, from whoever uses them.
    """
    cpu, flags = _cpu()
    return Machine(
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        cpu=cpu,
        cpu_capability=next((name for flag, name in _VECTOR_UNITS if flag in flags), None),
        cores=os.cpu_count(),
        devices=tuple(devices),
    )


def package_versions(names: Iterable[str]) -> dict[str, str]:
    """Installed versions of distributions; those that are not installed are left out."""
    versions: dict[str, str] = {}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _git(checkout: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(checkout), *arguments],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _cpu() -> tuple[str | None, frozenset[str]]:
    """Model name and feature flags, where the kernel tells them."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or None, frozenset()
    facts: dict[str, str] = {}
    for line in text.partition("\n\n")[0].splitlines():
        name, _, value = line.partition(":")
        facts[name.strip().lower()] = value.strip()
    flags = facts.get("flags", facts.get("features", ""))
    return facts.get("model name"), frozenset(flags.split())
