"""Prompt files in Parquet: one row group in memory at a time."""

from __future__ import annotations

import weakref
from array import array
from bisect import bisect_right
from pathlib import Path
from typing import Any

from runner.plan.prompt_facts import BATCH, Facts, Raw, column_names
from runner.plan.values import BadValueError, text_fault
from runner.settings.cell import CELL_KEYS
from runner.settings.errors import PrerequisiteError, RequestError


class ParquetRecords:
    """Records of a Parquet file.

    Args:
        source: The file.

    Raises:
        RequestError: It is not Parquet or empty, or a row is wrong; with the row's number.
        PrerequisiteError: pyarrow is not installed.
    """

    def __init__(self, source: Path) -> None:
        try:
            import pyarrow as arrow
            import pyarrow.parquet as parquet
        except ImportError:
            raise PrerequisiteError(
                "a .parquet prompt file needs pyarrow: pip install 'image-batch-runner[export]'"
            ) from None
        try:
            self._file = parquet.ParquetFile(source)
        except (arrow.ArrowInvalid, OSError) as error:
            raise RequestError(f"prompt file {source} is not Parquet: {error}") from None
        weakref.finalize(self, self._file.close)
        self._source = source
        self._starts = array("Q", [0])
        for group in range(self._file.num_row_groups):
            rows = self._file.metadata.row_group(group).num_rows
            self._starts.append(self._starts[-1] + rows)
        if not len(self):
            raise RequestError(f"prompt file {source} holds no prompt")
        self.columns = self._flat_columns(arrow.types)
        self._group: tuple[int, Any] = (-1, None)
        self._block: tuple[int, list[Raw]] = (-1, [])
        self.facts = Facts()
        longest = self._check(arrow.ArrowInvalid)
        self.representatives = tuple(sorted({0, longest, len(self) - 1} | self.facts.rows()))

    def __len__(self) -> int:
        return self._starts[-1]

    def raw(self, index: int) -> Raw:
        """The values of a row."""
        group = bisect_right(self._starts, index) - 1
        block, place = divmod(index - self._starts[group], BATCH)
        first = self._starts[group] + block * BATCH
        if self._block[0] != first:
            if self._group[0] != group:
                self._group = group, self._file.read_row_group(group, columns=list(self.columns))
            self._block = first, self._group[1].slice(block * BATCH, BATCH).to_pylist()
        return self._block[1][place]

    def place(self, index: int) -> str:
        """``row 7``."""
        return f"row {index + 1}"

    def at(self, source: Path) -> ParquetRecords:
        """The same records in a copy of the file."""
        return ParquetRecords(source)

    def _flat_columns(self, types: Any) -> tuple[str, ...]:
        flat: list[str] = []
        for field in self._file.schema_arrow:
            kind = field.type
            if types.is_dictionary(kind):
                kind = kind.value_type
            if any(
                is_kind(kind)
                for is_kind in (
                    types.is_string,
                    types.is_large_string,
                    types.is_string_view,
                    types.is_integer,
                    types.is_floating,
                    types.is_boolean,
                    types.is_null,
                )
            ):
                flat.append(field.name)
            elif field.name in CELL_KEYS:
                raise RequestError(
                    f"prompt file {self._source}: column '{field.name}' sets the key of that name "
                    f"and has to hold texts or numbers, not {field.type}; rename or drop it"
                )
        return column_names(flat, self._source)

    def _check(self, invalid: type[Exception]) -> int:
        """Check every row and return the one with the longest prompt."""
        first, longest, most = 0, 0, 0
        for batch in self._file.iter_batches(BATCH, columns=list(self.columns)):
            where = f"prompt file {self._source}, row"
            try:
                batch.validate(full=True)  # reading does not check that texts are UTF-8
            except invalid as error:
                raise RequestError(f"{where}s {first + 1} and later: {error}") from None
            for name in self.columns:
                values = batch.column(name).to_pylist()
                for place, text in enumerate(values):
                    if isinstance(text, str) and (fault := text_fault(text)):
                        raise RequestError(f"{where} {first + place + 1}: '{name}': {fault}")
                if name in CELL_KEYS:
                    try:
                        self.facts.see(name, first, values)
                    except BadValueError as error:
                        raise error.at(f"{where} {first + error.place + 1}") from None
                if name == "prompt":
                    sizes = list(map(len, values))
                    if max(sizes) > most:
                        most = max(sizes)
                        longest = first + sizes.index(most)
            first += batch.num_rows
        return longest
