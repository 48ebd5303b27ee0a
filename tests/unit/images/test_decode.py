# SPDX-License-Identifier: Apache-2.0
"""Image files of every make, and files that are none: decoded within bounds, or named for what they are."""

from __future__ import annotations

import contextlib
import io
import shutil
import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from airflow_provider_bgrep.images.decode import (
    FORMATS,
    MAX_PIXELS,
    UnreadableError,
    inspect,
    load,
    sides_of,
    turned_back,
)

LYING = Image.effect_mandelbrot((64, 48), (-2, -1.5, 1, 1.5), 50).convert("RGB")
XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
)
WITH_EXIF = [name for name in FORMATS if name not in ("BMP", "GIF")]


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def with_xmp(kind: str, **options: Any) -> bytes:
    if kind != "PNG":
        return encoded(LYING, kind, xmp=XMP.encode(), **options)
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", XMP)
    return encoded(LYING, kind, pnginfo=text, **options)


@pytest.fixture
def saved(tmp_path: Path) -> Any:
    def saved(data: bytes) -> str:
        path = tmp_path / "image"
        path.write_bytes(data)
        return str(path)

    return saved


@pytest.mark.parametrize("kind", FORMATS)
def test_each_format_is_decoded_and_named(kind, saved):
    """D6, D7."""
    data = encoded(LYING, kind)
    assert load(data).size == (64, 48)
    info = inspect(saved(data))
    assert (info.format, info.width, info.height) == (kind, 64, 48)


# --- orientation ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", WITH_EXIF)
def test_an_orientation_in_xmp_is_ignored_as_in_browsers(kind):
    """D5."""
    image = load(with_xmp(kind))
    assert (image.size, image.info["full_size"]) == ((64, 48), (64, 48))


def test_xmp_is_ignored_beside_an_exif_without_an_orientation():
    """D5."""
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    assert load(with_xmp("JPEG", exif=exif)).size == (64, 48)


