"""Hostile answers, for every provider that speaks HTTP: no crash, no false ``done``, no flood."""

from __future__ import annotations

import asyncio
import importlib
import io
import math
import os
import resource
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from PIL import Image

from runner.engine.outcome import Attempt, answered, unanswered
from runner.images import BadImage, inspect
from runner.providers.contract import Call, Provider, ProviderError
from runner.providers.net.faults import network_fault
from runner.providers.registry import BUILT_IN, make_provider
from runner.record.journal import decode, encode, intact
from runner.record.rows import AttemptRecord
from runner.settings.errors import RunnerError
from tests.contract.suite import ProviderContract
from tests.contract.support import Listening, cells
from tests.torture.figures import Figures
from tests.torture.hostile import (
    Spoiler,
    dripping,
    endless,
    hostile,
    no_images,
    odd_images,
    packed,
    spoilers,
)

BODIES = Figures.count(short=50, long=int(os.environ.get("RUNNER_TORTURE_BODIES", "10000")))
OWN_WORK = frozenset({"fake", "diffusers"})
"""Providers that speak no HTTP."""


def contracts() -> list[type[ProviderContract]]:
    """The contract of every provider: its server, its key, its settings."""
    folder = Path(__file__).resolve().parents[1] / "contract"
    found: dict[str, type[ProviderContract]] = {}
    for path in sorted(folder.glob("test_*.py")):
        module = importlib.import_module(f"tests.contract.{path.stem}")
        for item in vars(module).values():
            if (
                isinstance(item, type)
                and issubclass(item, ProviderContract)
                and item.__module__ == module.__name__
                and getattr(item, "provider", "") in BUILT_IN
            ):
                found.setdefault(item.provider, item)
    return list(found.values())


CONTRACTS = contracts()


def test_every_provider_is_here() -> None:
    assert {contract.provider for contract in CONTRACTS} == set(BUILT_IN) - OWN_WORK


class Session:
    """An open provider, its server, and the loop that it lives in."""

    def __init__(self, contract: type[ProviderContract], server: Any) -> None:
        self.contract = contract()
        self.server = server
        self.settings = self.contract.settings(server, "limits.timeout_s=2")
        self.provider: Provider = make_provider(self.settings)
        self.loop = asyncio.new_event_loop()
        self.loop.run_until_complete(self.provider.open())

    def close(self) -> None:
        self.loop.run_until_complete(self.provider.close())
        self.loop.close()

    def call(self, spoiler: Spoiler | None = None) -> AttemptRecord:
        """One call, as the engine makes it, and everything that must hold of its record."""
        self.server.spoiler, self.server.served = spoiler, 0
        call = Call("call", cells(self.contract.params(), 1))
        attempt = Attempt(
            call=call,
            variant=SimpleNamespace(settings=self.settings, dropped=(), index=0),  # type: ignore[arg-type]
            capabilities=self.provider.capabilities(),
            tries=1,
            started_at="2026-01-01T00:00:00.000+00:00",
            ended_at="2026-01-01T00:00:00.000+00:00",
            latency_s=0.1,
        )
        try:
            answer = self.loop.run_until_complete(self._bounded(call))
            record = answered(attempt, answer)
        except Exception as error:
            fault = self.provider.classify(error)
            self._is_classified(error, fault)
            record = unanswered(attempt, fault, final=True, worst_usd=1.0)
        _check(record.record, record.files)
        return record.record

    async def _bounded(self, call: Call) -> Any:
        async with asyncio.timeout(2):
            return await self.provider.generate(call, Listening())

    def _is_classified(self, error: Exception, fault: ProviderError) -> None:
        known = isinstance(error, (ProviderError, RunnerError)) or network_fault(error) is not None
        # What `classify` makes of an exception that it has never heard of.
        lost = fault.kind == "invalid" and fault.message.startswith(type(error).__name__)
        trace = "".join(traceback.format_exception(error))
        assert known or not lost, f"a crash: {trace}"
        assert self.server.key not in fault.message
        assert "\n" not in fault.message


def _check(record: AttemptRecord, files: dict[str, bytes]) -> None:
    line = encode(record)
    assert intact(line)
    assert decode(line) is not None
    costs = [record.cost_usd, *(row.cost_usd for row in record.images)]
    assert all(cost is None or 0 <= cost < 1e6 for cost in costs), costs
    assert len(record.images) + len(record.failures) == 1
    assert (record.outcome == "done") == bool(record.images)
    for row in record.images:
        data = files[row.file_name]
        assert row.width is None or 0 < row.width * (row.height or 0) <= 80_000_000
        if row.mime == "image/svg+xml":
            assert b"<svg" in data
            continue
        with Image.open(io.BytesIO(data), formats=["PNG", "JPEG", "WEBP", "GIF", "AVIF"]) as image:
            assert image.size == (row.width, row.height)
            image.verify()


@contextmanager
def session(contract: type[ProviderContract], monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setattr("runner.providers.net.http.FETCH_PAUSES_S", (0.0,))
    with hostile(contract.server_type)() as server:
        for name in contract.variables:
            monkeypatch.setenv(name, server.key)
        found = Session(contract, server)
        try:
            yield found
            server.spoiler, server.instead = None, None
            assert found.call().outcome == "done", "it is no longer usable"
        finally:
            found.close()


by_provider = pytest.mark.parametrize("contract", CONTRACTS, ids=lambda item: item.provider)


@by_provider
@pytest.mark.timeout(3600)
def test_spoiled_answers(
    contract: type[ProviderContract], monkeypatch: pytest.MonkeyPatch, figures: Figures
) -> None:
    with session(contract, monkeypatch) as opened:
        assert opened.call().outcome == "done"

        @settings(
            max_examples=BODIES,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        )
        @given(spoilers())
        def spoil(spoiler: Spoiler) -> None:
            figures.add("fuzzed answers")
            opened.call(spoiler)

        spoil()


@by_provider
@pytest.mark.parametrize("body", [endless, dripping, packed], ids=lambda item: item.__name__)
def test_bodies_without_an_end(
    contract: type[ProviderContract], body: Any, monkeypatch: pytest.MonkeyPatch, figures: Figures
) -> None:
    with session(contract, monkeypatch) as opened:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        opened.server.instead = body
        record = opened.call()
        assert record.outcome in {"unknown", "failed"}
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert grown < 700_000, f"{grown / 1000:,.0f} MB more"
        figures.add("bombs and floods")


def test_what_is_no_picture(figures: Figures) -> None:
    files = no_images()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name, data in files.items():
        for decoded in (False, True):
            with pytest.raises(BadImage):
                inspect(data, decode=decoded)
                pytest.fail(name)
        figures.add("bombs and floods")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_pictures_that_are_traps() -> None:
    traps = odd_images()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert inspect(traps["mislabelled"]).info.mime == "image/jpeg"
    assert inspect(traps["padded"]).info.mime == "image/png"
    assert inspect(traps["text bomb"], decode=False).info.width == 8  # its text is never unpacked
    with pytest.raises(BadImage):
        inspect(traps["text bomb"])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000
    assert math.isclose(len(traps["text bomb"]), 194_500, rel_tol=0.01)
