"""A worker process of :mod:`runner.providers.local.pool`: loads a model once, makes calls.

Started as ``python -m runner.providers.local.worker DESCRIPTOR``; ends when its pipe closes. What
goes over the pipe are this package's own objects between two processes of one user.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection

from runner.providers.contract import Answer, Call, ProviderError
from runner.settings.cell import Cell, Json
from runner.settings.errors import RunnerError
from runner.settings.schema import VariantSettings


@dataclass(frozen=True, slots=True)
class Ask:
    """Make this call."""

    number: int
    call: Call


@dataclass(frozen=True, slots=True)
class Settle:
    """Decide what only a loaded model can tell, for calls like these."""

    number: int
    calls: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True, slots=True)
class Together:
    """Compute so many images together from now on."""

    batch_size: int


@dataclass(frozen=True, slots=True)
class Cancel:
    """Stop making that call."""

    number: int


@dataclass(frozen=True, slots=True)
class Ready:
    """The model is loaded."""

    identity: Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a call is."""

    number: int
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Done:
    """The answer to a call."""

    number: int
    answer: Answer


@dataclass(frozen=True, slots=True)
class Settled:
    """What was decided, by config key."""

    number: int
    values: Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class Failed:
    """A call failed; without a number: the model could not be loaded."""

    number: int | None
    error: ProviderError | RunnerError


Order = Ask | Settle | Together | Cancel
Message = Ready | Progress | Done | Settled | Failed


class _Listener:
    """Passes progress on to the parent."""

    def __init__(self, send: _Sender, number: int) -> None:
        self._send, self._number = send, number

    def progress(self, call: Call, done: int, total: int) -> None:
        self._send(Progress(self._number, done, total))

    async def note(self, call: Call, fact: Mapping[str, Json]) -> None:
        raise RuntimeError("a local call has nothing to note")


class _Sender:
    """Sends from any thread, one message at a time; a parent that is gone hears nothing."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe, self._lock = pipe, threading.Lock()

    def __call__(self, message: Message) -> None:
        with self._lock:
            try:
                self._pipe.send(message)
            except OSError:
                return


async def _serve(pipe: Connection, settings: VariantSettings) -> None:
    from runner.providers.local.diffusers import DiffusersProvider

    send = _Sender(pipe)
    provider = DiffusersProvider(settings)
    try:
        await provider.open()
    except RunnerError as error:
        send(Failed(None, error))
        return
    send(Ready(dict(provider.model_identity())))
    running: dict[int, asyncio.Task[None]] = {}

    async def make(ask: Ask | Settle) -> None:
        number = ask.number
        try:
            if isinstance(ask, Ask):
                send(Done(number, await provider.generate(ask.call, _Listener(send, number))))
            else:
                send(Settled(number, await provider.settle(iter(ask.calls))))
        except Exception as error:
            send(Failed(number, provider.classify(error)))
        finally:
            running.pop(number, None)

    try:
        while True:
            message = await asyncio.to_thread(_receive, pipe)
            if message is None:
                return
            if isinstance(message, Ask | Settle):
                running[message.number] = asyncio.create_task(make(message))
            elif isinstance(message, Together):
                provider.compute_together(message.batch_size)
            elif task := running.get(message.number):
                task.cancel()
    finally:
        for task in running.values():
            task.cancel()
        await provider.close()


def _receive(pipe: Connection) -> Order | None:
    try:
        message: Order = pipe.recv()
    except (EOFError, OSError):
        return None
    return message


def main() -> None:
    """Serve the pipe that the parent has opened."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pipe = Connection(int(sys.argv[1]))
    settings = VariantSettings.model_validate_json(pipe.recv())
    asyncio.run(_serve(pipe, settings))


if __name__ == "__main__":
    # Under its own name, so that what it sends are the classes that the parent knows.
    from runner.providers.local import worker

    worker.main()