@pytest.mark.parametrize("kind", WITH_EXIF)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_orientation_in_exif_turns_the_image(kind, orientation):
    """D5."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = load(encoded(LYING, kind, exif=exif))
    size = (48, 64) if orientation >= 5 else (64, 48)
    assert (image.size, image.info["full_size"]) == (size, size)


@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"\xff" * 40], ids=repr)
def test_a_broken_exif_does_not_hide_the_pixels(exif):
    assert load(encoded(LYING, "JPEG", exif=exif)).size == (64, 48)


def test_a_jpeg_is_decoded_small_and_keeps_its_full_size():
    large = encoded(LYING.resize((1600, 1200)), "JPEG")
    image = load(large, draft_side=384)
    assert (image.size, image.info["full_size"]) == ((400, 300), (1600, 1200))


# --- metadata -------------------------------------------------------------------------------------


def png_with(text: str, *, kind: str) -> bytes:
    info = PngImagePlugin.PngInfo()
    if kind == "iTXt":
        info.add_itxt("XML:com.adobe.xmp", text, zip=True)
    else:
        info.add_text("Description", text, zip=kind == "zTXt")
    return encoded(LYING, "PNG", pnginfo=info)


@pytest.mark.parametrize("kind", ["tEXt", "zTXt", "iTXt"])
def test_a_png_with_much_text_is_read_within_bounds(kind, saved):
    """D4."""
    data = png_with("x" * 40_000_000, kind=kind)
    tracemalloc.start()
    assert load(data).size == (64, 48)
    assert inspect(saved(data)).format == "PNG"
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8_000_000


@pytest.mark.parametrize("size", [3_000, 3_000_000])
def test_a_png_with_a_profile_of_any_size_is_read(size, saved):
    """D4."""
    data = encoded(LYING, "PNG", icc_profile=b"p" * size)
    assert load(data).size == (64, 48)
    assert inspect(saved(data)).width == 64


@pytest.mark.parametrize(("count", "is_read"), [(90_000, True), (100_000, False), (500_000, False)])
def test_a_png_of_many_empty_chunks_is_read_within_bounds(count, is_read, saved):
    data, start = encoded(LYING, "PNG"), 33  # after the header
    empty = struct.pack(">I", 0) + b"abCd" + struct.pack(">I", zlib.crc32(b"abCd"))
    data = data[:start] + count * empty + data[start:]
    for read in (sides_of, lambda given: inspect(saved(given))):
        tracemalloc.start()
        try:
            with contextlib.nullcontext() if is_read else pytest.raises(UnreadableError, match="chunks"):
                read(data)
            assert tracemalloc.get_traced_memory()[1] < 40_000_000
        finally:
            tracemalloc.stop()


def test_the_file_itself_is_not_changed(saved):
    data = png_with("text", kind="tEXt")
    path = saved(data)
    inspect(path)
    assert Path(path).read_bytes() == data


# --- what is not decoded --------------------------------------------------------------------------

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 200
FOREIGN = {
    "EPS": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n", "EPS"),
    "EPS from Windows": (b"\xc5\xd0\xd3\xc6" + b"\0" * 40, "EPS"),
    "PDF": (b"%PDF-1.7\n", "PDF"),
    "PSD": (b"8BPS\0\1" + b"\0" * 40, "Photoshop"),
    "HEIC": (HEIC, "HEIC"),
    "SVG": (b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
    "page": (b"<!doctype html><html></html>", "web page"),
    "JSON": (b'{"error": "no such object"}', "message"),
    "ICO": (encoded(LYING, "ICO"), "ICO"),
    "PPM": (encoded(LYING, "PPM"), "PNM"),
    "TGA": (encoded(LYING, "TGA"), "not an image"),
    "JPEG 2000": (b"\0\0\0\x0cjP  \r\n\x87\n" + b"\0" * 40, "JPEG 2000"),
    "JPEG XL": (b"\xff\x0a" + b"\0" * 40, "JPEG XL"),
    "nothing known": (bytes(range(60)), "not an image"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_format_outside_the_closed_list_reaches_no_plugin(name, saved, tmp_path, monkeypatch):
    """D6, L4."""
    data, words = FOREIGN[name]
    # Ghostscript, if it were started, would leave a trace.
    (tmp_path / "bin").mkdir()
    for program in ("gs", "gswin64c"):
        script = tmp_path / "bin" / program
        script.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
        script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin")
    for read in (lambda: load(data), lambda: inspect(saved(data))):
        with pytest.raises(UnreadableError, match=words):
            read()
    assert not (tmp_path / "started").exists()
    assert shutil.which("gs") == f"{tmp_path}/bin/gs"


def test_an_avif_is_read_if_pillow_can_and_else_named():
    """D7."""
    damaged = b"\0\0\0\x1cftypavif\0\0\0\0avifmif1" + b"\0" * 100
    with pytest.raises(UnreadableError, match="AVIF" if "AVIF" not in FORMATS else "AVIF|damaged"):
        load(damaged)


@pytest.mark.filterwarnings("ignore")
def test_more_pixels_than_the_limit_are_not_decoded(saved):
    """D6."""
    side = int(MAX_PIXELS**0.5) + 1
    data = encoded(Image.new("1", (side, side)), "PNG")
    for read in (lambda: load(data), lambda: inspect(saved(data))):
        with pytest.raises(UnreadableError, match="pixels"):
            read()


@pytest.mark.parametrize("kind", FORMATS)
def test_half_a_file_is_not_an_image(kind, saved):
    data = encoded(LYING, kind)
    with pytest.raises(UnreadableError):
        inspect(saved(data[: len(data) // 2]))


def test_of_several_frames_the_first_is_decoded():
    """D6."""
    frames = [Image.new("RGB", (64, 48), color) for color in ("red", "green", "blue")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert load(data).convert("RGB").getpixel((0, 0)) == (255, 0, 0)


def test_an_empty_file_says_so():
    with pytest.raises(UnreadableError, match="empty"):
        load(b"")


FILES = [png_with("text", kind="zTXt"), with_xmp("JPEG"), encoded(LYING, "PNG", icc_profile=b"p" * 300), HEIC]


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_no_bytes_raise_anything_else(data):
    damaged = bytearray(data.draw(st.sampled_from(FILES)))
    for _ in range(data.draw(st.integers(0, 6))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(damaged[: data.draw(st.integers(0, len(damaged)))])
    with contextlib.suppress(UnreadableError):
        load(cut)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_what_was_turned_upright_can_be_turned_back(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(LYING, "PNG", exif=exif.tobytes())
    back, found = turned_back(load(data), data)
    assert (back.size, back.tobytes(), found) == (LYING.size, LYING.tobytes(), orientation)


def test_what_is_not_an_image_turns_nothing():
    with pytest.raises(UnreadableError):
        turned_back(LYING, b"not an image")
