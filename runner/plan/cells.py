"""Cells of one variant, each made from its place alone, with its id."""

from __future__ import annotations

import hashlib
from json.encoder import encode_basestring_ascii
from typing import Any

from runner.plan.compose import SLOT, Axes, Composer
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
        self._fixed, self._pieces, self._end = self._lay_out()
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
        asked = self._fixed.copy()
        text = ['"params":{']
        for piece, key, slot, name in self._pieces:
            text.append(piece)
            if (value := named[slot]) is not None:
                text.append(f"{name}{_encoded(value)},")
                asked[key] = values[slot]
        text.append(self._end)
        # The prompt is always there, so a comma is always there to be taken away.
        whole = "".join(text).removesuffix(",")
        identity = self._composer.variant.identity
        return CellParams(**asked), axes, f'{whole}}},"variant":"{identity}"}}'

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

    def _lay_out(self) -> tuple[dict[str, Any], list[tuple[str, str, int, str]], str]:
        """What is the same at all points, and the canonical text around what is not.

        Returns:
            Parameters; for each varying key the text before it, the key, its slot and its name
            in the text; the end of the text.
        """
        constants = self._composer.constants()
        values = [constants.get(key) for key in CELL_KEYS]
        named = self._name_files(values)
        fixed: dict[str, Any] = {}
        pieces: list[tuple[str, str, int, str]] = []
        text = ""
        for key in sorted(CELL_KEYS):
            slot, name = SLOT[key], f'"{key}":'
            if key not in constants:
                pieces.append((text, key, slot, name))
                text = ""
            elif (value := named[slot]) is not None:
                text += f"{name}{_encoded(value)},"
                fixed[key] = values[slot]
        return fixed, pieces, text


def _encoded(value: bool | int | float | str) -> str:
    """A value as :func:`runner.settings.cell.canonical_json` writes it."""
    if isinstance(value, str):
        return encode_basestring_ascii(value)
    if isinstance(value, float) and not value.is_integer():
        return float.__repr__(value)
    return int.__repr__(int(value))
