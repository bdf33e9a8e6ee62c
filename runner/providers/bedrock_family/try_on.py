"""The fields of VIRTUAL_TRY_ON."""

from __future__ import annotations

from collections.abc import Mapping

from runner.providers.bedrock_family.options import TryOn
from runner.settings.cell import Json


def try_on_fields(try_on: TryOn, *, masked: bool) -> dict[str, Json]:
    """What is sent besides the pictures.

    Args:
        try_on: The options.
        masked: A mask goes along; otherwise the model makes one of a garment or of words.
    """
    fields: dict[str, Json] = {"mergeStyle": try_on.merge_style}
    if masked:
        fields["maskType"] = "IMAGE"
    elif try_on.garment_class is not None:
        styling = try_on.styling
        worn = (
            {}
            if styling is None
            else {
                "longSleeveStyle": styling.long_sleeve,
                "tuckingStyle": styling.tucking,
                "outerLayerStyle": styling.outer_layer,
            }
        )
        fields["maskType"] = "GARMENT"
        fields["garmentBasedMask"] = _told(
            {
                "maskShape": try_on.mask_shape,
                "garmentClass": try_on.garment_class,
                "garmentStyling": _told(worn) or None,
            }
        )
    else:
        fields["maskType"] = "PROMPT"
        fields["promptBasedMask"] = _told(
            {"maskShape": try_on.mask_shape, "maskPrompt": try_on.mask_prompt}
        )
    fields["maskExclusions"] = (
        _told(
            {
                "preserveBodyPose": try_on.preserve_body_pose,
                "preserveHands": try_on.preserve_hands,
                "preserveFace": try_on.preserve_face,
            }
        )
        or None
    )
    return _told(fields)


def _told(fields: Mapping[str, Json]) -> dict[str, Json]:
    return {name: value for name, value in fields.items() if value is not None}
