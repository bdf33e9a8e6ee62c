"""A paid service that keeps its own books: what was asked of it, and which pictures it sold.

The books stand outside the process that is killed, so they cannot be wrong about it.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from aiohttp import web

from runner.record.journal import intact
from runner.record.paths import RunPaths, parse_image_name
from runner.record.verify import verify
from tests.cli.runs import manifest, rows
from tests.conftest import wait_for_writer
from tests.servers.loopback import Seen, Situation
from tests.servers.openai import OpenAIServer


class Service(OpenAIServer):
    """OpenAI's API, and a ledger.

    Attributes:
        asked: Images that were asked for, by prompt.
        sold: Hashes of the pictures that were sent, by prompt.
        calls_made: Requests for pictures.
    """

    def __init__(self) -> None:
        super().__init__()
        self.asked: Counter[str] = Counter()
        self.sold: defaultdict[str, set[str]] = defaultdict(set)
        self.calls_made = 0

    async def answer(self, seen: Seen, situation: Situation) -> web.StreamResponse:
        prompt = seen.json["prompt"]
        self.calls_made += 1
        self.asked[prompt] += seen.json["n"]
        response = await super().answer(seen, situation)
        assert isinstance(response, web.Response)
        assert isinstance(response.body, bytes)
        for item in json.loads(response.body).get("data", []):
            data = base64.b64decode(item["b64_json"])
            self.sold[prompt].add(hashlib.sha256(data).hexdigest())
        return response


def journal(run: Path, kind: str) -> list[dict[str, Any]]:
    """Every whole record of a kind, by a reader of our own."""
    lines = [
        line for file in sorted((run / "journal").glob("*.jsonl"))
        for line in file.read_bytes().splitlines(keepends=True)
    ]  # fmt: skip
    records = [json.loads(line) for line in lines if intact(line)]
    return [record for record in records if record["kind"] == kind]


class Watch:
    """Looks at a run folder between two processes, and says what the service may see from then on.

    Attributes:
        safe: Prompts whose pictures are all on disk, with what had been asked for them by then.
    """

    def __init__(self, run: Path, service: Service, prompts: list[str], n: int) -> None:
        self.run = run
        self.service = service
        self.prompts = prompts
        self.n = n
        self.safe: dict[str, int] = {}

    def look(self) -> None:
        """After a death: note what is safe, and that nothing that was safe was asked for again."""
        wait_for_writer(self.run)
        self.check_nothing_twice()
        there: Counter[str] = Counter()
        for path in (self.run / "images").glob("*/*"):
            name = parse_image_name(f"{path.parent.name}/{path.name}")
            if name is not None:
                prompt = self.prompts[name[0] // self.n]
                there[prompt] += 1
                found = hashlib.sha256(path.read_bytes()).hexdigest()
                assert found in self.service.sold[prompt], f"{path} is not what was sold"
        for prompt in self.prompts:
            if there[prompt] == self.n:
                self.safe.setdefault(prompt, self.service.asked[prompt])

    def check_nothing_twice(self) -> None:
        again = [at for at in self.safe if self.service.asked[at] != self.safe[at]]
        assert again == [], "these were on disk and were paid again"

    def finished(self) -> None:
        """The run is done: every cell exactly once, every hash right, every call in the books."""
        self.look()
        made = rows(self.run)
        cells = len(self.prompts) * self.n
        assert [row["index"] for row in made] == list(range(cells))
        assert len({row["cell_id"] for row in made}) == cells
        assert [row["prompt"] for row in made] == [
            prompt for prompt in self.prompts for _ in range(self.n)
        ]
        for row in made:
            data = (self.run / "images" / row["file_name"]).read_bytes()
            assert hashlib.sha256(data).hexdigest() == row["sha256"]
            assert row["sha256"] in self.service.sold[row["prompt"]]
        found = verify(RunPaths(self.run), pixels=True).findings
        assert found == (), [str(one) for one in found]
        assert manifest(self.run)["counts"]["done"] == cells
        # Nothing reached the service that was not written down first.
        asked: Counter[str] = Counter()
        for record in journal(self.run, "sent"):
            for index, _ in record["cells"]:
                asked[self.prompts[index // self.n]] += 1
        unwritten = {at for at in self.prompts if self.service.asked[at] > asked[at]}
        assert unwritten == set()
        assert self.service.problems == []
