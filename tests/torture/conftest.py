"""One ledger for all torture tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.torture.figures import Figures


@pytest.fixture(scope="session")
def figures() -> Iterator[Figures]:
    found = Figures()
    yield found
    found.save()
