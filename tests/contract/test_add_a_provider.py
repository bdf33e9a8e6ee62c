"""The example of ``docs/add_a_provider.md``, copied block by block and run as a third party's."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "add_a_provider.md"
BLOCK = re.compile(r"^```(?:python|yaml|toml)\n# (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example's files, installed as far as entry points care."""
    folder = tmp_path_factory.mktemp("lantern")
    blocks = dict(BLOCK.findall(PAGE.read_text(encoding="utf-8")))
    assert set(blocks) == {
        "lantern.py",
        "conf/provider/lantern.yaml",
        "conf/model/lantern/lantern_2.yaml",
        "pyproject.toml",
        "lantern_server.py",
        "test_lantern.py",
    }
    for name, text in blocks.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    entry = re.search(r'^\[project\.entry-points\."(.+)"\]\n(.+)$', blocks["pyproject.toml"], re.M)
    assert entry is not None
    info = folder / "lantern-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lantern\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{entry[1]}]\n{entry[2].replace(chr(34), '')}\n")
    return folder


def _run(package: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=package,
        env={**os.environ, "PYTHONPATH": f"{package}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def test_the_example_keeps_the_contract(package: Path) -> None:
    done = _run(package, "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", ".")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\b(3|4|5)\d passed", done.stdout), done.stdout


def test_the_example_is_clean(package: Path) -> None:
    config = ["--config", str(ROOT / "pyproject.toml")]
    for check in (
        ["check", *config, "--ignore", "D", "--ignore", "I"],
        ["format", "--check", *config],
    ):
        done = _run(package, "ruff", *check, "lantern.py", "lantern_server.py", "test_lantern.py")
        assert done.returncode == 0, done.stdout + done.stderr
    done = _run(
        package, "mypy", "--strict", "--config-file", str(ROOT / "pyproject.toml"), "lantern.py"
    )
    assert done.returncode == 0, done.stdout + done.stderr
