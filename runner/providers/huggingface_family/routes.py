"""What each Inference Provider answers, and how its jobs are polled, all over the router."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from runner.providers.contract import Missing, ProviderError
from runner.providers.net import FaultRules, Http, JobError, Running, bad_response, one_line
from runner.providers.net.outputs import Found, mapping, text
from runner.settings.cell import Json

RULES = FaultRules(
    refused_words=("content checker", "content policy", "nsfw", "safety system"),
)
RAW = frozenset({"endpoint", "hf-inference"})
"""Routes that answer with the bytes of a picture."""
JOBS = frozenset({"fal-ai", "replicate", "wavespeed", "zai-org"})
"""Routes that may answer with a job."""


def job_of(route: str, answer: Mapping[str, Any]) -> dict[str, Json] | None:
    """What must be known to ask for a job again; ``None`` if the answer is whole already.

    Args:
        route: The Inference Provider.
        answer: Of the request that submitted it.
    """
    if route == "fal-ai" and text(answer.get("request_id")) and "images" not in answer:
        return {"job": str(answer["request_id"]), "path": _path(answer.get("response_url"))}
    if route == "replicate" and answer.get("output") is None and text(answer.get("id")):
        place = _path(mapping(answer.get("urls")).get("get"))
        return {"job": str(answer["id"]), "path": place or f"/v1/predictions/{answer['id']}"}
    if route == "wavespeed":
        data = mapping(answer.get("data"))
        place = _path(mapping(data.get("urls")).get("get"))
        return {"job": str(data.get("id") or ""), "path": place}
    if route == "zai-org" and answer.get("task_status") == "PROCESSING":
        job = str(answer.get("id") or "")
        return {"job": job, "path": f"/api/paas/v4/async-result/{job}"}
    return None


def _path(address: object) -> str:
    """The path of an address; empty if it is none."""
    try:
        return urlsplit(text(address) or "").path
    except ValueError:
        return ""


async def poll(
    http: Http, route: str, job: str, path: str, headers: Mapping[str, str]
) -> Mapping[str, Any] | Running:
    """Ask once for a job.

    Args:
        http: The router's address and key.
        route: The Inference Provider.
        job: Its id.
        path: Of :func:`job_of`.
        headers: Further headers.

    Raises:
        JobError: It ended without a picture.
    """
    place = f"/{route}{path}"
    if route == "fal-ai":
        query = {"_subdomain": "queue"}
        asked = await http.send("GET", f"{place}/status", query=query, headers=headers)
        status = str(asked.json().get("status"))
        if status != "COMPLETED":
            return Running(status)
        try:
            return (await http.send("GET", place, query=query, headers=headers)).json()
        except ProviderError as error:
            if error.kind not in {"refused", "invalid"}:
                raise
            raise JobError(error.kind, error.message, code=error.code, request_id=job) from None
    found = (await http.send("GET", place, headers=headers)).json()
    inner = mapping(found.get("data")) if route == "wavespeed" else found
    status = str(inner.get("task_status" if route == "zai-org" else "status"))
    if status in {"failed", "canceled", "FAIL"}:
        said = http.keys.redact(one_line(str(inner.get("error") or status)))
        refused = any(word in said.lower() for word in RULES.refused_words)
        raise JobError("refused" if refused else "transient", said, code=status, request_id=job)
    done = status in {"succeeded", "completed", "SUCCESS"}
    return found if done else Running(status)


def found_in(route: str, answer: Mapping[str, Any]) -> list[Found | Missing]:
    """The pictures of an answer that is whole.

    Args:
        route: The Inference Provider.
        answer: Its JSON object.
    """
    items: object
    if route == "fal-ai":
        items, flags = answer.get("images"), answer.get("has_nsfw_concepts")
        if isinstance(flags, list) and flags and flags[0] is True:
            return [
                Missing(
                    outcome="refused", kind="content_filter", message="flagged as not safe for work"
                )
            ]
    elif route == "wavespeed":
        items = mapping(answer.get("data")).get("outputs")
    elif route == "replicate":
        output = answer.get("output")
        items = output if isinstance(output, list) else [output]
    elif route == "zai-org":
        items = answer.get("image_result")
    else:
        items = answer.get("data")
    seed = answer.get("seed")
    effective: dict[str, Json] = {"seed": seed} if isinstance(seed, int) else {}
    return [
        Found(source, effective=effective)
        for item in (items if isinstance(items, list) else [])
        if (source := _source(item))
    ]


def raw_picture(headers: Mapping[str, str], body: bytes) -> bytes | Missing:
    """The picture that an answer is, byte for byte.

    Raises:
        ProviderError: It is an HTML page.
    """
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "text/html":
        raise bad_response("an HTML page")
    if body and not kind.startswith("text/"):
        return body
    said = one_line(body.decode("utf-8", "replace")) or "no image in the answer"
    return Missing(outcome="failed", kind="no_image", message=said)


def _source(item: object) -> str | None:
    if isinstance(item, Mapping):
        return text(item.get("b64_json")) or text(item.get("url"))
    return text(item)
