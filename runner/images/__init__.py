"""Images as bytes: what they are, whether they are whole, how they differ, which marks they carry.

Pure functions. Pillow is imported inside the functions that decode.
"""

from runner.images.decode import (
    Comparison,
    Inspected,
    check_decodes,
    compare,
    inspect,
    pixel_sha256,
)
from runner.images.provenance import marks
from runner.images.sniff import MAX_PIXELS, BadImage, ImageInfo, check_whole, sniff

__all__ = [
    "MAX_PIXELS",
    "BadImage",
    "Comparison",
    "ImageInfo",
    "Inspected",
    "check_decodes",
    "check_whole",
    "compare",
    "inspect",
    "marks",
    "pixel_sha256",
    "sniff",
]
