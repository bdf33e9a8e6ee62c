"""Native options of local pipelines: ``provider.options.*``."""

from __future__ import annotations

from pydantic import Field

from runner.settings.cell import Json
from runner.settings.schema import Section


class DiffusersOptions(Section):
    """Options of local pipelines."""

    keep_unmasked: bool = Field(
        False,
        description="inpaint: put the untouched pixels of the input back outside the mask, exactly",
    )
    depth_model: str = Field(
        "depth-anything/Depth-Anything-V2-Small-hf",
        description="pipeline.preprocessor=depth: folder or Hub id of its network",
    )
    prompt_memo_mb: int = Field(
        512, ge=0, description="memory for encoded prompts; each unique prompt is encoded once"
    )

    def identity(self) -> dict[str, Json]:
        """The options that belong to a cell's id: those that change what is asked."""
        return self.model_dump(mode="json", exclude_defaults=True, exclude=_RECIPE)


_RECIPE = {"prompt_memo_mb"}
"""Options that say how an image is computed, not which one."""
