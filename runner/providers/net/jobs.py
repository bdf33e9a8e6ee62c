"""Jobs: an API that takes a request, gives it an id, and is asked until the pictures are there.

::

    self.jobs = Jobs(self.http, settings.timeout_s)
    …
    reply = await self.http.send("POST", "/jobs", json=…)
    fact = {"job": reply.json()["id"], "sent": fields}
    result = await self.jobs.run(call, fact, poll, listener)  # journals the fact, then polls

where ``poll(job)`` asks once and returns :class:`Running` or what the job brought. A killed run
has the fact in its journal, and ``Provider.attach`` goes on with :meth:`Jobs.follow`: the same
code, without a second submission.

A job that was submitted may be billed whatever happens afterwards. So nothing that goes wrong
while polling is called a failure of the job: short trouble is waited out, and what lasts becomes
``ambiguous`` with the job's id, which ``resume`` takes up again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from runner.providers.contract import NO_JOB, Call, Listener, ProviderError
from runner.settings.cell import Json

if TYPE_CHECKING:
    from runner.providers.net.http import Http

POLL_TIMEOUT_S = 30.0
"""Longest wait for the answer to one poll: a status is small, however long the picture takes."""
PATIENCE = 5
"""So many polls in a row may go wrong, also where an API does not know its newest job yet. Being
asked to come back later does not count."""
_SHARE = 0.9
"""Share of the call's time after which polling ends, so that its message names the job."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Running:
    """A job that is not over.

    Attributes:
        status: The API's own word. A word that nobody knows counts as running too: vendors add
            some, and the deadline ends what never ends.
        done: How much of it is done, 0 to 1, where the API tells.
    """

    status: str
    done: float | None = None


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds between two polls: ``first_s``, then each ``factor`` times longer."""

    first_s: float = 0.5
    factor: float = 1.4
    longest_s: float = 5.0


async def rest(seconds: float) -> None:
    """Wait between two polls."""
    await asyncio.sleep(seconds)


class Jobs:
    """Follows jobs to their end.

    Args:
        http: Classifies what goes wrong.
        timeout_s: Seconds that a call may take.
        pace: How often to ask.
        clock: Seconds of a clock that never goes back.
    """

    def __init__(
        self,
        http: Http,
        timeout_s: float,
        pace: Pace = Pace(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._http = http
        self._timeout_s = timeout_s
        self._pace = pace
        self._clock = clock

    async def run(
        self,
        call: Call,
        fact: Mapping[str, Json],
        poll: Callable[[str], Awaitable[T | Running]],
        listener: Listener,
    ) -> T:
        """Journal a job that was just submitted, then follow it.

        Args:
            call: What it makes.
            fact: ``job``: its id, and whatever :meth:`follow` and the answer need; never keys.
            poll: Asks once; raises what the API says of a job that went wrong.
            listener: Journals, and hears how far the job is.

        Raises:
            ProviderError: What ``poll`` raised of a job that is over; ``ambiguous`` if it is not.
        """
        if not job_id(fact):
            raise ProviderError("ambiguous", "the answer holds no id of a job", code="bad_response")
        await listener.note(call, fact)
        return await self.follow(call, fact, poll, listener)

    async def follow(
        self,
        call: Call,
        fact: Mapping[str, Json],
        poll: Callable[[str], Awaitable[T | Running]],
        listener: Listener,
    ) -> T:
        """Follow a job that is in the journal. Arguments and faults as for :meth:`run`."""
        job = job_id(fact)
        if not job:
            raise ProviderError("ambiguous", "the journal holds no id of a job", code=NO_JOB)
        deadline = self._clock() + self._timeout_s * _SHARE
        pause, status, wrong = self._pace.first_s, "submitted", 0
        while self._clock() < deadline:
            await rest(max(0.0, min(pause, deadline - self._clock())))
            pause = min(pause * self._pace.factor, self._pace.longest_s)
            try:
                found = await poll(job)
            except JobError:
                raise
            except Exception as error:
                fault = self._http.classify(error)
                if fault.kind == "refused":
                    raise fault from None
                wrong += fault.kind != "rate_limit"
                if wrong >= PATIENCE or fault.kind in {"auth", "invalid"}:
                    raise _lost(job, fault) from None
                pause = max(pause, fault.retry_after or 0.0)
                continue
            if not isinstance(found, Running):
                return found
            wrong, status = 0, found.status
            if found.done is not None:
                listener.progress(call, round(100 * min(max(found.done, 0.0), 1.0)), 100)
        raise ProviderError(
            "ambiguous",
            f"job {job} is still {status!r} after {self._timeout_s * _SHARE:g} s; "
            "`resume` takes it up again",
            code="job_running",
            request_id=job,
        )


class JobError(ProviderError):
    """What ``poll`` raises of a job that ended without pictures: refused, or worth another try."""


def job_id(fact: Mapping[str, Json]) -> str:
    """The id of the job in a journalled fact; empty where there is none."""
    job = fact.get("job")
    return job if isinstance(job, str) else ""


def sent_fields(fact: Mapping[str, Json]) -> Mapping[str, Json]:
    """What went on the wire, as a journalled fact has it under ``sent``."""
    sent = fact.get("sent")
    return sent if isinstance(sent, Mapping) else {}


def _lost(job: str, fault: ProviderError) -> ProviderError:
    return ProviderError(
        "ambiguous",
        f"job {job} was submitted, and cannot be asked: {fault.message}",
        code=fault.code,
        request_id=job,
    )
