"""Cells of one variant, each made from its place alone, with its id."""

from __future__ import annotations

import hashlib
from json.encoder import encode_basestring_ascii

from runner.plan.compose import SLOT, Axes, Composer, params_of
from runner.plan.files import InputFiles
from runner.settings.cell import CELL_KEYS, FILE_KEYS, Cell, CellParams, Scalar

_FILE_SLOTS = tuple(SLOT[key] for key in sorted(FILE_KEYS))


class CellMaker:
    """Makes the cells of one variant.

    The id is the one of :func:`runner.settings.cell.cell_id`. Its canonical text is put together
    from pieces: what is the same at every point is encoded once.

    Args:
        composer: Finds the values at a point.
        files: The plan's input files.
    """

    def __init__(self, composer: Composer, files: InputFiles) -> None:
        self._composer = composer
        self._files = files
        self._pieces, self._end = self._lay_out()
        self._last: tuple[int, CellParams, Axes, str] | None = None

    def cell(self, index: int, point: int, image_index: int) -> Cell:
        """The cell of an image at a point; ``index`` is its place in the plan."""
        last = self._last
        if last is None or last[0] != point:
            last = self._last = (point, *self._point(point))
        _, params, axes, text = last
        name = hashlib.sha256(f'{{"image_index":{image_index},{text}'.encode("ascii"))
        variant = self._composer.variant.index
        return Cell(index, variant, image_index, params, axes, name.hexdigest())

    def params(self, point: int) -> CellParams:
        """What is asked at a point."""
        return self._point(point)[0]

    def _point(self, point: int) -> tuple[CellParams, Axes, str]:
        values, axes = self._composer.values(point)
        named = self._name_files(values)
        text = ['"params":{']
        for piece, slot, name in self._pieces:
            value = named[slot]
            text.append(piece)
            if value is not None:
                text.append(f"{name}{_encoded(value)},")
        text.append(self._end)
        # The prompt is always there, so a comma is always there to be taken away.
        whole = "".join(text).removesuffix(",")
        return params_of(values), axes, f'{whole}}},"variant":"{self._composer.variant.identity}"}}'

    def _name_files(self, values: list[Scalar]) -> list[Scalar]:
        """Values for the id, with hashes of files; in ``values`` go the paths to read."""
        named = values
        for slot in _FILE_SLOTS:
            path = values[slot]
            if isinstance(path, str):
                if named is values:
                    named = values.copy()
                named[slot] = self._files.sha256(path)
                values[slot] = self._files.readable(path)
        return named

    def _lay_out(self) -> tuple[list[tuple[str, int, str]], str]:
        """Pieces of the canonical text: what comes before each varying key, and the end."""
        constants = self._composer.constants()
        values = self._name_files([constants.get(key) for key in CELL_KEYS])
        pieces: list[tuple[str, int, str]] = []
        fixed = ""
        for key in sorted(CELL_KEYS):
            name = f'"{key}":'
            value = values[SLOT[key]]
            if key not in constants:
                pieces.append((fixed, SLOT[key], name))
                fixed = ""
            elif value is not None:
                fixed += f"{name}{_encoded(value)},"
        return pieces, fixed


def _encoded(value: bool | int | float | str) -> str:
    """A value as :func:`runner.settings.cell.canonical_json` writes it."""
    if isinstance(value, str):
        return encode_basestring_ascii(value)
    if isinstance(value, float) and not value.is_integer():
        return float.__repr__(value)
    return int.__repr__(int(value))
