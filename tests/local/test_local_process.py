"""Another process, another way to the weights: the same bytes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("diffusers")

from tests import tiny
from tests.local.driver import cell, opened
from tests.local.hub_server import COMMIT, serve

SCRIPT = """
import hashlib, json, sys
from tests.local.driver import cell, opened
cells = [cell("a black cat", 1), cell("a red fox", 7)]
with opened(sys.argv[1], batch_size=3) as driver:
    files = driver.files(*cells)
    print(json.dumps({
        "sha256": [hashlib.sha256(data).hexdigest() for data in files],
        "known": driver.provider.model_identity(),
        "identity": driver.provider.identity(),
    }))
"""


def make_elsewhere(model: str, home: Path, **environment: str) -> tuple[dict[str, Any], str]:
    """Make two images in a new process; what it reports, and what it wrote to stderr."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, model],
        env={**os.environ, "HF_HOME": str(home), **environment},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report, done.stderr


def test_downloaded_then_offline_then_from_a_folder_in_three_processes(
    tmp_path: Path, tiny_folder: Callable[[tiny.Family], Path]
) -> None:
    folder = tiny_folder("sd3_no_t5")
    for name in ("pytorch_model.bin", "notes.md"):
        (folder / "vae" / name).write_text("not wanted")
    with serve("owner/name", folder) as (address, fetched):
        online, _ = make_elsewhere("owner/name", tmp_path, HF_ENDPOINT=address, HF_HUB_OFFLINE="0")
    assert "vae/diffusion_pytorch_model.safetensors" in fetched
    assert not any(name.endswith(".bin") for name in fetched)
    assert online["known"]["commit"] == COMMIT
    assert online["identity"]["model"]["hub"] == "owner/name"

    offline, said = make_elsewhere("owner/name", tmp_path)
    assert offline == online
    assert said == ""

    import hashlib

    with opened(folder, batch_size=3) as driver:
        files = driver.files(cell("a red fox", 7), cell("a black cat", 1))
        known = driver.provider.model_identity()
    assert [hashlib.sha256(data).hexdigest() for data in reversed(files)] == online["sha256"]
    assert known["files"] == online["known"]["files"]


def test_a_hub_that_refuses_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with serve("owner/other", tmp_path / "empty") as (address, _):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, "owner/name"],
            env={
                **os.environ,
                "HF_HOME": str(tmp_path),
                "HF_ENDPOINT": address,
                "HF_HUB_OFFLINE": "0",
            },
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
    assert "PrerequisiteError: model.name='owner/name': could not be fetched" in done.stderr
