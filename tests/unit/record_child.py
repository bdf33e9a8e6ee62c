"""A process that works off a small run and can be killed at any time.

``python -m tests.unit.record_child DIR``. It says aloud what was confirmed to it, line by line.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from runner.record.atomic import put_durably
from runner.record.derive import derive
from runner.record.paths import RunPaths
from runner.record.state import RunState, load_state, unanswered_images
from runner.record.store import RunStore
from tests.unit.records import PLAN, done, failed, files_of, sent

CELLS = 40
REFUSED = frozenset(range(0, CELLS, 8))


def outcome_of(index: int) -> str:
    return "refused" if index in REFUSED else "done"


def say(word: str, index: int) -> None:
    # One write: a kill must not cut a line that says that something is safe.
    os.write(1, f"{word} {index}\n".encode())


async def work_off(root: Path) -> RunState:
    """What an engine does: adopt, make what is missing, eight at a time, derive."""
    paths = RunPaths(root)
    store = await RunStore.open(paths, PLAN)
    state = load_state(paths)
    put_durably(paths.plan, b"{}")
    for call, _, path in unanswered_images(paths, state):
        index = call.sent.cells[0][0]
        await store.commit(done(index, path.read_bytes()), {})
        say("done", index)
    state = load_state(paths)
    indices = iter([i for i in range(CELLS) if state.outcome(i) in (None, "unknown")])

    async def worker() -> None:
        for index in indices:
            await store.sent(sent(index))
            say("sent", index)
            record = failed(index, "refused") if index in REFUSED else done(index)
            await store.commit(record, files_of(record))
            say(outcome_of(index), index)

    await asyncio.gather(*(worker() for _ in range(8)))
    await store.close()
    state = derive(paths)
    say("finished", CELLS)
    return state


if __name__ == "__main__":
    asyncio.run(work_off(Path(sys.argv[1])))
