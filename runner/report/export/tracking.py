"""MLflow: one run of its own for a whole run folder, with a table of the cells."""

from __future__ import annotations

import shlex
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

from runner.report.export.source import Source
from runner.settings.cell import Json
from runner.settings.errors import RequestError

_EXPERIMENT = "image-batch-runner"
_RUN_ID = "runner.run_id"
_MOST_PARAM = 6000
"""Longest value that MLflow takes for a parameter."""

_TABLE = (
    "index", "provider", "model", "prompt", "seed", "axes", "width", "height", "sha256",
    "latency_s", "cost_usd", "cost_basis", "attempts", "started_at",
)  # fmt: skip


def mlflow(source: Source, uri: str) -> None:
    """Log a run: parameters, counts and cost, a table of the cells, the record as artifacts.

    Args:
        source: The run.
        uri: MLflow's tracking URI: ``http://host:5000``, ``sqlite:///mlflow.db``.

    Raises:
        RequestError: The store holds this run already, or does not answer.
    """
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    manifest = source.manifest
    parts = urlsplit(uri)
    location = None
    if parts.scheme == "sqlite":
        folder = Path(parts.path.removeprefix("/")).parent.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        location = (folder / "artifacts").as_uri()
    rows: dict[str, list[Json]] = {name: [] for name in _TABLE}
    for sample in source.samples():
        for name in _TABLE:
            rows[name].append(sample.members[name])
    try:
        client = MlflowClient(tracking_uri=uri)
        found = client.get_experiment_by_name(_EXPERIMENT)
        experiment = (
            found.experiment_id
            if found
            else client.create_experiment(_EXPERIMENT, artifact_location=location)
        )
        same = client.search_runs([experiment], f"tags.`{_RUN_ID}` = '{manifest.run_id}'")
        if same:
            raise RequestError(f"{uri}: holds run {manifest.run_id} already")
        run = client.create_run(
            experiment,
            start_time=_milliseconds(manifest.started_at),
            run_name=manifest.run_id,
            tags={_RUN_ID: manifest.run_id, "runner.plan_hash": manifest.plan_hash},
        ).info.run_id
        for name, value in _params(source).items():
            client.log_param(run, name, value[:_MOST_PARAM])
        metrics = {**manifest.counts.model_dump(), "cells": manifest.cells}
        if manifest.cost_usd is not None:
            metrics["cost_usd"] = manifest.cost_usd
        for name, number in metrics.items():
            client.log_metric(run, name, number)
        client.log_table(run, rows, "cells.json")
        for path in (source.paths.manifest, source.paths.plan, source.paths.failures):
            if path.is_file():
                client.log_artifact(run, str(path))
        status = "FINISHED" if manifest.status == "done" else "FAILED"
        client.set_terminated(run, status, _milliseconds(manifest.ended_at or manifest.started_at))
    except MlflowException as error:
        raise RequestError(f"{uri}: {str(error).splitlines()[0]}") from error


def _params(source: Source) -> dict[str, str]:
    manifest = source.manifest
    models = ", ".join(f"{provider} {model}" for provider, model in sorted(source.by_model))
    return {
        "command": shlex.join(["python", "-m", "runner", *manifest.command]),
        "models": models,
        "version": manifest.code.version,
        "commit": manifest.code.commit or "unknown",
        "cost_basis": manifest.cost_basis,
    }


def _milliseconds(moment: str) -> int:
    return int(datetime.fromisoformat(moment).timestamp() * 1000)
