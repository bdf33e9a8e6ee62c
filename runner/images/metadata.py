"""Metadata put into an image file without decoding it: the pixels stay as they are, bit for bit.

Two texts that other programs read: A1111's *infotext* (Civitai, ComfyUI and most viewers), and an
XMP packet with IPTC's fields for AI-generated media. Neither is a safe store of a record (a prompt
can imitate either): the row in ``metadata.jsonl`` is.
"""

from __future__ import annotations

import json
import re
import zlib
from dataclasses import dataclass
from xml.sax.saxutils import escape

from runner.images.containers import PNG_SIGNATURE, jpeg_segments, png_chunks, riff_chunks

SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""IPTC's word for an image that a trained model made."""

_XMP_IN_JPEG = b"http://ns.adobe.com/xap/1.0/\0"
_JPEG_SEGMENT = 65_533
"""Most payload of one JPEG segment; longer XMP would need its extended form."""

_QUOTED = re.compile(r"[,:\n\"]")
NOT_IN_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 forbids."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """How an image was made, as far as metadata tells it. ``None``: not known, so not written.

    Attributes:
        prompt: The prompt that was asked; ``None`` keeps it private.
        negative_prompt: The negative prompt.
        provider: Who made it.
        model: Model that was asked for.
        model_version: Model that the provider says it used.
        seed: Seed that was sent.
        steps: Denoising steps.
        sampler: Scheduler.
        guidance_scale: Classifier-free guidance.
        width: Pixels.
        height: Pixels.
        software: This program with its version.
    """

    prompt: str | None
    negative_prompt: str | None = None
    provider: str
    model: str
    model_version: str | None = None
    seed: int | None = None
    steps: int | None = None
    sampler: str | None = None
    guidance_scale: float | None = None
    width: int | None = None
    height: int | None = None
    software: str


class NoRoomError(Exception):
    """The file's format, or what it already holds, has no place for the metadata."""


def infotext(origin: Origin) -> str:
    """A1111's text: the prompt, the negative prompt, then one line of ``Key: value`` pairs.

    Only true keys are written: an API's image has no steps and no sampler. Form as in A1111's
    ``modules/infotext_utils.py``: a value with a comma, a colon, a quote or a line break is JSON.
    """
    size = f"{origin.width}x{origin.height}" if origin.width and origin.height else None
    pairs = {
        "Steps": origin.steps,
        "Sampler": origin.sampler,
        "CFG scale": None if origin.guidance_scale is None else f"{origin.guidance_scale:g}",
        "Seed": origin.seed,
        "Size": size,
        "Model": f"{origin.provider}/{origin.model}",
        "Version": origin.software,
    }
    settings = ", ".join(
        f"{key}: {_value(str(value))}" for key, value in pairs.items() if value is not None
    )
    lines = [origin.prompt or ""]
    if origin.negative_prompt and origin.prompt is not None:
        lines.append(f"Negative prompt: {origin.negative_prompt}")
    return "\n".join([*lines, settings])


def xmp_packet(origin: Origin) -> str:
    """An XMP packet with IPTC Photo Metadata 2025.1's fields for AI-generated media.

    https://www.iptc.org/std/photometadata/specification: ``DigitalSourceType``, ``AISystemUsed``,
    ``AISystemVersionUsed``, ``AIPromptInformation``.
    """
    members = {
        "DigitalSourceType": SOURCE_TYPE,
        "AISystemUsed": f"{origin.provider} {origin.model}",
        "AISystemVersionUsed": origin.model_version,
        "AIPromptInformation": origin.prompt,
    }
    inner = "\n".join(
        f"   <Iptc4xmpExt:{name}>{_xml(value)}</Iptc4xmpExt:{name}>"
        for name, value in members.items()
        if value
    )
    return f"""\
<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:xmp="http://ns.adobe.com/xap/1.0/"
    xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">
   <xmp:CreatorTool>{_xml(origin.software)}</xmp:CreatorTool>
{inner}
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>"""


def insert(data: bytes, *, text: str | None = None, xmp: str | None = None) -> bytes:
    """Put an infotext and an XMP packet into a PNG, JPEG or WebP file.

    Args:
        data: The file.
        text: A1111's infotext.
        xmp: An XMP packet.

    Returns:
        The file with the metadata; every other byte of it is as it was, but for the sizes and
        flags in WebP's own headers.

    Raises:
        NoRoomError: Another format, or the file already holds what would have to be replaced.
    """
    if text is None and xmp is None:
        return data
    if data.startswith(PNG_SIGNATURE):
        return _into_png(data, text, xmp)
    if data.startswith(b"\xff\xd8\xff"):
        return _into_jpeg(data, text, xmp)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _into_webp(data, text, xmp)
    raise NoRoomError("only PNG, JPEG and WebP files take metadata")


def _value(text: str) -> str:
    return json.dumps(text, ensure_ascii=False) if _QUOTED.search(text) else text


def _xml(text: str) -> str:
    return escape(NOT_IN_XML.sub("\ufffd", text))


