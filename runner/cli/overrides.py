"""Command-line overrides, made easy to type before Hydra reads them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from runner.settings.cell import CELL_KEYS, PIPELINE_KEYS
from runner.settings.errors import RequestError
from runner.settings.schema import DeviceSettings, ModelSettings, PipelineSettings

TEXT_KEYS = frozenset({"prompt", "negative_prompt", "style.prefix", "style.suffix"})
"""Keys that hold prose: commas and apostrophes in it are text, not grammar."""

OPEN_SECTIONS = (
    "provider.options.",
    "provider.extra_body.",
    "model.components.",
    "model.preset.",
    "sweep.axes.",
)
"""Mappings whose keys are not written in the files; their overrides need no ``+``."""


SCHEMA_KEYS = frozenset(
    f"{section}.{name}"
    for section, schema in (
        ("model", ModelSettings),
        ("pipeline", PipelineSettings),
        ("device", DeviceSettings),
    )
    for name in schema.model_fields
)
"""Keys that a file of their group need not write out."""


def key_of(override: str) -> str:
    """The dotted key of an override, without ``+``, ``++`` or ``~``."""
    return override.partition("=")[0].lstrip("+~")


def cell_key(key: str) -> str | None:
    """The cell-level key that a dotted config key sets, if it sets one."""
    name = key.removeprefix("pipeline.") if key.startswith("pipeline.") else key
    if name == "style.native":
        return "style"
    if name in CELL_KEYS and (key.startswith("pipeline.") == (name in PIPELINE_KEYS)):
        return name
    return None


def prepare(
    overrides: Sequence[str], *, multirun: bool, options_of: Callable[[str], list[str]]
) -> list[str]:
    """Quote prose, open the open mappings, tell prompt styles from native ones.

    Args:
        overrides: As typed.
        multirun: Whether ``-m`` was given: then commas separate the values of an axis.
        options_of: The choices of a config group.

    Raises:
        RequestError: Prose that cannot be told apart from grammar.
    """
    return [_prepare(override, multirun, options_of) for override in overrides]


def _prepare(override: str, multirun: bool, options_of: Callable[[str], list[str]]) -> str:
    key, separator, value = override.partition("=")
    if not separator:
        return override
    bare = key.lstrip("+~")
    if bare in TEXT_KEYS:
        return f"{key}={_prose(bare, value, multirun)}"
    if bare == "style" and not multirun and value not in {*options_of("style"), "null"}:
        return f"style.native={value}"
    if key == bare and (bare.startswith(OPEN_SECTIONS) or bare in SCHEMA_KEYS):
        return f"++{override}"
    return override


def _prose(key: str, value: str, multirun: bool) -> str:
    if not value or value == "null" or value[0] in "\"'[" or "${" in value:
        return value
    if not multirun:
        return quoted(value)
    try:
        OverridesParser.create().parse_override(f"{key}={value}")
    except HydraException:
        if "," not in value:
            return quoted(value)
        raise RequestError(
            f"{key}={value}: with -m a comma separates two prompts, and this text does not parse; "
            f'put each prompt in quotes of its own, {key}=\'"first, one","second one"\', '
            "or put them into a file and give prompts=FILE"
        ) from None
    return value


def quoted(text: str) -> str:
    """A text as one quoted value of Hydra's grammar."""
    escaped = text.replace("\\", "\\\\") if text.endswith("\\") or "\\'" in text else text
    return "'" + escaped.replace("'", "\\'") + "'"
