"""Stopping well: the first signal ends the sending, the second ends everything."""

from __future__ import annotations

import asyncio
import signal
from types import TracebackType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Whether the user asked to stop. A context manager that listens to SIGINT and SIGTERM.

    Attributes:
        requested: No new calls; those in flight are finished and written.
        at_once: Calls in flight are given up too.
    """

    def __init__(self) -> None:
        self.requested = False
        self.at_once = False
        self._event = asyncio.Event()
        self._main = asyncio.current_task()

    def __enter__(self) -> Stop:
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self.request)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.remove_signal_handler(number)

    def request(self) -> None:
        """Ask to stop; a second time: now."""
        if self.requested and self._main is not None and not self.at_once:
            self.at_once = True
            self._main.cancel()
        self.requested = True
        self._event.set()

    async def sleep(self, seconds: float) -> None:
        """Sleep, but wake when a stop is asked for."""
        if seconds <= 0:
            return
        try:
            async with asyncio.timeout(seconds):
                await self._event.wait()
        except TimeoutError:
            pass
