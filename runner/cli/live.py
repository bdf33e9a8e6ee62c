"""Rows and page of a run that goes on, by a process of its own.

They are read and drawn anew from all that the journal holds. A thread beside the event loop would
hold the interpreter's lock meanwhile: it cost a run with many calls in flight a tenth of its speed.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from contextlib import suppress
from pathlib import Path

from runner.cli.saved import places_in
from runner.record.derive import write_state
from runner.record.paths import RunPaths
from runner.record.state import load_state
from runner.settings.secrets import remember_environment

_NICE = 10


async def refresh(root: Path) -> None:
    """Write the rows and the page of a run folder as of now; cancelled, nothing more is written.

    A fault in them fails nothing: they are written once more when the run ends.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "runner.cli.live", str(root)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        process_group=0,
    )
    try:
        await process.wait()
    except asyncio.CancelledError:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        raise


def main() -> None:
    """What the process does; its last argument is the run folder."""
    # Who killed the run may go on with it at once, and must not find an older page put in its way.
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.nice(_NICE)
    remember_environment()
    from runner.report import MOST_LIVE_ENTRIES, write_page

    paths = RunPaths(Path(sys.argv[1]))
    state = load_state(paths, live=True)
    write_state(paths, state, places_in(paths, state))
    write_page(paths.root, MOST_LIVE_ENTRIES)


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


if __name__ == "__main__":
    main()
