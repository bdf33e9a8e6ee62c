"""What the contract suite is made of: how one provider is configured, called and watched."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from runner.settings.cell import CellParams, CostBasis
from runner.settings.schema import VariantSettings
from tests.contract.support import Asked, ask, at_address, variant
from tests.servers.loopback import Loopback, Situation


class Machinery:
    """Fixtures and calls. Class attributes say what the API is like."""

    provider: ClassVar[str]
    """Name under ``conf/provider/``."""
    server_type: ClassVar[type[Loopback]]
    variables: ClassVar[tuple[str, ...]]
    """Environment variables that may hold the key, the documented one first."""
    key_required: ClassVar[bool] = True
    """The API makes nothing without a key; others may run without."""
    samples: ClassVar[Mapping[str, Any]] = {}
    """A good value for every cell-level key that the default model takes, files left out."""
    bad_samples: ClassVar[Mapping[str, Any]] = {}
    """Values that only the provider's own ``check`` can refuse, such as a size it does not have."""
    overrides: ClassVar[tuple[str, ...]] = ()
    """Further overrides of every composed config."""
    families: ClassVar[tuple[str, ...]] = ()
    """Folders of ``conf/model/`` whose files belong to this provider."""
    config_dir: ClassVar[str | None] = None
    """A third party's own config tree."""
    retired: ClassVar[str | None] = None
    """A model file whose model the server no longer has."""
    count_field: ClassVar[str | None] = "n"
    """Native name of the number of images; ``None``: the API makes one per call."""
    cost_basis: ClassVar[CostBasis] = "usage"
    """Where the cost of a good answer comes from."""
    returns_urls: ClassVar[bool] = True
    """The API's shape allows results that are URLs."""
    tells_credit: ClassVar[bool] = True
    """The API says when the account is empty."""
    tells_refusals: ClassVar[bool] = True
    """The API has a safety system that refuses."""
    sends_request_id: ClassVar[bool] = True
    """The API names every request."""
    input_size: ClassVar[tuple[int, int]] = (64, 48)
    """Size of the input images that are sent; some APIs take none so small."""
    operations: ClassVar[Mapping[str, str]] = {}
    """What it does beyond text to image, from the command line: a name, and its overrides in one
    text, where ``IMAGE``, ``MASK`` and ``OTHER`` stand for files."""
    has_jobs: ClassVar[bool] = False
    """Requests become jobs that are polled; the server keeps them on a
    :class:`~tests.servers.jobs.JobBoard` and counts only submissions as calls."""
    refuses_late: ClassVar[bool] = True
    """Where there are jobs: the safety system may end one that was taken."""

    # ------------------------------------------------------------------ machinery

    @pytest.fixture(autouse=True)
    def _environment(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> Iterator[None]:
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.delenv(name, raising=False)
            monkeypatch.delenv(name.upper(), raising=False)
        for name in self.variables:
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr("runner.providers.net.jobs.rest", lambda _: asyncio.sleep(0.005))
        caplog.set_level(logging.DEBUG)
        gc.freeze()  # what is there before the test need not be searched after it
        yield
        gc.collect()
        gc.unfreeze()
        assert "Unclosed" not in caplog.text, "a session was left open"

    @pytest.fixture
    def server(
        self,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        capfd: pytest.CaptureFixture[str],
    ) -> Iterator[Loopback]:
        with self.server_type() as server:
            if self.variables:
                monkeypatch.setenv(self.variables[0], server.credential)
            yield server
        assert server.problems == []
        # In a fixture's last part ``caplog.text`` holds that part only.
        logged = [
            record.getMessage()
            for phase in ("setup", "call")
            for record in caplog.get_records(phase)
        ]
        assert not any(server.key in line for line in logged), "the key is in the log"
        out, err = capfd.readouterr()
        assert server.key not in out + err, "the key was printed"

    def settings(self, server: Loopback | None, *overrides: str) -> VariantSettings:
        """The provider's own config, pointed at the server."""
        chosen = (f"provider={self.provider}", *self.overrides, *overrides)
        settings = variant(*chosen, config_dir=self.config_dir)
        return at_address(settings, server.base_url) if server else settings

    def ask(self, server: Loopback, *situations: Situation, n: int = 1, **params: Any) -> Asked:
        """One call in the given situation; the key must be in nothing that comes of it."""
        server.script(*situations)
        asked = ask(self.settings(server, "limits.timeout_s=5"), self.params(**params), n)
        assert server.key not in asked.text(), "the key is in an answer, a message or a traceback"
        return asked

    def params(self, **params: Any) -> CellParams:
        """A plain request."""
        return CellParams(**{"prompt": "a red lighthouse", **params})

    def run(
        self, server: Loopback, folder: Path, *overrides: str
    ) -> subprocess.CompletedProcess[str]:
        """``python -m runner`` in a child process, with the key in every variable."""
        command = ["--config-dir", str(Path(self.config_dir).resolve())] if self.config_dir else []
        command += [f"provider={self.provider}", f"provider.base_url={server.base_url}"]
        command += [*self.overrides, "prompt=a red lighthouse", f"hydra.run.dir={folder}"]
        return subprocess.run(
            [sys.executable, "-m", "runner", *command, *overrides],
            cwd=folder.parent,
            env={**os.environ, **dict.fromkeys(self.variables, server.credential)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
