"""What a run folder holds, gathered for people to look at."""

from __future__ import annotations

import dataclasses
import shlex
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from runner.record.derive import read_failures, read_rows
from runner.record.manifest import Manifest, VariantRecord, read_manifest
from runner.record.paths import RunPaths
from runner.record.rows import FailureRow, ImageRow
from runner.report.axes import IMAGE, VARIANT, Axis, Layout, choose_layout
from runner.report.table import Column, Table
from runner.report.text import BASES, moment, parse_moment, quantile, seconds, usd
from runner.settings.cell import CostBasis, Json, Scalar

MOST_ENTRIES = 20_000
"""Cells that one page takes; the totals count them all."""

_OURS = frozenset({IMAGE, VARIANT})
_DISTINCT = frozenset(
    {
        "cell_id",
        "file_name",
        "index",
        "sha256",
        "pixel_sha256",
        "request_id",
        "started_at",
        "latency_s",
    }
)
_NESTED = frozenset({"axes", "params_sent", "params_effective"})
_PLAIN_FIELDS = {
    kind: tuple(member.name for member in dataclasses.fields(kind) if member.name not in _NESTED)
    for kind in (ImageRow, FailureRow)
}


@dataclass(frozen=True, slots=True)
class ProviderTotals:
    """One line of the table of providers.

    Attributes:
        label: Provider and model.
        images: Images made.
        failures: Cells refused, failed or left unknown.
        p50: Median seconds of a call; empty where there is no image.
        p95: 95th percentile of the same.
        cost: Sum over the images, in words.
        cost_note: What the sum rests on.
        per_image: The same for one image; empty where unknown.
    """

    label: str
    images: int
    failures: int
    p50: str
    p95: str
    cost: str
    cost_note: str
    per_image: str


@dataclass(frozen=True, slots=True)
class Header:
    """The head of the page.

    Attributes:
        run_id: Name of the run.
        status: ``running``, ``done``, ``incomplete`` ….
        when: When it began, for people.
        took: How long it ran; empty while unknown.
        counts: Number and word: images, refused, failed ….
        missing: Planned cells that have neither an image nor a failure.
        cost: What it cost.
        cost_note: What that figure rests on.
        command: What makes it again.
        providers: One line for each variant.
        warnings: What a person should know of the whole run.
        fixed: Axes that hold one value all through the run, and that value.
    """

    run_id: str
    status: str
    when: str
    took: str
    counts: tuple[tuple[int, str], ...]
    missing: int
    cost: str
    cost_note: str
    command: str
    providers: tuple[ProviderTotals, ...]
    warnings: tuple[str, ...]
    fixed: tuple[tuple[str, str], ...]

    @property
    def missing_word(self) -> str:
        """What to call the cells that have nothing yet."""
        return "to come" if self.status == "running" else "missing"


@dataclass(frozen=True, slots=True)
class Gallery:
    """A run: its head, its cells in the plan's order, its axes.

    Attributes:
        header: Totals.
        table: One row per cell, in the order they were read.
        order: Rows of the table in the plan's order; a cell's place in it is its *entry*.
        axes: The axes that vary; ``at`` counts in entries.
        layout: The matrix that suits them.
        hidden: Cells beyond :data:`MOST_ENTRIES`, which only the totals count.
        recipes: Recipe of local images by short hash.
    """

    header: Header
    table: Table
    order: array[int]
    axes: tuple[Axis, ...]
    layout: Layout
    hidden: int
    recipes: Mapping[str, Json]

    def get(self, name: str, entry: int) -> Json:
        """A field of an entry; ``None`` where it has none."""
        return self.table.get(name, self.order[entry])

    def text(self, name: str, entry: int) -> str:
        """The same as text; empty where there is none."""
        return self.table.text(name, self.order[entry])

    def __len__(self) -> int:
        return len(self.order)


