"""What a run decided although its config left it open: kept in the manifest, and used again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from runner.cli.expand import Composed, Expanded, without_axis_lists
from runner.record.paths import RunPaths
from runner.settings.load import read_settings, with_values

_SAME = ("provider", "model", "pipeline", "device")
"""Sections that a decision depends on."""


def settled_before(
    expanded: Expanded, paths: RunPaths
) -> tuple[Expanded, tuple[Mapping[str, Any], ...]]:
    """What was asked, with what an earlier run in the same folder decided about it.

    Returns:
        The same variants with these values in their settings, and the values, one for each.
    """
    records = _records(paths)
    variants: list[Composed] = []
    settled: list[Mapping[str, Any]] = []
    for index, composed in enumerate(expanded.variants):
        record, found = records.get(index, {}), {}
        if all(record.get("config", {}).get(name) == composed.config[name] for name in _SAME):
            found = record["settled"]
            config = without_axis_lists(with_values(composed.config, found))
            composed = replace(composed, settings=read_settings(config))
        variants.append(composed)
        settled.append(found)
    return replace(expanded, variants=tuple(variants)), tuple(settled)


def _records(paths: RunPaths) -> dict[int, dict[str, Any]]:
    """The variants in a folder's manifest that something was decided about, by index."""
    try:
        found = json.loads(paths.manifest.read_bytes())
        return {one["index"]: one for one in found["variants"] if one.get("settled")}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}  # none, or not a manifest of ours: the engine says what is wrong with it
