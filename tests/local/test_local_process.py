"""Another process, another way to the weights: the same bytes."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("diffusers")

from runner.settings.errors import PrerequisiteError
from tests import tiny
from tests.local.driver import cell, make_provider, opened
from tests.local.hub_server import COMMIT, serve

SCRIPT = """
import hashlib, json, sys
from tests.local.driver import cell, opened
with opened("owner/name", batch_size=3) as driver:
    files = driver.files(cell("a black cat", 1), cell("a red fox", 7))
    print(json.dumps({
        "sha256": [hashlib.sha256(data).hexdigest() for data in files],
        "known": driver.provider.model_identity(),
        "identity": driver.provider.identity(),
    }))
"""


def test_downloaded_in_another_process_then_from_the_cache_then_from_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny.build("sd3_no_t5", tmp_path / "model")
    for name in ("pytorch_model.bin", "notes.md"):
        (folder / "vae" / name).write_text("not wanted")
    with serve("owner/name", folder) as (address, fetched):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env={
                **os.environ,
                "HF_HOME": str(tmp_path / "home"),
                "HF_ENDPOINT": address,
                "HF_HUB_OFFLINE": "0",
                "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            },
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    online = json.loads(done.stdout)
    assert "vae/diffusion_pytorch_model.safetensors" in fetched
    assert not any(name.endswith((".bin", ".md")) for name in fetched)
    assert online["known"]["commit"] == COMMIT
    assert online["identity"]["model"]["hub"] == "owner/name"

    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "home" / "hub"))
    for model in ("owner/name", folder):
        with opened(model, batch_size=3) as driver:
            files = driver.files(cell("a red fox", 7), cell("a black cat", 1))
            known = driver.provider.model_identity()
        assert [hashlib.sha256(data).hexdigest() for data in files[::-1]] == online["sha256"]
        assert known["files"] == online["known"]["files"]


def test_a_hub_that_does_not_answer_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    provider = make_provider("owner/name")
    provider.check_ready()
    with pytest.raises(PrerequisiteError, match="'owner/name': could not be fetched") as caught:
        asyncio.run(provider.open())
    assert "\n" not in str(caught.value)
    asyncio.run(provider.close())
