"""C2PA signatures, judged by the reader of the C2PA project itself."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from runner.images.metadata import NoRoomError, Origin, infotext, insert, xmp_packet

pytest.importorskip("c2pa")

from runner.images import c2pa

ORIGIN = Origin(prompt="a fox", provider="diffusers", model="builtin", seed=1, software="runner 1")
FORMATS = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}


@pytest.fixture(scope="module")
def credentials() -> c2pa.Credentials:
    return c2pa.make_test_credentials()


def picture(fmt: str) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((48, 32), 60).convert("RGB").save(buffer, fmt)
    return buffer.getvalue()


def pixels(data: bytes) -> bytes:
    return Image.open(io.BytesIO(data)).tobytes()


@pytest.mark.parametrize("fmt", FORMATS)
def test_a_file_with_all_marks_is_valid_and_its_pixels_unchanged(
    fmt: str, credentials: c2pa.Credentials
) -> None:
    mime, raw = FORMATS[fmt], picture(fmt)
    marked = insert(raw, text=infotext(ORIGIN), xmp=xmp_packet(ORIGIN))
    signed = c2pa.sign(marked, mime, credentials, ORIGIN, facts={"cell_id": "ab"})
    assert signed.sidecar is None
    found = c2pa.read(signed.data, mime)
    assert found is not None
    assert found["state"] == "Valid"
    assert found["signer"] == "image-batch-runner test"
    assert pixels(signed.data) == pixels(raw)
    assert len(signed.data) - len(marked) < 6000, "a thumbnail got in"


def test_the_providers_manifest_is_kept_as_parent(credentials: c2pa.Credentials) -> None:
    import c2pa as library

    mime, raw = "image/png", picture("PNG")
    theirs = c2pa.sign(raw, mime, c2pa.make_test_credentials(), ORIGIN, facts={}).data
    touched = insert(theirs, text="a fox")
    broken = c2pa.read(touched, mime)
    assert broken is not None
    assert broken["state"] == "Invalid"
    ours = c2pa.sign(touched, mime, credentials, ORIGIN, facts={}, parent=theirs).data
    found = c2pa.read(ours, mime)
    assert found is not None
    assert found["state"] == "Valid"
    with library.Reader(mime, io.BytesIO(ours)) as reader:
        active = reader.get_active_manifest()
    assert [item["relationship"] for item in active["ingredients"]] == ["parentOf"]


def test_a_sidecar_leaves_the_file_alone(credentials: c2pa.Credentials) -> None:
    raw = picture("PNG")
    signed = c2pa.sign(raw, "image/png", credentials, ORIGIN, facts={}, embed=False)
    assert signed.data == raw
    assert signed.sidecar is not None
    found = c2pa.read(raw, "image/png", signed.sidecar)
    assert found is not None
    assert found["state"] == "Valid"
    other = c2pa.read(picture("PNG")[:-8] + raw[-8:], "image/png", signed.sidecar)
    assert other is None or other["state"] == "Invalid"


def test_one_changed_byte_is_seen(credentials: c2pa.Credentials) -> None:
    data = bytearray(c2pa.sign(picture("PNG"), "image/png", credentials, ORIGIN, facts={}).data)
    at = data.index(b"IDAT") + 40
    data[at] ^= 1
    found = c2pa.read(bytes(data), "image/png")
    assert found is None or found["state"] == "Invalid"


def test_what_cannot_be_signed_is_said(credentials: c2pa.Credentials) -> None:
    with pytest.raises(NoRoomError):
        c2pa.sign(b"<svg/>", "image/svg+xml", credentials, ORIGIN, facts={})
    for bad in (c2pa.Credentials("junk", "junk"), c2pa.Credentials(credentials.certificates, "x")):
        with pytest.raises(ValueError, match="C2PA"):
            c2pa.sign(picture("PNG"), "image/png", bad, ORIGIN, facts={})


def test_no_manifest_and_credentials_that_do_not_print(credentials: c2pa.Credentials) -> None:
    assert c2pa.read(picture("PNG"), "image/png") is None
    assert "PRIVATE" not in repr(credentials)
    assert "CERTIFICATE" not in f"{credentials}"