def _into_png(data: bytes, text: str | None, xmp: str | None) -> bytes:
    parts = list(png_chunks(data))
    if not parts or parts[0][0] != b"IHDR":
        raise NoRoomError("a PNG file without its first chunk")
    keywords = {data[start : data.find(b"\0", start)] for name, start, _ in parts if _is_text(name)}
    chunks = b""
    if text is not None:
        if b"parameters" in keywords:
            raise NoRoomError("the file has an infotext already")
        try:
            chunks += _png_chunk(b"tEXt", b"parameters\0" + text.encode("latin-1"))
        except UnicodeEncodeError:
            chunks += _png_chunk(b"iTXt", b"parameters\0\0\0\0\0" + _utf8(text))
    if xmp is not None:
        if b"XML:com.adobe.xmp" in keywords:
            raise NoRoomError("the file has XMP metadata already")
        chunks += _png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + _utf8(xmp))
    after = parts[0][2] + 4
    return data[:after] + chunks + data[after:]


def _is_text(name: bytes) -> bool:
    return name in (b"tEXt", b"zTXt", b"iTXt")


def _png_chunk(name: bytes, body: bytes) -> bytes:
    check = zlib.crc32(name + body).to_bytes(4, "big")
    return len(body).to_bytes(4, "big") + name + body + check


def _into_jpeg(data: bytes, text: str | None, xmp: str | None) -> bytes:
    after, segments = 2, b""
    for name, start, end in jpeg_segments(data):
        if name == b"\xe0":
            after = end
        if name != b"\xe1":
            continue
        if text is not None and data.startswith(b"Exif\0\0", start):
            raise NoRoomError("the file has EXIF metadata already")
        if xmp is not None and data.startswith(_XMP_IN_JPEG, start):
            raise NoRoomError("the file has XMP metadata already")
    if text is not None:
        segments += _jpeg_segment(b"Exif\0\0" + _exif(text))
    if xmp is not None:
        segments += _jpeg_segment(_XMP_IN_JPEG + _utf8(xmp))
    return data[:after] + segments + data[after:]


def _jpeg_segment(body: bytes) -> bytes:
    if len(body) > _JPEG_SEGMENT:
        raise NoRoomError("the text is too long for a JPEG segment")
    return b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body


def _exif(text: str) -> bytes:
    """A TIFF block with one tag: UserComment in UTF-16, as A1111 writes it (Exif 2.32, 4.6.5)."""
    comment = b"UNICODE\0" + text.encode("utf-16-be", "replace")
    # Big-endian header; IFD0 points to the Exif IFD at 26; its one value lies at 44.
    head = b"MM\0*\0\0\0\x08"
    ifd0 = b"\0\x01" + b"\x87\x69\0\x04\0\0\0\x01" + (26).to_bytes(4, "big") + b"\0\0\0\0"
    exif = b"\0\x01" + b"\x92\x86\0\x07" + len(comment).to_bytes(4, "big")
    return head + ifd0 + exif + (44).to_bytes(4, "big") + b"\0\0\0\0" + comment


def _into_webp(data: bytes, text: str | None, xmp: str | None) -> bytes:
    parts = {name: (start, end) for name, start, end in riff_chunks(data)}
    if text is not None and b"EXIF" in parts:
        raise NoRoomError("the file has EXIF metadata already")
    if xmp is not None and b"XMP " in parts:
        raise NoRoomError("the file has XMP metadata already")
    flags = (0x08 if text is not None else 0) | (0x04 if xmp is not None else 0)
    body = bytearray(data[12:])
    if b"VP8X" in parts:
        body[parts[b"VP8X"][0] - 12] |= flags
    else:
        body[:0] = _riff_chunk(b"VP8X", _webp_header(data, parts, flags))
    if text is not None:
        body += _riff_chunk(b"EXIF", _exif(text))
    if xmp is not None:
        body += _riff_chunk(b"XMP ", _utf8(xmp))
    return b"RIFF" + (len(body) + 4).to_bytes(4, "little") + b"WEBP" + bytes(body)


def _riff_chunk(name: bytes, body: bytes) -> bytes:
    return name + len(body).to_bytes(4, "little") + body + b"\0" * (len(body) & 1)


def _webp_header(data: bytes, parts: dict[bytes, tuple[int, int]], flags: int) -> bytes:
    """The extended header of a simple file: flags, then its size from the only frame.

    https://developers.google.com/speed/webp/docs/riff_container
    """
    if b"VP8 " in parts:
        start = parts[b"VP8 "][0]
        width = int.from_bytes(data[start + 6 : start + 8], "little") & 0x3FFF
        height = int.from_bytes(data[start + 8 : start + 10], "little") & 0x3FFF
    elif b"VP8L" in parts:
        bits = int.from_bytes(data[parts[b"VP8L"][0] + 1 :][:4], "little")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        flags |= 0x10 if bits >> 28 & 1 else 0
    else:
        raise NoRoomError("a WebP file without a frame")
    sizes = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return bytes([flags, 0, 0, 0]) + sizes


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "replace")
