"""What is asked at a point: config, columns, templates, axes, style, the model's preset, seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runner.plan.axes import Space
from runner.plan.grammar import AxisValues
from runner.plan.spec import PlanSpec, Variant
from runner.plan.text import Template, styled
from runner.plan.values import CHOICE_KEYS, TEXT_KEYS, cell_key, coerce, shown
from runner.settings.cell import CELL_KEYS, FILE_KEYS, PIPELINE_KEYS, CellParams, Scalar
from runner.settings.errors import RequestError, listed
from runner.settings.schema import PromptStyle

Axes = tuple[tuple[str, Scalar], ...]

SLOT: Mapping[str, int] = {key: slot for slot, key in enumerate(CELL_KEYS)}
"""Place of every cell-level key in a list of values."""

_PROMPT, _NEGATIVE, _SEED, _STYLE = (
    SLOT[key] for key in ("prompt", "negative_prompt", "seed", "style")
)
_VARIANT_STYLE = "\0"  # cannot be the name of a style: texts with a NUL are refused


@dataclass(frozen=True, slots=True)
class _Axis:
    dim: int
    key: str
    slot: int
    values: AxisValues
    templates: Mapping[Scalar, Template]


class Composer:
    """Finds the values of the cell-level keys at every point of one variant.

    What sets a key, the strongest first: an explicit point or an axis; a template of the config;
    a column of the prompt file (unless it is blank there); the config; the model's preset.
    ``None`` on an axis means "not set", so that the preset applies. A style is put around the
    prompt last.

    Args:
        variant: The variant.
        spec: The plan's spec.
        space: The plan's points.

    Raises:
        RequestError: A template, a preset or the prompt file does not fit; all problems.
    """

    def __init__(self, variant: Variant, spec: PlanSpec, space: Space) -> None:
        self.variant = variant
        self._space = space
        self._prompts = spec.prompts
        self._styles = spec.styles
        self._seed = spec.seed if variant.takes_seed else None
        self._problems: list[str] = []
        self._base: list[Scalar] = [variant.values.get(key) for key in CELL_KEYS]
        self._base[_STYLE] = _VARIANT_STYLE
        self._templates = self._read_templates()
        self._columns = tuple(
            key for key in (spec.prompts.keys if spec.prompts else ()) if key not in self._templates
        )
        self._axes = tuple(
            _Axis(number, key, SLOT[key], values, self._axis_templates(key, values))
            for number, dim in enumerate(space.dims)
            for key, values in dim.axes.items()
        )
        self._preset = self._read_preset()
        self._dropped = tuple(SLOT[key] for key in variant.dropped)
        self._check_prompt()
        if self._problems:
            raise RequestError(*self._problems)

    def values(self, point: int) -> tuple[list[Scalar], Axes]:
        """The value of every cell-level key, by :data:`SLOT`, and of every axis."""
        values = self._base.copy()
        cell = point - self._space.product
        if cell >= 0:
            axes: Axes = tuple(self._space.cells[cell].items())
            for key, value in axes:
                values[SLOT[key]] = value
            return self._finished(values), axes
        places = self._space.places(point)
        row: Mapping[str, Scalar] = {}
        found: list[tuple[str, Scalar]] = []
        if self._prompts is not None:  # always the first dimension
            row = self._prompts.row(places[0])
            for key in self._columns:
                if (value := row[key]) is not None:
                    values[SLOT[key]] = value
            for key, template in self._templates.items():
                values[SLOT[key]] = template.render(row)
            if "prompt" in self._columns or "prompt" in self._templates:
                found.append(("prompt", values[_PROMPT]))
            found += [(key, row[key]) for key in self._columns if key != "prompt"]
        for axis in self._axes:
            value = axis.values[places[axis.dim]]
            found.append((axis.key, value))
            values[axis.slot] = (
                axis.templates[value].render(row) if value in axis.templates else value
            )
        return self._finished(values), tuple(found)

    def params(self, point: int) -> CellParams:
        """What is asked at a point; files by the path that the user wrote."""
        return params_of(self.values(point)[0])

    def constants(self) -> dict[str, Scalar]:
        """The keys that have the same value at all points, with it."""
        varying = {key for cell in self._space.cells for key in cell}
        varying.update(*map(self._touched, range(len(self._space.dims))))
        if "style" in varying:
            varying |= {"prompt", "negative_prompt"}
        values = self._finished(self._base.copy())
        return {key: values[slot] for key, slot in SLOT.items() if key not in varying}

    def keys_of(self, dim: int) -> frozenset[str]:
        """Keys whose value depends on the place on a dimension; dropped ones do not count."""
        keys = self._touched(dim)
        if "style" in keys:
            styles = [self._style(name) for name in self._space.dims[dim].axes.get("style", ())]
            keys.add("prompt")
            if not styles or any(style.negative_prompt for style in styles):
                keys.add("negative_prompt")
            if styles and len({style.native for style in styles}) == 1:
                keys.discard("style")
        return frozenset(keys.difference(self.variant.dropped))

    def crossed_keys(self) -> frozenset[str]:
        """Keys whose value depends on an axis and, through a template on it, on the row too."""
        return frozenset(axis.key for axis in self._axes if axis.templates)

    def _touched(self, dim: int) -> set[str]:
        keys = set(self._space.dims[dim].axes)
        if dim == 0 and self._prompts is not None:
            keys.update(self._columns, self._templates)
            keys |= self.crossed_keys()
        return keys

    def source(self, key: str, point: int) -> str:
        """Where the value that a key has at a point was set, for messages."""
        cell = point - self._space.product
        if cell >= 0 and key in self._space.cells[cell]:
            return f"sweep.cells[{cell}]"
        if cell < 0:
            if any(axis.key == key for axis in self._axes):
                return f"sweep.axes.{key}"
            if self._prompts is not None and key in (*self._columns, *self._templates):
                return self._prompts.place(self._space.places(point)[0])
        if self.variant.values.get(key) is not None:
            return path_of(key)
        if SLOT[key] in (slot for slot, _ in self._preset):
            return f"the preset of model {self.variant.settings.model.name}"
        return "style" if key in ("prompt", "negative_prompt", "style") else "the plan"

    def paths(self) -> set[str]:
        """Every input file that some point names, as the user wrote it."""
        found: set[Scalar] = set()
        rows = range(len(self._prompts) if self._prompts else 0)
        for key in FILE_KEYS:
            axis = next((axis for axis in self._axes if axis.key == key), None)
            found.update(cell.get(key) for cell in self._space.cells)
            templates: list[Template] = []
            if axis is not None:
                found.update(value for value in axis.values if value not in axis.templates)
                templates += axis.templates.values()
            elif key in self._templates:
                templates.append(self._templates[key])
            elif key in self._columns and self._prompts:
                found.update(self._prompts.row(row)[key] for row in rows)
            if self._prompts:
                found.update(t.render(self._prompts.row(row)) for t in templates for row in rows)
            on_product = self._space.product and axis is None and key not in self._templates
            if on_product or any(key not in cell for cell in self._space.cells):
                found.update((self._base[SLOT[key]], dict(self._preset).get(SLOT[key])))
        return {path for path in found if isinstance(path, str)}

    def needs_every_row(self) -> bool:
        """Whether a key with few allowed values comes from a template, which a scan cannot see."""
        return not CHOICE_KEYS.isdisjoint((*self._templates, *self.crossed_keys()))

    def needs_seed(self) -> bool:
        """Whether some point has no seed of its own."""
        preset = any(slot == _SEED for slot, _ in self._preset)
        if not self.variant.takes_seed or preset:
            return False
        fixed = self._base[_SEED] is not None
        cells = not fixed and any("seed" not in cell for cell in self._space.cells)
        cells = cells or any(cell.get("seed", 0) is None for cell in self._space.cells)
        axis = next((axis.values for axis in self._axes if axis.key == "seed"), None)
        if axis is not None:
            return cells or (isinstance(axis, tuple) and None in axis)
        if self._prompts is not None and "seed" in self._columns:
            fixed = fixed or "seed" not in self._prompts.partial
        return cells or (not fixed and self._space.product > 0)

    def _finished(self, values: list[Scalar]) -> list[Scalar]:
        name = values[_STYLE]
        style = self.variant.style if name == _VARIANT_STYLE else self._style(name)
        prompt, negative = values[_PROMPT], values[_NEGATIVE]
        values[_PROMPT], values[_NEGATIVE] = styled(
            style,
            "" if prompt is None else str(prompt),
            None if negative is None else str(negative),
        )
        values[_STYLE] = style.native
        for slot, preset in self._preset:
            if values[slot] is None:
                values[slot] = preset
        if values[_SEED] is None:
            values[_SEED] = self._seed
        for slot in self._dropped:
            values[slot] = "" if slot == _PROMPT else None
        return values

    def _style(self, name: Scalar) -> PromptStyle:
        if name is None:
            return _NO_STYLE
        style = self._styles.get(str(name))
        return PromptStyle(name=str(name), native=str(name)) if style is None else style

    def _read_preset(self) -> tuple[tuple[int, Scalar], ...]:
        where = f"the preset of model {self.variant.settings.model.name}"
        found: list[tuple[int, Scalar]] = []
        for name, value in self.variant.settings.model.preset.items():
            try:
                key = cell_key(name, where)
                found.append((SLOT[key], coerce(key, value, where)))
            except RequestError as error:
                self._problems.extend(error.problems)
        return tuple(found)

    def _read_templates(self) -> dict[str, Template]:
        """Texts of the config that use columns; braces of the others are made plain."""
        templates: dict[str, Template] = {}
        for key, text in self.variant.values.items():
            if self._prompts is None or not isinstance(text, str):
                continue
            template = self._template(text, path_of(key))
            if template.columns:
                templates[key] = template
            else:
                self._base[SLOT[key]] = template.render({})
        return templates

    def _axis_templates(self, key: str, values: AxisValues) -> Mapping[Scalar, Template]:
        if self._prompts is None or key not in TEXT_KEYS or key == "style":
            return {}
        return {
            text: self._template(text, f"sweep.axes.{key}")
            for text in values
            if isinstance(text, str) and ("{" in text or "}" in text)
        }

    def _template(self, text: str, where: str) -> Template:
        columns: Sequence[str] = self._prompts.columns if self._prompts else ()
        try:
            return Template.parse(text, columns, where)
        except RequestError as error:
            self._problems.extend(error.problems)
            return Template(((text, None),))

    def _check_prompt(self) -> None:
        """The prompt file gives the prompt, and every explicit point has all that it needs."""
        file, prompt = self._prompts, self.variant.values.get("prompt")
        if file is None:
            return
        if prompt is None and "prompt" not in file.columns:
            self._problems.append(
                f"prompt file {file.path} has no column 'prompt' (columns: "
                f"{listed(file.columns)}); say which one: prompt='{{{file.columns[0]}}}'"
            )
        unused = "prompt" in file.columns and "prompt" not in self._templates
        if prompt is not None and unused and not self._problems:
            self._problems.append(
                f"prompt {shown(prompt)} would replace every prompt of {file.path}; set "
                "prompt=null, or use its columns: prompt='{prompt}, 35mm'"
            )
        for number, cell in enumerate(self._space.cells):
            lacking = [key for key in self._templates if key not in cell]
            if "prompt" not in cell and prompt is None:
                lacking.append("prompt")
            self._problems += [
                f"sweep.cells[{number}] needs its own {key}: it has no row of {file.path}; to "
                "vary keys together for every row, use sweep.zip"
                for key in lacking
            ]


_NO_STYLE = PromptStyle()


def params_of(values: Sequence[Scalar]) -> CellParams:
    """Values by :data:`SLOT` as parameters."""
    named: Any = zip(CELL_KEYS, values, strict=True)  # each is typed as its field
    return CellParams(**dict(named))


def path_of(key: str) -> str:
    """How a key is written in a config."""
    return f"pipeline.{key}" if key in PIPELINE_KEYS else key
