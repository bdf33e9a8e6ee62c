"""What a diffusers pipeline class takes, read from its source text: nothing is imported or run.

Importing diffusers takes seconds and hundreds of megabytes; reading one file of it takes
milliseconds. So a wrong parameter or size is refused before anything is loaded.
"""

from __future__ import annotations

import ast
import importlib.util
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from runner.settings.cell import Json


@dataclass(frozen=True, slots=True)
class Signature:
    """A pipeline class, as its source has it.

    Attributes:
        name: The class's name.
        call: Parameter of ``__call__`` to its default; ``None`` also where it has none or one
            that is no plain value.
        size_rules: What height and width are divided by somewhere in the class, as expressions.
    """

    name: str
    call: Mapping[str, Json]
    size_rules: tuple[ast.expr, ...]

    def size_multiple(self, configs: Mapping[str, Mapping[str, Json]]) -> int | None:
        """What height and width must be multiples of.

        Args:
            configs: Component name to its ``config.json``.

        Returns:
            The least common multiple of the class's own rules; ``None`` if there are none that
            can be told without running it.
        """
        known = _dimensions(configs)
        divisors = [_value(rule, known) for rule in self.size_rules]
        return math.lcm(*(d for d in divisors if d)) if any(divisors) else None


@cache
def read_signature(class_name: str) -> Signature | None:
    """Read a pipeline class of the installed diffusers; ``None`` if it has no such class."""
    definition = _find_class(class_name)
    if definition is None:
        return None
    methods = {node.name: node for node in definition.body if isinstance(node, ast.FunctionDef)}
    call = methods.get("__call__")
    return Signature(
        class_name,
        {} if call is None else _parameters(call.args),
        tuple(rule for method in methods.values() for rule in _size_rules(method)),
    )


def pipeline_names() -> list[str]:
    """Names of all pipeline classes of the installed diffusers."""
    return [name for name in _class_files() if name.endswith("Pipeline")]


def is_pipeline_module(library: str) -> bool:
    """Whether ``model_index.json`` may name this as the library of a component: diffusers' own."""
    return library.isidentifier() and (pipelines_folder() / library).is_dir()


@cache
def source_of(folder: str, class_name: str) -> str:
    """The text of the file that defines a class below a folder of diffusers; empty if none does.

    Args:
        folder: ``schedulers`` or ``models``.
        class_name: The class.
    """
    mark = f"\nclass {class_name}(".encode()
    for path in sorted((pipelines_folder().parent / folder).rglob("*.py")):
        data = path.read_bytes()
        if mark in data:
            return data.decode("utf-8")
    return ""


@cache
def models_with(word: str) -> tuple[str, ...]:
    """Classes of transformers and UNets in whose file a word stands, for messages."""
    root = pipelines_folder().parent / "models"
    found = {
        name.decode("ascii")
        for folder in ("transformers", "unets")
        for path in (root / folder).glob("*.py")
        if word.encode() in (data := path.read_bytes())
        for name in re.findall(rb"\nclass (\w+(?:Transformer2DModel|2DConditionModel))\(", data)
    }
    return tuple(sorted(found))


def pipelines_folder() -> Path:
    """Where the installed diffusers keeps its pipelines."""
    spec = importlib.util.find_spec("diffusers")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("diffusers")
    return Path(spec.origin).parent / "pipelines"


@cache
def _class_files() -> dict[str, Path]:
    """Class to the file that defines it, for every class of every pipeline."""
    return {
        name.decode("ascii"): path
        for path in pipelines_folder().glob("**/pipeline*.py")
        for name in re.findall(rb"\nclass (\w+)\(", path.read_bytes())
    }


def _find_class(class_name: str) -> ast.ClassDef | None:
    path = _class_files().get(class_name)
    if path is None:
        return None
    module = ast.parse(path.read_text(encoding="utf-8"))
    return next(
        node for node in module.body if isinstance(node, ast.ClassDef) and node.name == class_name
    )


def _parameters(arguments: ast.arguments) -> dict[str, Json]:
    positional = [*arguments.posonlyargs, *arguments.args]
    padding: list[ast.expr | None] = [None] * (len(positional) - len(arguments.defaults))
    defaults = [*padding, *arguments.defaults, *arguments.kw_defaults]
    names = [*positional, *arguments.kwonlyargs]
    return {
        name.arg: _literal(default)
        for name, default in zip(names, defaults, strict=True)
        if name.arg != "self"
    }


def _literal(node: ast.expr | None) -> Json:
    try:
        value = None if node is None else ast.literal_eval(node)
    except ValueError:
        return None
    return value if isinstance(value, bool | int | float | str) else None


def _size_rules(method: ast.FunctionDef) -> Iterator[ast.expr]:
    """``x`` of every ``height % x``; a name that is assigned in the method is followed."""
    assigned = {
        node.targets[0].id: node.value
        for node in ast.walk(method)
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    for node in ast.walk(method):
        if (
            isinstance(node, ast.BinOp)
            and isinstance(node.op, ast.Mod)
            and isinstance(node.left, ast.Name)
            and node.left.id == "height"
        ):
            rule = node.right
            yield assigned.get(rule.id, rule) if isinstance(rule, ast.Name) else rule


def _dimensions(configs: Mapping[str, Mapping[str, Json]]) -> dict[str, int]:
    """What the expressions of the size rules are made of, from the components' configs."""
    known: dict[str, int] = {}
    vae = configs.get("vae", {})
    for key, steps_of in (
        ("block_out_channels", -1),
        ("encoder_block_out_channels", -1),
        ("temperal_downsample", 0),
    ):
        levels = vae.get(key)
        if isinstance(levels, list):
            scale = 2 ** (len(levels) + steps_of)
            known |= {"vae_scale_factor": scale, "vae_scale_factor_spatial": scale}
            break
    patch = configs.get("transformer", {}).get("patch_size")
    if isinstance(patch, int):
        known["patch_size"] = patch
    return known


def _value(rule: ast.expr, known: Mapping[str, int]) -> int | None:
    """Evaluate products and powers of whole numbers and known attributes; else ``None``."""
    if isinstance(rule, ast.Constant) and isinstance(rule.value, int):
        return rule.value
    if isinstance(rule, ast.Attribute):
        return known.get(rule.attr)
    if isinstance(rule, ast.BinOp) and isinstance(rule.op, ast.Mult | ast.Pow):
        left, right = _value(rule.left, known), _value(rule.right, known)
        if left is None or right is None:
            return None
        return left * right if isinstance(rule.op, ast.Mult) else left**right
    return None
