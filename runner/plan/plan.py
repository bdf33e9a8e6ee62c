"""The plan: the lazy, ordered sequence of all cells, with random access by index."""

from __future__ import annotations

import dataclasses
import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import chain
from pathlib import Path

from runner.plan.axes import CHOICES, Space, dimensions, read_rules
from runner.plan.calls import Grouping
from runner.plan.cells import CellMaker
from runner.plan.check import Checked, check
from runner.plan.compose import Composer
from runner.plan.files import InputFile, InputFiles, expect
from runner.plan.index import Index
from runner.plan.price import PlanSummary, PriceRange, VariantSummary, Workload, combinations
from runner.plan.saved import load, save
from runner.plan.spec import PlanSpec, Variant
from runner.plan.values import cell_key, coerce
from runner.providers.contract import Provider
from runner.settings.cell import Cell, Json, Scalar, digest
from runner.settings.errors import RequestError
from runner.settings.schema import Unsupported


class Plan:
    """All cells of a run, in order: variants, then points, then the images of a point.

    A cell is made when it is asked for, from its index alone. Places of points that a rule
    leaves out stay empty, so that an index never moves. Made by :meth:`build` or
    :meth:`from_json`.

    Attributes:
        spec: What was asked, with everything that was decided when the plan was built.
        variants: The variants, each with what was decided about it.
        warnings: Sentences for the user that are about no single variant.
    """

    def __init__(
        self, spec: PlanSpec, index: Index, files: InputFiles, checked: Sequence[Checked] = ()
    ) -> None:
        self.spec = spec
        self.variants: tuple[Variant, ...] = tuple(spec.variants)
        self.warnings: tuple[str, ...] = tuple(
            f"sweep.exclude[{number}] leaves nothing out: no point has these values"
            for number in index.unused_rules()
        )
        self._files = files
        self._index = index
        self._checked = checked
        self._composers = [Composer(variant, spec, index.space) for variant in self.variants]
        self._makers = [CellMaker(composer, files) for composer in self._composers]

    @classmethod
    def build(
        cls, spec: PlanSpec, *, providers: Sequence[Provider], unsupported: Unsupported = "error"
    ) -> Plan:
        """Plan what the user asked for, and check all of it.

        Args:
            spec: What was asked.
            providers: One for each variant; only their cheap questions are called.
            unsupported: What to do with keys that a model does not take.

        Raises:
            RequestError: One problem for everything that is wrong.
        """
        problems = _Problems()
        variants = tuple(
            dataclasses.replace(
                variant,
                identity=digest(provider.identity()),
                takes_seed="seed" in provider.capabilities().params,
                dropped=(),
            )
            for variant, provider in zip(spec.variants, providers, strict=True)
        )
        cells: list[Mapping[str, Scalar]] = []
        for number, cell in enumerate(spec.cells):
            with problems.collected():
                cells.append(_read_cell(number, cell))
        spec = dataclasses.replace(spec, variants=variants, cells=tuple(cells))
        with problems.collected():
            space = _space(spec)
        problems.stop()
        index = Index(variants, space)
        if not any(index.points(variant.index) for variant in variants):
            raise RequestError("sweep.exclude leaves nothing to make; remove a rule")
        composers: list[Composer] = []
        for variant in variants:
            with problems.collected():
                composers.append(Composer(variant, spec, space))
        problems.stop()
        spec = dataclasses.replace(spec, seed=_base_seed(spec.seed, composers, providers))
        files = InputFiles()
        checked: list[Checked] = []
        for variant, provider in zip(variants, providers, strict=True):
            composer = Composer(variant, spec, space)  # once more, now with the seed
            checked.append(check(composer, index, files, provider, unsupported))
            problems.extend(checked[-1].problems)
        problems.stop()
        decided = tuple(
            dataclasses.replace(variant, dropped=tuple(found.dropped))
            for variant, found in zip(variants, checked, strict=True)
        )
        return cls(dataclasses.replace(spec, variants=decided), index, files, checked)

    @classmethod
    def from_json(cls, data: Mapping[str, Json], root: Path | None = None) -> Plan:
        """Expand a plan again from its plan.json. Needs no provider.

        Args:
            data: The parsed file.
            root: The run folder, whose copies of input files are read; ``None``: the user's files.

        Raises:
            RequestError: The file is damaged or newer, or an input file has changed or is gone.
        """
        spec, files = load(data, root)
        return cls(spec, Index(spec.variants, _space(spec)), files)

    def to_json(self) -> dict[str, Json]:
        """What plan.json holds: enough to expand the plan again exactly."""
        return save(self.spec, self._files).model_dump(mode="json")

    @cached_property
    def hash(self) -> str:
        """Digest of everything that the cells and their order depend on.

        Paths, addresses, devices and limits are not part of it; contents of input files are.
        """
        return save(self.spec, self._files).hash

    def inputs(self) -> tuple[InputFile, ...]:
        """The local files that the plan reads, to be copied into the run folder."""
        file = self.spec.prompts
        prompts = (InputFile(file.path, file.sha256, file.source),) if file else ()
        return (*prompts, *self._files.all())

    def moved(self, root: Path) -> Plan:
        """The same plan, reading the copies of its input files in a run folder.

        Args:
            root: The run folder; every :meth:`inputs` has been copied to its ``copy`` there.

        Raises:
            RequestError: A copy is missing or differs.
        """
        files = InputFiles(root, {file.path: file.sha256 for file in self._files.all()})
        spec, prompts = self.spec, self.spec.prompts
        if prompts is not None:
            copy = root / InputFile(prompts.path, prompts.sha256, prompts.source).copy
            expect(copy, prompts.sha256, prompts.path)
            spec = dataclasses.replace(spec, prompts=prompts.at(copy))
        return Plan(spec, self._index, files, self._checked)

    def __len__(self) -> int:
        """Size of the index space, places that are left out included."""
        return len(self._index)

    def __getitem__(self, index: int) -> Cell:
        """The cell at an index.

        Raises:
            IndexError: There is no such place.
        """
        variant, point, image = self._index.locate(index)
        return self._makers[variant].cell(index, point, image)

    def __iter__(self) -> Iterator[Cell]:
        return self.cells()

    def count(self) -> int:
        """Number of cells to be made."""
        return sum(self._index.points(variant.index) * variant.n for variant in self.variants)

    def left_out(self, index: int) -> bool:
        """Whether a rule leaves the place out."""
        variant, point, _ = self._index.locate(index)
        return self._index.left_out(variant, point)

    def cells(self) -> Iterator[Cell]:
        """All cells to be made, in order of their index."""
        for variant, maker in zip(self.variants, self._makers, strict=True):
            index = self._index.starts[variant.index]
            for point in range(self._index.space.points):
                if not self._index.left_out(variant.index, point):
                    for image in range(variant.n):
                        yield maker.cell(index + image, point, image)
                index += variant.n

    def calls(
        self, providers: Sequence[Provider], todo: Callable[[int], bool]
    ) -> Iterator[tuple[Cell, ...]]:
        """Cells that may share a call, variant after variant.

        Args:
            providers: One for each variant.
            todo: Whether the cell at an index is wanted. Asked once for each place, in execution
                order, before anything of the cell is made.
        """
        return chain.from_iterable(
            self.variant_calls(variant.index, provider, todo)
            for variant, provider in zip(self.variants, providers, strict=True)
        )

    def variant_calls(
        self, variant: int, provider: Provider, todo: Callable[[int], bool]
    ) -> Iterator[tuple[Cell, ...]]:
        """:meth:`calls` of one variant."""
        return self._grouping(variant, provider).calls(todo)

    def price(self, providers: Sequence[Provider]) -> PriceRange:
        """What the whole plan costs."""
        return PriceRange.total(
            self._variant_price(variant.index, provider)
            for variant, provider in zip(self.variants, providers, strict=True)
        )

    def summary(self, providers: Sequence[Provider]) -> PlanSummary:
        """The plan in numbers, one line for each variant."""
        lines = tuple(
            VariantSummary(
                index=variant.index,
                label=variant.label,
                cells=self._index.points(variant.index) * variant.n,
                calls=self._grouping(variant.index, provider).count(),
                price=self._variant_price(variant.index, provider),
                dropped=variant.dropped,
                warnings=tuple(self._checked[variant.index].warnings) if self._checked else (),
            )
            for variant, provider in zip(self.variants, providers, strict=True)
        )
        return PlanSummary(
            variants=lines,
            cells=sum(line.cells for line in lines),
            calls=sum(line.calls for line in lines),
            price=PriceRange.total(line.price for line in lines),
            warnings=self.warnings,
        )

    def workloads(self, variant: int) -> Mapping[Workload, int]:
        """The cells of a variant, counted by what their time depends on most."""
        counts: Counter[Workload] = Counter()
        composer, maker = self._composers[variant], self._makers[variant]
        for params, points in combinations(composer, maker, self._index):
            workload = (params.size, params.quality, params.steps)
            counts[workload] += points * self.variants[variant].n
        return counts

    def _grouping(self, variant: int, provider: Provider) -> Grouping:
        return Grouping(self._composers[variant], self._makers[variant], self._index, provider)

    def _variant_price(self, variant: int, provider: Provider) -> PriceRange:
        composer, maker = self._composers[variant], self._makers[variant]
        images = self.variants[variant].n
        return PriceRange.of(
            (provider.estimate(params), points * images)
            for params, points in combinations(composer, maker, self._index)
        )


