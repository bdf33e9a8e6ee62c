"""Another process, another way to the weights: the same bytes."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

pytest.importorskip("diffusers")

from runner.settings.errors import PrerequisiteError
from tests import tiny
from tests.cli.runs import manifest, rows
from tests.conftest import RunCli
from tests.local.driver import cell, make_provider, opened
from tests.local.hub_server import COMMIT, Hub, serve

MOVED = "fedcba9876543210fedcba9876543210fedcba98"


def online(hub: Hub, home: Path) -> Mapping[str, str]:
    """The environment of a process that reaches the hub and has a cache of its own."""
    return {
        **os.environ,
        "HF_HOME": str(home),
        "HF_ENDPOINT": hub.address,
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }


def test_a_branch_that_moved_is_made_again_from_its_old_commit(
    run_cli: RunCli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny.build("sd3_no_t5", tmp_path / "model")
    for name in ("pytorch_model.bin", "notes.md"):
        (folder / "vae" / name).write_text("not wanted")
    run = tmp_path / "run"
    with serve("owner/name", folder) as hub:
        done = run_cli(
            "-m", "model=hub/sd35_medium", "model.name=owner/name", "model.revision=main",
            "device=cpu", "device.threads=1", "device.batch_size=3", "size=64x64", "steps=2",
            "guidance_scale=7", "prompt=a black cat,a red fox", "seed=7", f"hydra.sweep.dir={run}",
            env=online(hub, tmp_path / "home"),
        )  # fmt: skip
        assert done.code == 0, done.text
        fetched = {name for _, name in hub.fetched}
        assert "vae/diffusion_pytorch_model.safetensors" in fetched
        assert not any(name.endswith((".bin", ".md")) for name in fetched)

        hub.move(MOVED, tiny.build("sd3_no_t5", tmp_path / "moved", weights_seed=1))
        hub.fetched.clear()
        again = run_cli("rerun", str(run), env=online(hub, tmp_path / "elsewhere"))
        assert again.code == 0, again.text
        assert "2 identical-bytes" in again.out
        assert {commit for commit, _ in hub.fetched} == {COMMIT}
    (rerun,) = (tmp_path / "outputs").glob("*/*")
    for folder_made in (run, rerun):
        (variant,) = manifest(folder_made)["variants"]
        assert variant["settled"] == {"model.commits": {"owner/name": COMMIT}}
        assert variant["model_identity"]["commit"] == COMMIT
        assert variant["model_identity"]["revision"] == "main"

    # The same weights from the cache, and as a folder.
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "home" / "hub"))
    asked = {"guidance_scale": 7}
    for model in ("owner/name", folder):
        with opened(model, batch_size=3) as driver:
            files = driver.files(cell("a red fox", 7, **asked), cell("a black cat", 7, **asked))
            known = driver.provider.model_identity()
        hashes = [hashlib.sha256(data).hexdigest() for data in files]
        assert hashes == [row["sha256"] for row in rows(run)][::-1]
        assert known["files"] == variant["model_identity"]["files"]


def closed(hub: Hub) -> None:
    hub.closed = True


def gone(hub: Hub) -> None:
    hub.commits.clear()


@pytest.mark.parametrize(
    ("name", "fault", "said"),
    [
        ("owner/name", closed, "gated (ask for access"),
        ("owner/other", None, "no such model (check the name"),
        ("owner/name", gone, "no such revision"),
    ],
)
def test_a_model_that_the_hub_does_not_give_is_one_sentence(
    name: str,
    fault: Callable[[Hub], None] | None,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from huggingface_hub import constants

    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with serve("owner/name", tmp_path) as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.address)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE",
            hub.address + "/{repo_id}/resolve/{revision}/{filename}",
        )  # fmt: skip
        if fault is not None:
            fault(hub)
        provider = make_provider(name)
        provider.check_ready()
        with pytest.raises(PrerequisiteError, match=f"'{name}'") as caught:
            asyncio.run(provider.open())
    assert "\n" not in str(caught.value)
    assert said in str(caught.value)
    asyncio.run(provider.close())


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
