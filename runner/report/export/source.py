"""What an export reads: the rows of a run and the bytes of its images, one at a time."""

from __future__ import annotations

import hashlib
import importlib.resources
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from runner.record.derive import flat, read_rows
from runner.record.manifest import Manifest, read_manifest
from runner.record.paths import RunPaths
from runner.record.reader import GONE
from runner.record.rows import ImageRow
from runner.settings.cell import Json
from runner.settings.errors import RequestError


@dataclass(frozen=True, slots=True)
class ColumnType:
    """A column of the rows.

    Attributes:
        name: As in ``metadata.jsonl``.
        kind: ``string``, ``integer``, ``number`` or ``strings`` (a list of them).
        description: For people.
    """

    name: str
    kind: str
    description: str


@dataclass(frozen=True, slots=True)
class Sample:
    """One image with its row.

    Attributes:
        key: Names it, without a dot: ``0000012-5f0c…``.
        suffix: With its dot: ``.png``.
        data: The file.
        row: As recorded.
    """

    key: str
    suffix: str
    data: bytes
    row: ImageRow

    @property
    def members(self) -> dict[str, Json]:
        """The flat row, as in ``metadata.jsonl``, without the path inside the run."""
        members = flat(self.row)
        del members["file_name"]
        return members


class Source:
    """A run folder to export.

    Args:
        paths: The run.

    Raises:
        RequestError: It has no manifest that can be read.
    """

    def __init__(self, paths: RunPaths) -> None:
        self.paths = paths
        self.manifest: Manifest = read_manifest(paths)
        self.by_model: Counter[tuple[str, str]] = Counter()
        self.mimes: Counter[str] = Counter()
        self.bytes = 0
        for row in self._rows():
            self.by_model[row.provider, row.model] += 1
            self.mimes[row.mime] += 1
            self.bytes += row.bytes

    @property
    def count(self) -> int:
        """How many images there are."""
        return self.by_model.total()

    def samples(self) -> Iterator[Sample]:
        """Every image of the plan, in its order.

        Raises:
            RequestError: A file is missing or is not as recorded.
        """
        for row in self._rows():
            path = self.paths.image(row.file_name)
            try:
                data = path.read_bytes()
            except FileNotFoundError:
                data = b""
            if hashlib.sha256(data).hexdigest() != row.sha256:
                raise RequestError(
                    f"{path}: not as recorded, so nothing was exported; "
                    f"`python -m runner verify {self.paths.root}` lists every difference"
                )
            yield Sample(path.stem, path.suffix, data, row)

    def _rows(self) -> Iterator[ImageRow]:
        return (row for row in read_rows(self.paths) if row.index != GONE)


def columns() -> list[ColumnType]:
    """The columns of a flat row, from the published schema; the path inside the run left out."""
    schema = importlib.resources.files("runner.record") / "schemas" / "image_row.json"
    properties: dict[str, Any] = json.loads(schema.read_text("utf-8"))["properties"]
    return [
        ColumnType(name, _kind(member), member["description"])
        for name, member in properties.items()
        if name != "file_name"
    ]


def _kind(member: dict[str, Any]) -> str:
    options = [option for option in member.get("anyOf", [member]) if option.get("type") != "null"]
    kind = str(options[0].get("type", "string"))
    return "strings" if kind == "array" else kind
