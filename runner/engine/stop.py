"""Stopping well: the first signal ends the sending, the second ends everything.

SIGINT and SIGTERM are heard from the first call to the last page. A SIGTERM announces the end of
the machine, so it counts as a second signal when the grace is over.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
GRACE_S = 8.0
"""After a SIGTERM, calls in flight have so long to end."""


class Stop:
    """Whether the user asked to stop.

    Attributes:
        requested: No new calls; those in flight are finished and written.
        at_once: Calls in flight are given up too.
        on_request: Called in the event loop when a stop is asked for.
    """

    def __init__(self) -> None:
        self.requested = False
        self.at_once = False
        self.on_request: list[Callable[[], None]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._main: asyncio.Task[object] | None = None
        self._event = asyncio.Event()

    @contextmanager
    def listening(self) -> Iterator[Stop]:
        """Hear SIGINT and SIGTERM, in the main thread."""
        before = {number: signal.signal(number, self._hear) for number in SIGNALS}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def working(self) -> Iterator[None]:
        """The current task makes the calls: it is what a second request cancels."""
        self._loop, self._main = asyncio.get_running_loop(), asyncio.current_task()
        try:
            if self.requested:
                self._act()
            yield
        finally:
            self._main = None

    def request(self, *, grace_s: float | None = None) -> None:
        """Ask to stop; a second time: now.

        Args:
            grace_s: Seconds after which this request repeats itself.
        """
        self.at_once = self.requested
        self.requested = True
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._act)
            if grace_s is not None and not self.at_once:
                self._loop.call_soon_threadsafe(self._repeat_after, self._loop, grace_s)

    async def sleep(self, seconds: float) -> None:
        """Sleep, but wake when a stop is asked for."""
        if seconds <= 0 or self.requested:
            return
        try:
            async with asyncio.timeout(seconds):
                await self._event.wait()
        except TimeoutError:
            pass

    def _repeat_after(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        loop.call_later(seconds, self.request)

    def _act(self) -> None:
        self._event.set()
        for call in self.on_request:
            call()
        if self.at_once and self._main is not None:
            self._main.cancel()
            self._main = None

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self.at_once:
            # A third time: the journal is whole at any moment, and resume settles the rest.
            os._exit(130)
        self.request(grace_s=GRACE_S if number == signal.SIGTERM else None)
        if self.at_once and self._main is None:
            raise KeyboardInterrupt
