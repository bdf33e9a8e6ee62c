"""Which pipeline class of a family does what, by the tables that diffusers itself keeps.

A folder saved from ``StableDiffusionPipeline`` holds what ``StableDiffusionInpaintPipeline`` needs:
the family, not the class in ``model_index.json``, says what a model can do.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from runner.providers.local.signature import pipelines_folder
from runner.settings.cell import PipelineKind

_TABLES = {
    "text2img": "AUTO_TEXT2IMAGE_PIPELINES_MAPPING",
    "img2img": "AUTO_IMAGE2IMAGE_PIPELINES_MAPPING",
    "inpaint": "AUTO_INPAINT_PIPELINES_MAPPING",
}
_SUFFIX = "-controlnet"


@dataclass(frozen=True, slots=True)
class Family:
    """What the pipelines of a family are called.

    Attributes:
        name: Diffusers' own name of it, such as ``stable-diffusion-xl``; empty for a class that is
            in no table, which makes images from text and nothing else.
        plain: Pipeline kind to class, without a ControlNet.
        controlled: Task (``text2img``, ``img2img``, ``inpaint``) to the class that takes one.
    """

    name: str
    plain: Mapping[str, str]
    controlled: Mapping[str, str]

    @property
    def kinds(self) -> frozenset[str]:
        """Pipeline kinds that it has."""
        control = {"controlnet"} if "text2img" in self.controlled else set()
        return frozenset(self.plain) | control

    def class_for(self, kind: PipelineKind, controlled: bool) -> str | None:
        """The class that does a job; ``None`` if the family has none.

        Args:
            kind: What is asked.
            controlled: Whether a ControlNet steers img2img or inpaint.
        """
        if kind == "controlnet":
            return self.controlled.get("text2img")
        return (self.controlled if controlled and kind != "text2img" else self.plain).get(kind)


@cache
def family_of(class_name: str) -> Family:
    """The family of a class."""
    tables = _read_tables()
    names = [name for table in tables.values() for name, cls in table.items() if cls == class_name]
    # A class may be listed for several families; the one that makes images from text is meant.
    names.sort(key=lambda name: name.removesuffix(_SUFFIX) not in tables["text2img"])
    if not names:
        return Family("", {"text2img": class_name}, {})
    name = names[0].removesuffix(_SUFFIX)

    def row(key: str) -> dict[str, str]:
        return {task: table[key] for task, table in tables.items() if key in table}

    return Family(name, row(name), row(name + _SUFFIX))


@cache
def _read_tables() -> dict[str, dict[str, str]]:
    tree = ast.parse((pipelines_folder() / "auto_pipeline.py").read_text(encoding="utf-8"))
    found = {
        node.targets[0].id: {
            pair.elts[0].value: pair.elts[1].id
            for pair in ast.walk(node.value)
            if isinstance(pair, ast.Tuple)
            and isinstance(pair.elts[0], ast.Constant)
            and isinstance(pair.elts[0].value, str)
            and isinstance(pair.elts[1], ast.Name)
        }
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    return {task: found[name] for task, name in _TABLES.items()}
