"""Tiny models, built once per test process, and one opened provider per family."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from tests import tiny
from tests.local.drawings import Drawings, draw
from tests.local.driver import Driver, make_provider


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[tiny.Family], Path]:
    """Folder of a tiny model; tests must not change it."""
    pytest.importorskip("diffusers")
    root = tmp_path_factory.mktemp("tiny")
    return cache(lambda family: tiny.build(family, root / family))


@pytest.fixture(scope="session")
def tiny_driver(
    tiny_folder: Callable[[tiny.Family], Path],
) -> Iterator[Callable[[tiny.Family], Driver]]:
    """An opened provider of a family, batches of 4; shared, so tests must not change it."""
    drivers: dict[tiny.Family, Driver] = {}

    def driver(family: tiny.Family) -> Driver:
        if family not in drivers:
            drivers[family] = Driver(make_provider(tiny_folder(family)))
        return drivers[family]

    yield driver
    for each in drivers.values():
        asyncio.run(each.provider.close())


@pytest.fixture(scope="session")
def tiny_controlnet(tmp_path_factory: pytest.TempPathFactory) -> Callable[[tiny.Family], Path]:
    """Folder of a tiny ControlNet that fits a family; tests must not change it."""
    pytest.importorskip("diffusers")
    root = tmp_path_factory.mktemp("controlnets")
    return cache(lambda family: tiny.build_controlnet(family, root / family))


@pytest.fixture(scope="session")
def drawings(tmp_path_factory: pytest.TempPathFactory) -> Drawings:
    """A picture, a mask and edges, as files of 64 x 64 pixels."""
    return draw(tmp_path_factory.mktemp("drawings"))
