"""Jobs of a loopback server: what each poll finds, whatever words an API has for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tests.servers.loopback import Loopback, Situation, image_bytes

State = Literal["running", "odd", "unknown", "limited", "broken", "failed", "refused", "done"]


@dataclass(slots=True)
class Job:
    """A request that was taken.

    Attributes:
        id: Its id.
        situation: How it ends.
        body: What was asked.
        polls: How often it was polled.
        result: What the server answers of it, once made.
    """

    id: str
    situation: Situation
    body: Mapping[str, Any]
    polls: int = 0
    result: Any = None


@dataclass
class JobBoard:
    """The jobs of one server."""

    jobs: dict[str, Job] = field(default_factory=dict)

    def submit(self, situation: Situation, body: Mapping[str, Any]) -> Job:
        """Take a request."""
        job = Job(f"job-{len(self.jobs) + 1:04}", situation, body)
        self.jobs[job.id] = job
        return job

    def poll(self, job: Job) -> State:
        """What the next poll of a job finds: mostly first that it runs, then that it is done."""
        job.polls += 1
        first = job.polls <= 2
        match job.situation:
            case "stuck":
                return "running"
            case "lost_job":
                return "unknown"
            case "odd_status" if first:
                return "odd"
            case "slow_start" if first:
                return "unknown"
            case "busy_polls" if first:
                return "limited" if job.polls == 1 else "broken"
            case "job_failed":
                return "failed"
            case "refused_late":
                return "refused"
        return "running" if job.polls == 1 else "done"


def hosted(server: Loopback, situation: Situation, number: int, kind: str = "PNG") -> str:
    """The address of one image that a server made, in a situation."""
    if situation == "private_url":
        return "https://169.254.169.254/latest/meta-data"
    data = b"!!! noise !!!" if situation == "bad_base64" else image_bytes(situation, number, kind)
    url = server.host_file(f"{number}.{kind.lower()}", data)
    if situation == "lost_url":
        server.files.clear()
    return url