@dataclass(slots=True)
class _Tally:
    """Running totals of one variant."""

    provider: str
    model: str
    pipeline: str
    run: str = ""
    outcomes: Counter[str] = field(default_factory=Counter)
    latencies: array[float] = field(default_factory=lambda: array("d"))
    usd: float = 0.0
    bases: Counter[CostBasis] = field(default_factory=Counter)

    @classmethod
    def of(cls, record: VariantRecord) -> _Tally:
        pipeline = record.config.get("pipeline")
        kind = pipeline.get("name") if isinstance(pipeline, dict) else None
        return cls(record.provider, record.model, str(kind or ""), record.run or "")

    def add(self, row: ImageRow | FailureRow) -> None:
        if isinstance(row, FailureRow):
            self.outcomes[row.outcome] += 1
            return
        self.outcomes["done"] += 1
        self.latencies.append(row.latency_s)
        self.bases["unknown" if row.cost_usd is None else row.cost_basis] += 1
        self.usd += row.cost_usd or 0.0

    def totals(self, label: str) -> ProviderTotals:
        latencies = sorted(self.latencies)
        images = self.outcomes["done"]
        priced = images - self.bases["unknown"]
        cost, note = _cost(self.usd, self.bases)
        return ProviderTotals(
            label=label,
            images=images,
            failures=self.outcomes.total() - images,
            p50=seconds(quantile(latencies, 0.5)) if latencies else "",
            p95=seconds(quantile(latencies, 0.95)) if latencies else "",
            cost=cost,
            cost_note=note,
            per_image=usd(self.usd / priced) if priced and self.usd else "",
        )


def load(root: Path, most: int = MOST_ENTRIES) -> Gallery:
    """Gather a run folder, finished or not.

    Args:
        root: The run folder.
        most: Cells to keep; the rest is only counted.

    Raises:
        RequestError: The folder has no manifest that can be read.
    """
    paths = RunPaths(root)
    manifest = read_manifest(paths)
    table = Table(_DISTINCT)
    axes = {VARIANT: Column(), IMAGE: Column()}
    tallies = {record.index: _Tally.of(record) for record in manifest.variants}
    hidden = 0
    for row in _rows(paths):
        tallies.setdefault(row.variant, _Tally(row.provider, row.model, "")).add(row)
        if table.rows == most:
            hidden += 1
            continue
        for key, value in row.axes.items():
            if key not in axes:
                axes[key] = Column()
            axes[key].put(table.rows, value)
        axes[IMAGE].put(table.rows, row.image_index)
        axes[VARIANT].put(table.rows, row.variant)
        table.append(_fields(row))
    order = array("i", sorted(range(table.rows), key=lambda row: _place(table, row)))
    label, names = _variant_names(tallies)
    found = [_axis(key, column, order) for key, column in axes.items()]
    found = [_named(axis, label, names) for axis in found]
    varied = tuple(axis for axis in found if len(axis.values) > 1)
    single = (axis for axis in found if len(axis.values) == 1 and axis.key not in _OURS)
    fixed = tuple((axis.label, str(axis.values[0])) for axis in single)
    return Gallery(
        header=_header(manifest, tallies, names, fixed),
        table=table,
        order=order,
        axes=varied,
        layout=choose_layout(varied),
        hidden=hidden,
        recipes=manifest.recipes,
    )


def _rows(paths: RunPaths) -> Iterator[ImageRow | FailureRow]:
    yield from read_rows(paths)
    yield from read_failures(paths)


def _fields(row: ImageRow | FailureRow) -> Iterator[tuple[str, Json]]:
    """The row as flat fields: axes left out, native parameters one by one."""
    if isinstance(row, FailureRow):
        yield "status", row.outcome
    else:
        yield "status", "done"
        for prefix, native in (("sent", row.params_sent), ("effective", row.params_effective)):
            for key, value in native.items():
                yield f"{prefix}.{key}", value
    for name in _PLAIN_FIELDS[type(row)]:
        value = getattr(row, name)
        if value is not None and value != "" and value != ():
            yield name, value


def _place(table: Table, row: int) -> tuple[int, int]:
    index, image = table.get("index", row), table.get("image_index", row)
    return (index if isinstance(index, int) else 0, image if isinstance(image, int) else 0)


