"""One worker process, seen from its parent: started, asked, listened to, ended."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

from runner.providers.contract import Answer, Call, Listener
from runner.providers.local.worker import (
    Ask,
    Cancel,
    Done,
    Failed,
    Message,
    Order,
    Progress,
    Ready,
    Settle,
    Settled,
    Together,
)
from runner.settings.cell import Cell, Json
from runner.settings.errors import PrerequisiteError, RunnerError

_GRACE_S = 10.0


class WorkerDiedError(Exception):
    """The process is gone, and with it what it had not answered."""


@dataclass(slots=True)
class _Asked:
    """What a worker was asked."""

    answer: asyncio.Future[Any]
    progress: Callable[[int, int], None] | None = None


@dataclass(slots=True, eq=False)
class WorkerProcess:
    """One worker process.

    Attributes:
        settings: Of its provider, as JSON.
        environment: Its environment.
        load: Calls that it has.
        ready: It has loaded the model and lives.
    """

    settings: str
    environment: Mapping[str, str]
    load: int = 0
    ready: bool = False
    _asked: dict[int, _Asked] = field(default_factory=dict)
    _number: int = 0
    _process: subprocess.Popen[bytes] | None = None
    _pipe: Connection | None = None
    _ready: asyncio.Future[Ready] | None = None

    async def start(self) -> Mapping[str, Json]:
        """Start the process; wait until it has loaded the model, and return what that is.

        Raises:
            RunnerError: What the worker says is wrong or missing.
        """
        loop = asyncio.get_running_loop()
        self._ready = loop.create_future()
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "runner.providers.local.worker", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                # A stop is for the parent to hand on: Ctrl-C in a terminal reaches a whole group.
                process_group=0,
            )
        self._pipe = Connection(ours.detach())
        self._pipe.send(self.settings)
        threading.Thread(
            target=self._listen, args=(self._pipe, loop), name="worker", daemon=True
        ).start()
        try:
            found = await self._ready
        except WorkerDiedError:
            raise PrerequisiteError(
                "a worker process ended before it had loaded the model; its own words are above"
            ) from None
        self.ready = True
        return found.identity

    async def ask(self, call: Call, listener: Listener) -> Answer:
        """Have a call made.

        Raises:
            ProviderError: As the worker's provider classified it.
            WorkerDiedError: The process is gone.
        """
        answer: Answer = await self._question(
            lambda number: Ask(number, call), partial(listener.progress, call)
        )
        return answer

    async def settle(self, calls: tuple[tuple[Cell, ...], ...]) -> Mapping[str, Json]:
        """Have it decided what only a loaded model can tell.

        Raises:
            WorkerDiedError: The process is gone.
        """
        values: Mapping[str, Json] = await self._question(lambda number: Settle(number, calls))
        return values

    def compute_together(self, batch_size: int) -> None:
        """Have batches of this size made from now on; a process that is gone does not care."""
        with suppress(WorkerDiedError):
            self._send(Together(batch_size))

    async def _question(
        self,
        order: Callable[[int], Ask | Settle],
        progress: Callable[[int, int], None] | None = None,
    ) -> Any:
        if self._pipe is None or not self.ready:
            raise WorkerDiedError
        self._number += 1
        number = self._number
        asked = _Asked(asyncio.get_running_loop().create_future(), progress)
        self._asked[number] = asked
        try:
            self._send(order(number))
            return await asked.answer
        except asyncio.CancelledError:
            self._send(Cancel(number))
            raise
        finally:
            self._asked.pop(number, None)

    async def stop(self) -> None:
        """End the process: it ends by itself when its pipe closes, or is ended."""
        self.ready = False
        if self._pipe is not None:
            self._pipe.close()
        if self._process is not None:
            try:
                await asyncio.to_thread(self._process.wait, _GRACE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                await asyncio.to_thread(self._process.wait)

    def _send(self, message: Order) -> None:
        if self._pipe is None:
            raise WorkerDiedError
        try:
            self._pipe.send(message)
        except OSError:
            raise WorkerDiedError from None

    def _listen(self, pipe: Connection, loop: asyncio.AbstractEventLoop) -> None:
        """On a thread of its own: hand every message to the event loop."""
        message: Message | None = None
        while True:
            try:
                message = pipe.recv()
            except (EOFError, OSError):
                message = None
            try:
                loop.call_soon_threadsafe(self._hear, message)
            except RuntimeError:  # the loop is closed: the run is over
                return
            if message is None:
                return

    def _hear(self, message: Message | None) -> None:
        if message is None:
            self.ready = False
            for asked in self._asked.values():
                if not asked.answer.done():
                    asked.answer.set_exception(WorkerDiedError())
            if self._ready is not None and not self._ready.done():
                self._ready.set_exception(WorkerDiedError())
        elif isinstance(message, Ready):
            if self._ready is not None and not self._ready.done():
                self._ready.set_result(message)
        elif isinstance(message, Failed) and message.number is None:
            error = message.error
            if self._ready is not None and not self._ready.done():
                self._ready.set_exception(
                    error if isinstance(error, RunnerError) else PrerequisiteError(str(error))
                )
        else:
            self._hear_of_call(message)

    def _hear_of_call(self, message: Message) -> None:
        asked = self._asked.get(getattr(message, "number", None) or 0)
        if asked is None:
            return
        if isinstance(message, Progress):
            if asked.progress is not None:
                asked.progress(message.done, message.total)
        elif not asked.answer.done():
            if isinstance(message, Done):
                asked.answer.set_result(message.answer)
            elif isinstance(message, Settled):
                asked.answer.set_result(message.values)
            elif isinstance(message, Failed):
                asked.answer.set_exception(message.error)
