"""How a cell can end."""

from __future__ import annotations

from typing import Literal

CellOutcome = Literal["done", "refused", "failed", "unknown"]

RETRIED: frozenset[CellOutcome] = frozenset({"failed", "unknown"})
"""Outcomes of earlier processes that are tried again unless the user says otherwise."""
