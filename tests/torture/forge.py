"""Command lines by the hundred: a process that has everything imported forks one for each.

Starting Python and importing an SDK takes a second, and a fork of a process that has done so takes
a few milliseconds. The child runs the same ``runner.cli.main.run`` as ``python -m runner`` and can
be killed like any other process.

``python -m tests.torture.forge`` reads one JSON object per line and answers each with one.
"""

from __future__ import annotations

import datetime
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conftest import REPOSITORY, Finished

WARM_UP = ("plan", "provider=openai", "prompt=warm", "prompts=null")


@dataclass
class Child:
    """A command line that runs."""

    forge: Forge
    pid: int
    out: Path

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal; fine if it has ended meanwhile, for nobody has waited for it yet."""
        os.kill(self.pid, number)

    def wait(self) -> Finished:
        """How it ended; a negative code is the signal that ended it. Once."""
        status = self.forge.ask(wait=self.pid)["status"]
        text = self.out.read_text(errors="replace")
        return Finished(os.waitstatus_to_exitcode(status), text, "")


class Forge:
    """The process that forks."""

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        self._folder = folder
        self._count = 0
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.torture.forge"],
            cwd=REPOSITORY,
            env={**os.environ, **env},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, **request: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return dict(json.loads(self._process.stdout.readline()))

    def start(self, *argv: str, env: Mapping[str, str] | None = None) -> Child:
        """Start a command line."""
        self._count += 1
        out = self._folder / f"out-{self._count}.txt"
        out.touch()  # a child may be killed before it opens it
        answer = self.ask(argv=argv, cwd=str(self._folder), out=str(out), env=dict(env or {}))
        return Child(self, answer["pid"], out)

    def run(self, *argv: str, env: Mapping[str, str] | None = None) -> Finished:
        """Run a command line to its end."""
        return self.start(*argv, env=env).wait()

    def close(self) -> None:
        self._process.communicate()


@contextmanager
def forging(folder: Path, **env: str) -> Iterator[Forge]:
    """A forge whose command lines run in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    forge = Forge(folder, env)
    try:
        yield forge
    finally:
        forge.close()


def _serve() -> None:
    import aiohttp
    import httpx2
    import openai
    import PIL.ImageFont

    from runner.cli import batch, main
    from runner.cli.commands import resume, verify
    from runner.report import write_report

    assert all((batch, resume, verify, write_report, aiohttp, httpx2, openai, PIL.ImageFont))
    null = os.open(os.devnull, os.O_WRONLY)
    real = os.dup(1)
    os.dup2(null, 1)
    main.run(list(WARM_UP))
    sys.stdout.flush()
    os.dup2(real, 1)
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            answer = {"status": os.waitpid(request["wait"], 0)[1]}
        else:
            pid = os.fork()
            if pid == 0:
                os._exit(_child(request))
            answer = {"pid": pid}
        os.write(1, json.dumps(answer).encode() + b"\n")


def jump(dice: random.Random) -> None:
    """Let every look at the clock find another year, forwards and backwards."""

    class Jumping(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Any:
            return super().now(tz) + datetime.timedelta(days=dice.randint(-4000, 4000))

    real = time.time
    datetime.datetime = Jumping  # type: ignore[misc]
    time.time = lambda: real() + dice.randint(-(10**8), 10**8)


def _child(request: dict[str, Any]) -> int:
    from runner.cli import main
    from runner.record import crash

    os.setsid()
    os.chdir(request["cwd"])
    os.environ.update(request["env"])
    out = os.open(request["out"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    for stream in (1, 2):
        os.dup2(out, stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    crash.arm(request["env"].get("RUNNER_CRASH_AT", ""))
    if "JUMPING_CLOCK" in request["env"]:
        jump(random.Random(request["env"]["JUMPING_CLOCK"]))
    sys.argv = ["runner", *request["argv"]]
    code = 1
    try:
        code = main.run(request["argv"])
    except BaseException:
        sys.excepthook(*sys.exc_info())
    sys.stdout.flush()
    sys.stderr.flush()
    return code


if __name__ == "__main__":
    _serve()
