"""From what an answer holds to the original bytes: base64 and ``data:`` URLs, strictly."""

from __future__ import annotations

import binascii
from urllib.parse import unquote_to_bytes

from runner.images import BadImage

MAX_IMAGE_BYTES = 64 * 1024 * 1024
"""Largest image file that is accepted from a provider."""


def decode_base64(text: str) -> bytes:
    """Original bytes of base64 text; line breaks and missing padding are tolerated, noise is not.

    Raises:
        BadImage: Empty, too large, or no base64.
    """
    import pybase64

    if len(text) > MAX_IMAGE_BYTES * 4 // 3 + 4:
        raise BadImage(f"base64 of more than {MAX_IMAGE_BYTES >> 20} MiB")
    try:
        data = pybase64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        compact = "".join(text.split())
        try:
            data = pybase64.b64decode(compact + "=" * (-len(compact) % 4), validate=True)
        except (binascii.Error, ValueError) as error:
            raise BadImage("text that is no base64") from error
    if not data:
        raise BadImage("empty base64")
    return data


def decode_data_url(url: str) -> bytes:
    """Original bytes of a ``data:`` URL, base64 or percent-encoded. Its declared type is ignored.

    Raises:
        BadImage: Not such a URL, empty, or too large.
    """
    head, comma, rest = url.partition(",")
    if not head.lower().startswith("data:") or not comma:
        raise BadImage("a broken data: URL")
    if head.lower().rstrip().endswith(";base64"):
        return decode_base64(unquote_to_bytes(rest).decode("ascii", "replace"))
    data = unquote_to_bytes(rest)
    if not 0 < len(data) <= MAX_IMAGE_BYTES:
        raise BadImage(f"a data: URL of {len(data):,} bytes")
    return data


def encode_base64(data: bytes) -> str:
    """Plain base64, for APIs that take input images inside JSON."""
    import pybase64

    return pybase64.b64encode_as_string(data)


def encode_data_url(data: bytes, mime: str) -> str:
    """A ``data:`` URL, for APIs that take input images with their type inside JSON."""
    return f"data:{mime};base64,{encode_base64(data)}"
