"""From neutral keys to native fields, for APIs where that is only a matter of names."""

from __future__ import annotations

from runner.providers.contract import Capabilities, asked
from runner.settings.cell import FILE_KEYS, CellParams, Json
from runner.settings.schema import Section


def native_fields(capabilities: Capabilities, params: CellParams, *skip: str) -> dict[str, Json]:
    """Every asked key under the name that :attr:`Capabilities.params` gives it.

    Prompt, seed and files are left out, as they need more than a name; so are the keys in ``skip``
    and those that the model does not take.
    """
    left_out = {"prompt", "seed", *FILE_KEYS, *skip}
    return {
        capabilities.params[key].native: value
        for key, value in asked(params).items()
        if key in capabilities.params and key not in left_out
    }


def given(options: Section) -> dict[str, Json]:
    """The native options that the user set, as plain JSON values."""
    return options.model_dump(mode="json", exclude_defaults=True, exclude_none=True)