class _Problems(list[str]):
    """Problems, collected until it makes no sense to look further."""

    @contextmanager
    def collected(self) -> Iterator[None]:
        try:
            yield
        except RequestError as error:
            self.extend(error.problems)

    def stop(self) -> None:
        if self:
            raise RequestError(*dict.fromkeys(self))


def _space(spec: PlanSpec) -> Space:
    dims = dimensions(spec.axes, spec.zip, spec.prompts)
    labels = {name for variant in spec.variants for name in variant.label}
    rules = read_rules(spec.exclude, dims, frozenset(labels) | CHOICES)
    return Space(dims, tuple(spec.cells), rules)


def _read_cell(number: int, cell: Mapping[str, Scalar]) -> Mapping[str, Scalar]:
    where = f"sweep.cells[{number}]"
    typed: dict[str, Scalar] = {}
    for name, value in cell.items():
        key = cell_key(name, where)
        typed[key] = coerce(key, value, where)
    return typed


def _base_seed(
    given: int | None, composers: Sequence[Composer], providers: Sequence[Provider]
) -> int | None:
    """The seed of all points that have none: given, or drawn so that every model takes it."""
    asking = [composer.variant for composer in composers if composer.needs_seed()]
    if not asking or given is not None:
        return given if asking else None
    low, high = 0, 2**32 - 1
    for variant in asking:
        param = providers[variant.index].capabilities().params["seed"]
        if param.minimum is not None:
            low = max(low, int(param.minimum))
        if param.maximum is not None:
            high = min(high, int(param.maximum))
    high -= max(variant.n for variant in asking) - 1  # image i of a point has seed + i
    return low + secrets.randbelow(max(1, high - low + 1))
