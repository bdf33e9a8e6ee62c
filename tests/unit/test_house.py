"""The rules of the house: floors import only floors below, and a light start stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

FLOORS: dict[str, set[str]] = {
    "settings": set(),
    "images": {"settings"},
    "record": {"settings", "images"},
    "providers": {"settings", "images"},
    "plan": {"settings", "images", "providers"},
    "engine": {"settings", "images", "record", "providers", "plan"},
    "report": {"settings", "images", "record"},
    "cli": {"settings", "images", "record", "providers", "plan", "engine", "report"},
}
HEAVY = (
    "torch", "diffusers", "transformers", "accelerate", "openai", "boto3",
    "google.cloud.aiplatform",
    "google.genai", "ray", "jinja2", "PIL", "aiohttp", "pyarrow", "datasets",
)  # fmt: skip


def _imported_rooms(path: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            names = [node.module or ""]
            if node.module == "runner":
                names = [f"runner.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        rooms |= {name.split(".")[1] for name in names if name.startswith("runner.")}
    return rooms - {"__version__"}


@pytest.mark.parametrize("room", FLOORS)
def test_a_floor_imports_only_floors_below_it(room: str) -> None:
    files = list((REPOSITORY / "runner" / room).rglob("*.py"))
    assert files
    for path in files:
        beyond = _imported_rooms(path) - FLOORS[room] - {room}
        assert not beyond, f"{path.relative_to(REPOSITORY)} imports {sorted(beyond)}"


def test_there_is_no_room_outside_the_plan_of_the_house() -> None:
    rooms = {path.name for path in (REPOSITORY / "runner").iterdir() if path.is_dir()}
    assert rooms - {"__pycache__", "conf"} == set(FLOORS)


def _heavy_modules_after(code: str) -> list[str]:
    probe = f"{code}\nimport sys\nprint([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True, timeout=60
    )
    return list(ast.literal_eval(done.stdout.strip().splitlines()[-1]))


@pytest.mark.parametrize(
    "code",
    [
        "import runner",
        "import runner.plan, runner.record, runner.engine, runner.report, runner.images",
        "import runner.providers.registry, runner.providers.fake",
        "from runner.cli.main import run; run(['--help'])",
        "from runner.cli.main import run; run(['--cfg', 'job'])",
        "from runner.cli.main import run; run(['plan', 'provider=fake'])",
    ],
)
def test_nothing_heavy_is_imported_before_it_is_needed(code: str) -> None:
    assert _heavy_modules_after(code) == []
