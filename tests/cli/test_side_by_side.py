"""Many providers in one run: all against their loopback servers, and the built-in model."""

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
from tests.servers.compatible import VllmOmniServer
from tests.servers.google import GeminiServer
from tests.servers.gpustack import GPUStackSglangServer
from tests.servers.gpustack_llama_box import LlamaBoxServer
from tests.servers.huggingface import HuggingFaceServer
from tests.servers.leonardo import LeonardoServer
from tests.servers.litellm_proxy import LiteLLMProxyServer
from tests.servers.loopback import Loopback, Seen, Situation
from tests.servers.nscale import NscaleServer
from tests.servers.openai import OpenAIServer
from tests.servers.recraft import RecraftServer
from tests.servers.vertex import PROJECT, VertexServer
from tests.servers.xinference import XinferenceServer

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


class OwnServer(VllmOmniServer):
    """A vLLM-Omni whose model bears the name that is sent if none is set."""

    served = "default"


Servers = dict[str, tuple[type[Loopback], str]]

FAMILY: Servers = {
    "openai": (OpenAIServer, "OPENAI_API_KEY"),
    "azure_openai": (AzureServer, "AZURE_OPENAI_API_KEY"),
    "openai_compatible": (OwnServer, "OPENAI_COMPATIBLE_API_KEY"),
    "litellm_proxy": (LiteLLMProxyServer, "LITELLM_PROXY_API_KEY"),
    "xinference": (XinferenceServer, "XINFERENCE_API_KEY"),
    "gpustack": (GPUStackSglangServer, "GPUSTACK_API_KEY"),
    "gpustack_llama_box": (LlamaBoxServer, "GPUSTACK_API_KEY"),
    "nscale": (NscaleServer, "NSCALE_SERVICE_TOKEN"),
    "recraft": (RecraftServer, "RECRAFT_API_TOKEN"),
}
CLOUDS: Servers = {
    "openai": FAMILY["openai"],
    "azure_openai": FAMILY["azure_openai"],
    "bedrock_titan": (TitanServer, AWS[0]),
    "bedrock_stability": (StabilityServer, AWS[0]),
    "vertex": (VertexServer, "GOOGLE_APPLICATION_CREDENTIALS"),
    "google_ai_studio": (GeminiServer, "GEMINI_API_KEY"),
    "leonardo": (PatientServer, "LEONARDO_API_KEY"),
    "recraft": FAMILY["recraft"],
    "huggingface": (HuggingFaceServer, "HF_TOKEN"),
}
JOB = ("-m", "hydra.sweep.dir=run")


@dataclass
class Clouds:
    """Running servers by provider, and the environment that leads to them."""

    servers: dict[str, Loopback]
    environment: dict[str, str]

    def sent(self) -> dict[str, int]:
        """How many images each was asked to make."""
        return {name: len(server.calls()) for name, server in self.servers.items()}


@contextlib.contextmanager
def serving(wanted: Servers) -> Iterator[Clouds]:
    """Start the servers; afterwards they must have nothing to complain about."""
    pytest.importorskip("diffusers")
    with contextlib.ExitStack() as stack:
        servers = {name: stack.enter_context(kind()) for name, (kind, _) in wanted.items()}
        environment = {
            **os.environ,
            **{variable: servers[name].credential for name, (_, variable) in wanted.items()},
            **{f"RUNNER_BASE_URL_{name}": server.base_url for name, server in servers.items()},
            "AWS_ACCESS_KEY_ID": ACCESS_KEY_ID,
            "AWS_REGION": TitanServer.region,
            "AWS_EC2_METADATA_DISABLED": "true",
            "GOOGLE_CLOUD_PROJECT": PROJECT,
        }
        if huggingface := servers.get("huggingface"):
            environment["RUNNER_BASE_URL_huggingface"] = f"{huggingface.base_url}/my/endpoint"
        for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "AWS_PROFILE"):
            environment.pop(name, None)
        yield Clouds(servers, environment)
    for name, server in servers.items():
        assert server.problems == [], name


@pytest.fixture
def clouds() -> Iterator[Clouds]:
    with serving(CLOUDS) as running:
        yield running


@pytest.fixture
def family() -> Iterator[Clouds]:
    with serving(FAMILY) as running:
        yield running


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


def assert_side_by_side(clouds: Clouds, folder: Path) -> list[dict[str, object]]:
    """Two images of each in one folder, one manifest and one page, and no key anywhere."""
    found = rows(folder)
    makers = [*clouds.servers, "diffusers"]
    assert Counter(row["provider"] for row in found) == dict.fromkeys(makers, 2)
    manifest = json.loads((folder / "run/manifest.json").read_text())
    assert manifest["counts"]["done"] == 2 * len(makers)
    assert manifest["cost_usd"] > 0
    page = (folder / "run/index.html").read_text()
    for name in makers:
        assert f">{name}</th>" in page, name
    for path in (path for path in (folder / "run").rglob("*") if path.is_file()):
        data = path.read_bytes()
        for server in clouds.servers.values():
            assert server.key.encode() not in data, path
    return found


def test_ten_providers_in_one_folder(clouds: Clouds, tmp_path: Path) -> None:
    slowest = clouds.servers["leonardo"]
    assert isinstance(slowest, PatientServer)
    slowest.others = tuple(server for server in clouds.servers.values() if server is not slowest)
    clouds.servers["recraft"].script("rate_limit")
    done = run(clouds, tmp_path, "experiment=ten_providers", *JOB, "retry.max_wait_s=2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert_side_by_side(clouds, tmp_path)


def test_all_that_speak_the_openai_api_in_one_folder(family: Clouds, tmp_path: Path) -> None:
    done = run(family, tmp_path, "experiment=one_api_many_servers", *JOB)
    assert done.returncode == 0, done.stdout + done.stderr
    takes_seeds: dict[object, bool] = {}
    for row in assert_side_by_side(family, tmp_path):
        dropped = row["params_dropped"]
        assert isinstance(dropped, list)
        sent = row["seed_sent"]
        assert sent is None or sent == row["seed"]
        assert ("seed" in dropped) == (sent is None), "what was dropped is said, and nothing else"
        takes_seeds[row["provider"]] = sent is not None
    assert [name for name, takes in takes_seeds.items() if not takes] == [
        "openai", "azure_openai", "litellm_proxy", "nscale",
    ]  # fmt: skip


def test_killed_in_the_middle_and_resumed_nothing_is_sent_twice(
    clouds: Clouds, tmp_path: Path
) -> None:
    for server in clouds.servers.values():
        server.latency_s = 1.0
    child = subprocess.Popen(
        cli_command("experiment=ten_providers", *JOB, "limits.max_concurrency=1"),
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
