"""Writes ``docs/config.md`` from the settings: ``python -m runner.settings.docs``.

A test compares the file with what this makes, so the docs never lag behind the code.
"""

from __future__ import annotations

import types
import typing
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from runner.settings.schema import Settings

TARGET = Path(__file__).resolve().parents[2] / "docs" / "config.md"

_INTRO = """\
<!-- Written by `python -m runner.settings.docs` from runner/settings/schema.py. -->
# The config surface

Every key can be set on the command line (`key=value`), in a file of your own
(`--config-dir FOLDER`) or in an experiment (`conf/experiment/`). Unknown keys are refused with
the nearest name. `python -m runner --cfg job` shows the config that a command line makes.

**Groups** (`provider=`, `model=`, `pipeline=`, `device=`, `engine=`, `style=`, `sweep=`,
`experiment=`) choose a file of `conf/`. With `-m`, several values of a group, or of a key that is
not cell-level, make one *variant* each; several values of a **cell-level key** (marked `axis`
below) make an axis. A list in a file does the same. `n` images per point are made with seeds
`seed`, `seed + 1`, … where each image can have its own seed.

Values of an axis are a list, or text of Hydra's grammar: `range(0,8)`, `choice(a,b)`,
`shuffle(range(0,8))`. A zip group advances together, an exclusion leaves out the points that match
all its keys, explicit cells come after the product:

```yaml
# @package _global_
sweep:
  axes: {seed: "range(0,4)", guidance_scale: [2, 4, 6, 8], prompt: [a red star, a blue star]}
  zip: [[seed, guidance_scale]]
  exclude: [{prompt: a red star, seed: 3}]
  cells: [{prompt: a green heart, seed: 7}]
```
"""


def config_page() -> str:
    """The whole page, as Markdown."""
    parts = [_INTRO, "## At the root\n", _table(Settings, "", sections=False)]
    for name, field in Settings.model_fields.items():
        section = _section(field)
        if section is not None:
            parts += [f"\n## `{name}`\n", f"{_first_line(section)}\n", _table(section, f"{name}.")]
    return "\n".join(parts) + "\n"


def _table(model: type[BaseModel], prefix: str, *, sections: bool = True) -> str:
    from runner.settings.cell import CELL_KEYS, PIPELINE_KEYS

    rows = ["| key | type | default | what |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        if not sections and _section(field) is not None:
            continue
        is_axis = (not prefix and name in CELL_KEYS) or (
            prefix == "pipeline." and name in PIPELINE_KEYS
        )
        what = (field.description or "") + (" · `axis`" if is_axis else "")
        rows.append(f"| `{prefix}{name}` | {type_text(field)} | {default_text(field)} | {what} |")
    return "\n".join(rows)


def _section(field: FieldInfo) -> type[BaseModel] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _first_line(model: type[BaseModel]) -> str:
    return (model.__doc__ or "").strip().splitlines()[0]


def default_text(field: FieldInfo) -> str:
    """The default of a setting, for a table."""
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True, validated_data={})
    if default is None:
        return "`null`"
    if isinstance(default, BaseModel):
        return "see below"
    if isinstance(default, tuple):
        return "none" if not default else f"`{', '.join(map(str, default))}`"
    shown = str(default).lower() if isinstance(default, bool) else str(default)
    return f"`{shown}`" if shown else "empty"


def type_text(field: FieldInfo) -> str:
    """Type and range of a setting, for a table."""
    limits = [
        f"{sign} {value:g}" if abs(value) < 1e15 else f"{sign} 2^63"
        for sign, value in (
            (sign, getattr(item, attribute))
            for item in field.metadata
            for attribute, sign in (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<"))
            if hasattr(item, attribute)
        )
    ]
    return " ".join([_kind_text(field.annotation), *limits])


def _kind_text(kind: Any) -> str:
    origin = typing.get_origin(kind)
    arguments = typing.get_args(kind)
    if origin is typing.Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin is typing.Annotated:
        return _kind_text(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_kind_text(item) for item in arguments if item is not type(None))
    if origin is dict:
        return "mapping"
    if origin in (list, tuple):
        return f"list of {_kind_text(arguments[0])}"
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return f"mapping of {', '.join(kind.model_fields)}"
    names = {str: "text", int: "integer", float: "number", bool: "true or false"}
    return names.get(kind) or str(getattr(kind, "__name__", "any"))


if __name__ == "__main__":
    TARGET.write_text(config_page(), encoding="utf-8")
