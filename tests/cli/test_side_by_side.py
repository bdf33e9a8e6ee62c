"""Ten providers in one run: clouds against their loopback servers, and the built-in model."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import web

from tests.conftest import cli_command
from tests.contract.aws import VARIABLES as AWS
from tests.servers.azure_openai import AzureServer
from tests.servers.bedrock import ACCESS_KEY_ID
from tests.servers.bedrock_amazon import TitanServer
from tests.servers.bedrock_stability import StabilityServer
from tests.servers.google import GeminiServer
from tests.servers.huggingface import HuggingFaceServer
from tests.servers.leonardo import LeonardoServer
from tests.servers.loopback import Loopback, Seen, Situation
from tests.servers.openai import OpenAIServer
from tests.servers.recraft import RecraftServer
from tests.servers.vertex import PROJECT, VertexServer

OTHERS_NEED = 16
"""Calls that the other eight make at least: one for each of two seeds."""


class PatientServer(LeonardoServer):
    """Answers only when every other server has had all its calls."""

    others: tuple[Loopback, ...] = ()

    async def answer(self, seen: Seen, situation: Situation) -> web.StreamResponse:
        for _ in range(10_000):
            if not self.others or sum(len(other.calls()) for other in self.others) >= OTHERS_NEED:
                return await super().answer(seen, situation)
            await asyncio.sleep(0.01)
        self.problem("the others waited for the slowest")
        return web.Response(status=500)


SERVERS: dict[str, tuple[type[Loopback], str]] = {
    "openai": (OpenAIServer, "OPENAI_API_KEY"),
    "azure_openai": (AzureServer, "AZURE_OPENAI_API_KEY"),
    "bedrock_titan": (TitanServer, AWS[0]),
    "bedrock_stability": (StabilityServer, AWS[0]),
    "vertex": (VertexServer, "GOOGLE_APPLICATION_CREDENTIALS"),
    "google_ai_studio": (GeminiServer, "GEMINI_API_KEY"),
    "leonardo": (PatientServer, "LEONARDO_API_KEY"),
    "recraft": (RecraftServer, "RECRAFT_API_TOKEN"),
    "huggingface": (HuggingFaceServer, "HF_TOKEN"),
}
JOB = ("experiment=ten_providers", "-m", "hydra.sweep.dir=run")


@dataclass
class Clouds:
    """Nine servers, and the environment that leads to them."""

    servers: dict[str, Loopback]
    environment: dict[str, str]

    def sent(self) -> dict[str, int]:
        """How many images each was asked to make."""
        return {name: len(server.calls()) for name, server in self.servers.items()}


@pytest.fixture
def clouds() -> Iterator[Clouds]:
    pytest.importorskip("diffusers")
    with contextlib.ExitStack() as stack:
        servers = {name: stack.enter_context(kind()) for name, (kind, _) in SERVERS.items()}
        environment = {
            **os.environ,
            **{variable: servers[name].credential for name, (_, variable) in SERVERS.items()},
            **{f"RUNNER_BASE_URL_{name}": server.base_url for name, server in servers.items()},
            "RUNNER_BASE_URL_huggingface": f"{servers['huggingface'].base_url}/my/endpoint",
            "AWS_ACCESS_KEY_ID": ACCESS_KEY_ID,
            "AWS_REGION": TitanServer.region,
            "AWS_EC2_METADATA_DISABLED": "true",
            "GOOGLE_CLOUD_PROJECT": PROJECT,
        }
        for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "AWS_PROFILE"):
            environment.pop(name, None)
        yield Clouds(servers, environment)
    for name, server in servers.items():
        assert server.problems == [], name


def run(clouds: Clouds, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        cli_command(*arguments),
        cwd=folder,
        env=clouds.environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def rows(folder: Path) -> list[dict[str, object]]:
    lines = (folder / "run/images/metadata.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_ten_providers_in_one_folder(clouds: Clouds, tmp_path: Path) -> None:
    slowest = clouds.servers["leonardo"]
    assert isinstance(slowest, PatientServer)
    slowest.others = tuple(server for server in clouds.servers.values() if server is not slowest)
    clouds.servers["recraft"].script("rate_limit")
    done = run(clouds, tmp_path, *JOB, "retry.max_wait_s=2")
    assert done.returncode == 0, done.stdout + done.stderr
    found = rows(tmp_path)
    assert Counter(row["provider"] for row in found) == dict.fromkeys([*SERVERS, "diffusers"], 2)
    manifest = json.loads((tmp_path / "run/manifest.json").read_text())
    assert manifest["counts"]["done"] == 20
    assert manifest["cost_usd"] > 0
    page = (tmp_path / "run/index.html").read_text()
    for name in (*SERVERS, "diffusers"):
        assert f">{name}</th>" in page, name
    for path in (path for path in (tmp_path / "run").rglob("*") if path.is_file()):
        data = path.read_bytes()
        for server in clouds.servers.values():
            assert server.key.encode() not in data, path


def test_killed_in_the_middle_and_resumed_nothing_is_sent_twice(
    clouds: Clouds, tmp_path: Path
) -> None:
    for server in clouds.servers.values():
        server.latency_s = 1.0
    child = subprocess.Popen(
        cli_command(*JOB, "limits.max_concurrency=1"),
        cwd=tmp_path,
        env=clouds.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    journal = tmp_path / "run/journal"
    while time.monotonic() < deadline:
        text = "".join(path.read_text() for path in journal.glob("*.jsonl"))
        if text.count('"kind":"attempt"') >= 4:
            break
        time.sleep(0.05)
    child.send_signal(signal.SIGKILL)
    child.wait()
    done_before = text.count('"kind":"attempt"')
    assert done_before >= 4
    for server in clouds.servers.values():
        server.latency_s = 0.0
    done = run(clouds, tmp_path, "resume", "run")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(rows(tmp_path)) == 20
    # One call of each provider may have been in flight, and is made once more at most.
    for name, count in clouds.sent().items():
        assert 2 <= count <= 3, name
