"""Hostile answers, for every provider: no crash, no false ``done``, no flood, no key told.

The provider's own strict server answers as the real API does, and what leaves it is spoiled on the
way. ``make test`` tries some fifty ways for every provider, ``make torture`` 10,000: server and
provider stay open, so that one takes a few milliseconds through the real SDK and a real socket.
"""

from __future__ import annotations

import asyncio
import io
import logging
import os
import resource
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from PIL import Image

from runner.engine.outcome import Attempt, answered, unanswered
from runner.providers.contract import Call, Provider, ProviderError
from runner.providers.net.faults import network_fault
from runner.providers.registry import make_provider
from runner.record.journal import decode, encode, intact
from runner.record.rows import AttemptRecord
from runner.settings.errors import RunnerError
from tests.contract.machinery import Machinery
from tests.contract.support import Listening, cells
from tests.figures import LONG, Figures
from tests.servers.loopback import Loopback
from tests.servers.spoil import Spoiler, Spoiling, dripping, endless, packed, spoilers

BODIES = int(os.environ.get("RUNNER_TORTURE_BODIES", "10000")) if LONG else 50
MOST_MORE_KB = 700_000
"""An answer may have 256 MiB, and exists as bytes, as text and as an image for a moment."""


class HostileAnswers(Machinery):
    """Inherited tests of what no honest server sends."""

    def test_spoiled_answers(
        self,
        server: Loopback,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        with self._session(server, monkeypatch, caplog) as session:

            @settings(
                max_examples=BODIES,
                deadline=None,
                database=None,
                derandomize=True,
                phases=[Phase.generate, Phase.shrink],
                suppress_health_check=list(HealthCheck),
            )
            @given(spoilers())
            def spoil(spoiler: Spoiler) -> None:
                try:
                    session.call(spoiler)
                except Exception as error:
                    error.add_note(session.what_left())
                    raise
                session.figures.add("spoiled answers")

            spoil()

    @pytest.mark.long
    @pytest.mark.parametrize("body", [endless, dripping, packed], ids=lambda item: item.__name__)
    def test_bodies_without_an_end(
        self,
        server: Loopback,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        body: Any,
    ) -> None:
        with self._session(server, monkeypatch, caplog) as session:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            server.spoil = body
            assert session.call().outcome in {"unknown", "failed"}
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
            assert grown < MOST_MORE_KB, f"{grown / 1000:,.0f} MB more"
            session.figures.add("floods")

    @contextmanager
    def _session(
        self,
        server: Loopback,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> Iterator[Session]:
        caplog.set_level(logging.WARNING)
        monkeypatch.setattr("runner.providers.net.transfers.FETCH_PAUSES_S", (0.0,))
        monkeypatch.setattr("runner.providers.net.jobs.rest", lambda _: asyncio.sleep(0))
        session = Session(self, server, caplog)
        try:
            session.begin()
            yield session
            assert session.call().outcome == "done", "the provider is no longer usable"
        finally:
            session.close()
            session.figures.save()
            # A client that was told nonsense may well ask for it.
            server.problems.clear()


class Session:
    """An open provider, its server, and the loop that it lives in.

    Attributes:
        figures: What was done.
    """

    def __init__(
        self, contract: Machinery, server: Loopback, caplog: pytest.LogCaptureFixture
    ) -> None:
        self.figures = Figures()
        self._contract = contract
        self._server = server
        self._caplog = caplog
        self._spoiling = Spoiling()
        self._settings = contract.settings(server, "limits.timeout_s=2")
        self._provider: Provider = make_provider(self._settings)
        self._provider.check_ready()
        self._loop = asyncio.new_event_loop()
        self._loop.run_until_complete(self._provider.open())

    def close(self) -> None:
        self._loop.run_until_complete(self._provider.close())
        self._loop.close()

    def begin(self) -> None:
        """Honest calls show how many answers there are to be spoiled; the first may log in too."""
        for _ in range(2):
            assert self.call().outcome == "done"
        self._spoiling.answers = self._spoiling.served

    def call(self, spoiler: Spoiler | None = None) -> AttemptRecord:
        """One call, as the engine makes it, and everything that must hold of its record."""
        self._server.requests.clear()  # thousands of calls would fill the memory
        self._spoiling.begin(spoiler)
        if spoiler is not None or self._server.spoil is None:
            self._server.spoil = self._spoiling
        call = Call("call", cells(self._contract.params(), 1))
        attempt = Attempt(
            call=call,
            variant=SimpleNamespace(settings=self._settings, dropped=()),  # type: ignore[arg-type]
            capabilities=self._provider.capabilities(),
            tries=1,
            started_at="2026-01-01T00:00:00.000+00:00",
            ended_at="2026-01-01T00:00:00.000+00:00",
            latency_s=0.1,
        )
        try:
            written = answered(attempt, self._loop.run_until_complete(self._bounded(call)))
        except Exception as error:
            fault = self._provider.classify(error)
            self._check_classified(error, fault)
            written = unanswered(attempt, fault, final=True, worst_usd=1.0)
        self._server.spoil = None
        assert (self._spoiling.spoiled is None) == (spoiler is None), "it left as it was"
        self._check_log()
        _check(written.record, written.files)
        return written.record

    def what_left(self) -> str:
        """The spoiled answer: servers count, so the next one may be another."""
        left = self._spoiling.spoiled
        return (
            "nothing was spoiled" if left is None else f"{left} {left.headers} {left.body!r:.20000}"
        )

    def _check_log(self) -> None:
        assert not any(self._server.key in one.getMessage() for one in self._caplog.records)
        self._caplog.clear()

    async def _bounded(self, call: Call) -> Any:
        async with asyncio.timeout(2):
            return await self._provider.generate(call, Listening())

    def _check_classified(self, error: Exception, fault: ProviderError) -> None:
        known = isinstance(error, (ProviderError, RunnerError)) or network_fault(error) is not None
        # What `classify` makes of an exception that it has never heard of.
        lost = fault.kind == "invalid" and fault.message.startswith(type(error).__name__)
        trace = "".join(traceback.format_exception(error))
        assert known or not lost, f"a crash: {trace}"
        assert self._server.key not in fault.message
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
