"""Jobs against a fake clock: how often they are asked, what is waited out, when it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from runner.providers.contract import Call, ProviderError
from runner.providers.net import Http, JobError, Jobs, Pace, Running
from runner.settings.cell import CellParams
from runner.settings.schema import ModelSettings, ProviderSettings, VariantSettings
from tests.contract.support import Listening, cells

CALL = Call("call", cells(CellParams(prompt="a fox")))
FACT: Mapping[str, Any] = {"job": "job-1"}
SETTINGS = VariantSettings(
    provider=ProviderSettings(name="example"), model=ModelSettings(name="model-1")
)


class Bench:
    """Jobs whose pauses pass at once on a clock of their own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, timeout_s: float = 100.0) -> None:
        self.now = 0.0
        self.pauses: list[float] = []
        self.asked = 0
        self.listener = Listening()
        monkeypatch.setattr("runner.providers.net.jobs.rest", self._rest)
        http = Http(SETTINGS, base_url="https://example.com")
        self.jobs = Jobs(http, timeout_s, Pace(1.0, 2.0, 8.0), lambda: self.now)

    async def _rest(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    def run(self, *finds: object, fact: Mapping[str, Any] = FACT) -> object:
        """Follow a job whose polls find these one after the other, the last for ever."""

        async def poll(job: str) -> object:
            assert job == "job-1"
            assert self.listener.notes == [fact]
            found = finds[min(self.asked, len(finds) - 1)]
            self.asked += 1
            if isinstance(found, Exception):
                raise found
            return found

        return asyncio.run(self.jobs.run(CALL, fact, poll, self.listener))

    def fault(self, *finds: object, fact: Mapping[str, Any] = FACT) -> ProviderError:
        """The fault that it ends with."""
        with pytest.raises(ProviderError) as caught:
            self.run(*finds, fact=fact)
        return caught.value


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(monkeypatch)


def trouble(kind: Any = "transient", **more: Any) -> ProviderError:
    return ProviderError(kind, "HTTP 503", **more)


def test_pauses_grow_up_to_a_bound(bench: Bench) -> None:
    assert bench.run(*[Running("busy")] * 5, "made") == "made"
    assert bench.pauses == [1, 2, 4, 8, 8, 8]


def test_progress_in_per_cent_where_it_is_told(bench: Bench) -> None:
    bench.run(Running("queued"), Running("busy", 0.25), Running("busy", 1.7), "made")
    assert bench.listener.steps == [(25, 100), (100, 100)]


def test_short_trouble_is_waited_out(bench: Bench) -> None:
    finds = [trouble("gone")] * 4 + [Running("busy")] + [TimeoutError()] * 4
    assert bench.run(*finds, "made") == "made"


def test_trouble_that_lasts_is_ambiguous_and_names_the_job(bench: Bench) -> None:
    fault = bench.fault(trouble("gone"))
    assert (fault.kind, fault.request_id) == ("ambiguous", "job-1")
    assert "job-1" in fault.message
    assert bench.asked == 5


def test_a_rate_limit_of_polls_is_obeyed(bench: Bench) -> None:
    bench.run(trouble("rate_limit", retry_after=30.0), "made")
    assert bench.pauses == [1, 30]


def test_a_rate_limit_of_polls_ends_no_job(bench: Bench) -> None:
    assert bench.run(*[trouble("rate_limit")] * 9, "made") == "made"


@pytest.mark.parametrize("kind", ["auth", "invalid"])
def test_what_does_not_pass_is_not_waited_for(bench: Bench, kind: str) -> None:
    fault = bench.fault(trouble(kind))
    assert fault.kind == "ambiguous", "the job was sent, whatever is wrong with asking for it"
    assert bench.asked == 1


def test_the_end_of_a_job_is_told_as_it_is(bench: Bench) -> None:
    fault = bench.fault(Running("busy"), JobError("refused", "Content Moderated"))
    assert (fault.kind, bench.asked) == ("refused", 2)


def test_a_refusal_ends_the_job_however_it_comes(bench: Bench) -> None:
    assert bench.fault(Running("busy"), trouble("refused")).kind == "refused"
    assert bench.asked == 2


def test_a_job_without_end(bench: Bench) -> None:
    fault = bench.fault(Running("Dreaming"))
    assert (fault.kind, fault.code) == ("ambiguous", "job_running")
    assert "job-1" in fault.message
    assert "Dreaming" in fault.message
    assert bench.now == pytest.approx(90), "before the engine's own limit, so that this is said"


@pytest.mark.parametrize("fact", [{}, {"job": None}, {"job": 7}, {"job": ""}])
def test_an_answer_without_a_job(bench: Bench, fact: Mapping[str, Any]) -> None:
    assert bench.fault("made", fact=fact).kind == "ambiguous"
    assert bench.listener.notes == []
    assert bench.asked == 0


def test_a_cancelled_call_stops_asking(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async def rest(_: float) -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr("runner.providers.net.jobs.rest", rest)

    async def poll(job: str) -> object:
        bench.asked += 1
        return "made"

    async def run() -> None:
        task = asyncio.create_task(bench.jobs.follow(CALL, FACT, poll, bench.listener))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert bench.asked == 0


@pytest.mark.parametrize(
    ("base_url", "url", "trusted"),
    [
        ("https://api.bfl.ai", "https://api.bfl.ai/v1/x", True),
        ("https://api.bfl.ai", "https://api.us1.bfl.ai/v1/x", True),
        ("https://api.bfl.ai", "http://api.us1.bfl.ai/v1/x", False),
        ("https://api.bfl.ai", "https://bfl.ai.example.com/v1/x", False),
        ("https://api.bfl.ai", "https://notbfl.ai/v1/x", False),
        ("https://gateway.example.com", "https://api.us1.bfl.ai/v1/x", False),
    ],
)
def test_whose_hosts_get_the_key(base_url: str, url: str, trusted: bool) -> None:
    http = Http(SETTINGS, base_url=base_url, domain="bfl.ai")
    assert http.trusts(url) is trusted
    if base_url not in url:
        assert not Http(SETTINGS, base_url=base_url).trusts(url)


@pytest.mark.parametrize("url", ["http://storage.example.com/x", "https://10.0.0.7/x", "ftp://x/y"])
def test_uploads_go_to_public_https_only(url: str) -> None:
    http = Http(SETTINGS, base_url="https://example.com")
    with pytest.raises(ProviderError) as caught:
        asyncio.run(http.upload(url, []))
    assert caught.value.code == "address_refused"