def _axis(key: str, column: Column, order: Sequence[int]) -> Axis:
    """The axis of a column; numbers ascend, other values stand as they first appear."""
    places = [column.at[row] if row < len(column.at) else -1 for row in order]
    seen = list(dict.fromkeys(place for place in places if place >= 0))
    values = [column.values[place] for place in seen]
    if all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
        seen.sort(key=lambda place: column.values[place])  # type: ignore[arg-type,return-value]
    rank = {place: number for number, place in enumerate(seen)} | {-1: -1}
    scalars = tuple(_scalar(column.values[place]) for place in seen)
    return Axis(key, key, scalars, array("i", (rank[place] for place in places)))


def _scalar(value: Json) -> Scalar:
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def _variant_names(tallies: Mapping[int, _Tally]) -> tuple[str, dict[int, str]]:
    """What tells the variants apart, and the shortest name of each that does so."""
    ways = (
        ("provider", lambda tally: tally.provider),
        ("model", lambda tally: tally.model),
        ("pipeline", lambda tally: tally.pipeline),
        ("model", lambda tally: f"{tally.provider} · {tally.model}"),
        ("run", lambda tally: tally.run),
        ("run", lambda tally: f"{tally.provider} · {tally.run}"),
        ("run", lambda tally: f"{tally.provider} · {tally.model} · {tally.run}"),
    )
    for label, name in ways:
        names = {number: name(tally) for number, tally in sorted(tallies.items())}
        if len(set(names.values())) == len(names):
            return label, names
    return "variant", {number: f"{name} · {number}" for number, name in names.items()}


def _named(axis: Axis, label: str, names: Mapping[int, str]) -> Axis:
    if axis.key == IMAGE:
        numbers = tuple(value + 1 for value in axis.values if isinstance(value, int))
        return dataclasses.replace(axis, label="image", values=numbers)
    if axis.key == VARIANT:
        texts = tuple(names[value] for value in axis.values if isinstance(value, int))
        return dataclasses.replace(axis, label=label, values=texts)
    return axis


def _header(
    manifest: Manifest,
    tallies: Mapping[int, _Tally],
    names: Mapping[int, str],
    fixed: tuple[tuple[str, str], ...],
) -> Header:
    outcomes: Counter[str] = Counter()
    bases: Counter[CostBasis] = Counter()
    for tally in tallies.values():
        outcomes.update(tally.outcomes)
        bases.update(tally.bases)
    done = outcomes["done"]
    counts = [(done, "image" if done == 1 else "images")]
    counts += [
        (outcomes[word], word) for word in ("refused", "failed", "unknown") if outcomes[word]
    ]
    began, ended = parse_moment(manifest.started_at), parse_moment(manifest.ended_at or "")
    # The manifest's sum also holds what tries without an image have cost.
    cost, note = _cost(manifest.cost_usd or 0.0, bases)
    worst = manifest.cost_unknown_worst_usd
    if worst:
        note = f"{note}; up to {usd(worst)} more for calls without an answer".removeprefix("; ")
    return Header(
        run_id=manifest.run_id,
        status=manifest.status,
        when=moment(manifest.started_at),
        took=seconds((ended - began).total_seconds()) if began and ended else "",
        counts=tuple(counts),
        missing=max(0, manifest.cells - outcomes.total()),
        cost=cost,
        cost_note=note,
        command=shlex.join(["python", "-m", "runner", *manifest.command]),
        providers=tuple(tally.totals(names[number]) for number, tally in sorted(tallies.items())),
        warnings=manifest.warnings,
        fixed=fixed,
    )


def _cost(amount: float, bases: Mapping[CostBasis, int]) -> tuple[str, str]:
    """The sum, and what it rests on: ``$1.68`` and ``price book; 3 of unknown price``."""
    unknown = bases.get("unknown", 0)
    if not amount:
        return ("unknown" if unknown else "free" if bases else ""), ""
    notes = [", ".join(words for basis, words in BASES.items() if bases.get(basis))]
    if unknown:
        notes.append(f"{unknown:,} of unknown price")
    return usd(amount), "; ".join(note for note in notes if note)
