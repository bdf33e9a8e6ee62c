"""How a cell can end."""

from __future__ import annotations

from typing import Literal

CellOutcome = Literal["done", "refused", "failed", "unknown"]

RETRIED: frozenset[CellOutcome] = frozenset({"failed", "unknown"})
"""Outcomes of earlier processes that are tried again unless the user says otherwise."""

LASTING: frozenset[str] = frozenset({"invalid"})
"""Kinds of failure that the same request meets every time: these are tried again only if the user
names ``failed``."""
