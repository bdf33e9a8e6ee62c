"""The wheel, installed into an empty environment in another folder, runs the same."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from runner.settings.confdir import conf_dir
from tests.cli.runs import rows
from tests.conftest import REPOSITORY


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", target]
    subprocess.run([*build, REPOSITORY], check=True, capture_output=True)
    (built,) = target.glob("*.whl")
    return built


def test_the_wheel_holds_conf_schemas_page_and_model(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for path in conf_dir().rglob("*.yaml"):
        assert f"runner/conf/{path.relative_to(conf_dir())}" in names
    for folder in ("record/schemas", "report/assets", "providers/local/builtin/model"):
        for path in (REPOSITORY / "runner" / folder).rglob("*"):
            if path.is_file():
                assert str(path.relative_to(REPOSITORY)) in names
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/", "conf/"))]


@pytest.mark.install
def test_an_empty_environment_runs_the_wheel_with_its_own_conf(wheel: Path, tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    python = venv / "bin/python"
    install = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "-c", REPOSITORY / "constraints.txt", wheel],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if install.returncode and "Could not find a version" in install.stderr:
        pytest.skip("no package index can be reached from here")
    assert install.returncode == 0, install.stderr
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    environment = {**os.environ, "PYTHONPATH": ""}
    for command in ([python, "-m", "runner"], [venv / "bin/runner"]):
        done = subprocess.run(
            [*command, "provider=fake", "prompt=a fox", "style=flat", "seed=1"],
            cwd=elsewhere, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
    assert len(list(elsewhere.glob("outputs/*/*"))) == 2
    first = sorted(elsewhere.glob("outputs/*/*"))[0]
    assert "vector" in rows(first)[0]["prompt"]
    missing = subprocess.run(
        [python, "-m", "runner", "prompt=a fox"],
        cwd=elsewhere, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert missing.returncode == 3
    assert "pip install 'image-batch-runner[local]'" in missing.stderr
