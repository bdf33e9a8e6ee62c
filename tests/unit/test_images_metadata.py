"""Metadata in image files: read back by other programs' parsers, pixels untouched."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import pytest
from PIL import Image

from runner.images import marks
from runner.images.metadata import NoRoomError, Origin, infotext, insert, xmp_packet
from runner.images.sniff import check_whole, sniff
from tests.report_fixture import HOSTILE

ORIGIN = Origin(
    prompt="a fox, red: the 1st",
    negative_prompt="rain, fog",
    provider="diffusers",
    model="stabilityai/sd3.5: medium",
    model_version="2026-09-01",
    seed=7,
    steps=28,
    sampler="Euler",
    guidance_scale=4.5,
    width=32,
    height=24,
    software="image-batch-runner 0.1.0",
)
SECOND = Image.new("RGB", (32, 24))
FILES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "png": ("PNG", "RGBA", {}),
    "jpeg": ("JPEG", "RGB", {}),
    "webp": ("WEBP", "RGB", {}),
    "webp lossless": ("WEBP", "RGBA", {"lossless": True}),
    "webp animated": ("WEBP", "RGB", {"save_all": True, "append_images": [SECOND]}),
}


@pytest.fixture(params=FILES)
def file(request: pytest.FixtureRequest) -> bytes:
    fmt, mode, options = FILES[request.param]
    buffer = io.BytesIO()
    image = Image.effect_noise((32, 24), 60).convert(mode)
    if mode == "RGBA":
        image.putalpha(Image.linear_gradient("L").resize((32, 24)))
    image.save(buffer, fmt, **options)
    return buffer.getvalue()


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def test_the_pixels_stay_and_the_texts_are_there(file: bytes) -> None:
    made = insert(file, text=infotext(ORIGIN), xmp=xmp_packet(ORIGIN))
    check_whole(made, sniff(made))
    assert opened(made).tobytes() == opened(file).tobytes()
    assert opened(made).mode == opened(file).mode
    assert "iptc" in marks(made)
    packet = opened(made).info["xmp"]
    assert ORIGIN.prompt is not None
    assert ORIGIN.prompt.encode() in packet


def test_infotext_is_read_by_a_public_parser(file: bytes) -> None:
    sd_parsers = pytest.importorskip("sd_parsers")
    made = insert(file, text=infotext(ORIGIN), xmp=xmp_packet(ORIGIN))
    found = sd_parsers.ParserManager().parse(io.BytesIO(made))
    assert found is not None
    assert found.generator.value == "AUTOMATIC1111"
    assert found.full_prompt == ORIGIN.prompt
    assert found.full_negative_prompt == ORIGIN.negative_prompt
    (sampler,) = found.samplers
    assert sampler.name == "Euler"
    values = {str(value) for value in sampler.parameters.values()}
    assert {"7", "28", "4.5"} <= values
    # The quoted name of the model, which holds a colon, must not spill into other keys.
    assert found.metadata == {"Size": "32x24", "Version": ORIGIN.software}


def test_an_api_claims_no_steps_and_no_sampler() -> None:
    text = infotext(
        Origin(prompt="a fox", provider="openai", model="gpt-image-2", software="runner 1")
    )
    assert text == "a fox\nModel: openai/gpt-image-2, Version: runner 1"


def test_private_prompts_stay_out(file: bytes) -> None:
    private = replace(ORIGIN, prompt=None)
    made = insert(file, text=infotext(private), xmp=xmp_packet(private))
    for text in ("a fox", "rain, fog"):
        for form in (text.encode(), text.encode("utf-16-be")):
            assert form not in made


@pytest.mark.parametrize("prompt", HOSTILE)
def test_xmp_is_xml_whatever_the_prompt_says(prompt: str) -> None:
    packet = xmp_packet(replace(ORIGIN, prompt=prompt))
    tree = ElementTree.fromstring(packet.encode("utf-8", "replace"))
    name = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}"
    texts = {element.tag.removeprefix(name): element.text for element in tree.iter()}
    assert texts["DigitalSourceType"] is not None
    assert texts["DigitalSourceType"].endswith("/trainedAlgorithmicMedia")
    kept = texts["AIPromptInformation"] or ""
    assert kept.replace("\ufffd", "")[:5] in prompt.replace("\r", "\n")


@pytest.mark.parametrize("prompt", HOSTILE)
def test_no_prompt_breaks_a_file(file: bytes, prompt: str) -> None:
    origin = replace(ORIGIN, prompt=prompt)
    made = insert(file, text=infotext(origin), xmp=xmp_packet(origin))
    assert opened(made).tobytes() == opened(file).tobytes()


def test_what_is_there_is_not_replaced(file: bytes) -> None:
    once = insert(file, text="a", xmp=xmp_packet(ORIGIN))
    for more in ({"text": "b"}, {"xmp": xmp_packet(ORIGIN)}):
        with pytest.raises(NoRoomError, match="already"):
            insert(once, **more)


def test_other_formats_have_no_room() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "GIF")
    with pytest.raises(NoRoomError):
        insert(buffer.getvalue(), text="a")
    with pytest.raises(NoRoomError):
        insert(b"<svg/>", xmp="a")


def test_a_text_too_long_for_jpeg_is_said() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "JPEG")
    with pytest.raises(NoRoomError, match="too long"):
        insert(buffer.getvalue(), text="x" * 40_000)
