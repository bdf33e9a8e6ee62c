"""Threads for SDKs that only know how to wait."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


async def in_thread(work: Callable[[], Result]) -> Result:
    """Run a call that blocks on the network, in a thread of its own.

    Calls in flight are bounded by the limits, so there are as many threads as calls, and none
    waits for a free one. An executor would do that, and would also keep the program from ending
    until its last call has answered; these threads are daemons, so a second Ctrl-C ends it now.

    Raises:
        BaseException: What ``work`` raised.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Result] = loop.create_future()

    def tell(result: Result | None, error: BaseException | None) -> None:
        if future.done():  # cancelled meanwhile
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, failure = None, None
        try:
            result = work()
        except BaseException as error:  # raised again where the call is awaited
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop has ended, and nobody waits
            loop.call_soon_threadsafe(tell, result, failure)

    threading.Thread(target=run, name="sdk-call", daemon=True).start()
    return await future
