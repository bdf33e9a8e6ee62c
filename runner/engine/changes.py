"""Waiting for something to change."""

from __future__ import annotations

import asyncio


class Changes:
    """Wakes everybody who waits, each time it is told."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    async def wait(self) -> None:
        """Until the next change."""
        await self._event.wait()

    def tell(self) -> None:
        """Something changed."""
        event, self._event = self._event, asyncio.Event()
        event.set()
