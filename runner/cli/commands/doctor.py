"""``runner doctor``: what this machine has. Shows names of keys that are set, never a value."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys

from rich import box
from rich.console import Console
from rich.table import Table

from runner import __version__
from runner.engine.marking import credentials_folder
from runner.images import c2pa
from runner.settings.confdir import conf_dir
from runner.settings.errors import PrerequisiteError, RequestError

_EXTRAS: dict[str, tuple[str, ...]] = {
    "local": ("torch", "diffusers", "transformers", "accelerate"),
    "openai": ("openai", "aiohttp"),
    "bedrock": ("boto3",),
    "vertex": ("google-cloud-aiplatform",),
    "google": ("google-genai",),
    "huggingface": ("huggingface_hub",),
    "ray": ("ray",),
    "c2pa": ("c2pa-python",),
    "export": ("pyarrow", "datasets"),
}

_KEY_ENDINGS = (
    "_API_KEY",
    "_API_TOKEN",
    "_ACCESS_KEY_ID",
    "_TOKEN",
    "_API_KEY_ID",
    "_TOKEN_BEDROCK",
)


def command(argv: list[str]) -> int:
    """Print versions, extras, devices and the names of the keys that are set.

    ``--make-test-certificate`` makes what ``output.embed=[c2pa]`` signs with, to try it out.
    """
    if argv:
        if argv != ["--make-test-certificate"]:
            raise RequestError("usage: python -m runner doctor [--make-test-certificate]")
        return _make_test_certificate()
    console = Console()
    table = Table(box=box.SIMPLE, show_header=False, pad_edge=False)
    table.add_row("runner", __version__)
    table.add_row("python", f"{sys.version.split()[0]} on {platform.platform()}")
    table.add_row("cores", str(os.cpu_count()))
    table.add_row("config tree", str(conf_dir()))
    for extra, packages in _EXTRAS.items():
        versions = {name: _version(name) for name in packages}
        lacking = [name for name, version in versions.items() if version is None]
        have = " ".join(f"{name} {version}" for name, version in versions.items() if version)
        fix = f"pip install 'image-batch-runner[{extra}]'" if lacking else ""
        table.add_row(f"extra {extra}", have if not lacking else f"not installed: {fix}")
    table.add_row("device", _device())
    keys = sorted(name for name in os.environ if name.endswith(_KEY_ENDINGS))
    table.add_row("keys set (names)", " ".join(keys) or "none")
    console.print(table)
    return 0


def _make_test_certificate() -> int:
    folder = credentials_folder()
    if (folder / "key.pem").exists():
        raise RequestError(f"{folder}: holds a key already, which stays; remove it by hand first")
    if not c2pa.available():
        raise PrerequisiteError(
            "a certificate needs the extra: pip install 'image-batch-runner[c2pa]'"
        )
    made = c2pa.make_test_credentials()
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / "key.pem", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(made.key)
    (folder / "chain.pem").write_text(made.certificates, encoding="ascii")
    print(f"a test certificate, valid for a year and trusted by nobody but you: {folder}")
    print("sign with it: python -m runner 'output.embed=[c2pa]'")
    return 0


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _device() -> str:
    if _version("torch") is None:
        return "torch is not installed: no local pipelines"
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        return f"cuda: {', '.join(names)}"
    if torch.backends.mps.is_available():
        return "mps"
    return f"cpu ({torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads)"
