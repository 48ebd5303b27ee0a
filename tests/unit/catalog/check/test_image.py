# SPDX-License-Identifier: Apache-2.0
"""Images as the checks need them: upright, in sRGB, on white, and scaled."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from airflow_provider_bgrep.catalog.check.image import SIDE, decode, thumbnail
from airflow_provider_bgrep.images.decode import UnreadableError


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


@pytest.mark.parametrize(
    ("size", "scaled"),
    [((768, 400), (384, 200)), ((100, 50), (100, 50)), ((384, 384), (384, 384)), ((400, 3840), (40, 384))],
)
def test_the_longest_side_is_scaled_down_only(size, scaled):
    image = decode(encoded(Image.new("RGB", size, "red")))
    assert (image.width, image.height, image.sides) == (*size, f"{size[0]} x {size[1]}")
    assert image.shrunk().small.size == scaled
    assert max(image.shrunk().small.size) <= SIDE
    assert image.shrunk((30, 20)).small.size == (30, 20)


@pytest.mark.parametrize(
    ("mode", "color", "rgb"),
    [
        ("RGB", (200, 30, 40), (200, 30, 40)),
        ("L", 77, (77, 77, 77)),
        ("1", 1, (255, 255, 255)),
        ("P", 0, (0, 0, 0)),
        ("RGBA", (200, 30, 40, 255), (200, 30, 40)),
        ("RGBA", (200, 30, 40, 0), (255, 255, 255)),
        ("LA", (0, 0), (255, 255, 255)),
        ("I;16", 65535, (255, 255, 255)),
        ("I;16", 32896, (128, 128, 128)),
    ],
    ids=str,
)
def test_any_mode_becomes_rgb_on_white(mode, color, rgb):
    small = decode(encoded(Image.new(mode, (40, 40), color))).shrunk().small
    assert small.mode == "RGB"
    assert np.abs(np.asarray(small).astype(int) - rgb).max() <= 1


def test_transparency_is_kept_apart_unless_all_is_solid():
    image = Image.new("RGBA", (40, 40), (200, 30, 40, 255))
    assert decode(encoded(image)).shrunk().alpha is None
    image.paste((0, 0, 0, 0), (0, 0, 20, 40))
    alpha = decode(encoded(image)).shrunk().alpha
    assert alpha is not None
    assert (alpha.mode, alpha.getpixel((5, 20)), alpha.getpixel((35, 20))) == ("L", 0, 255)


def test_an_image_is_turned_upright():
    image = Image.new("RGB", (60, 40), "red")
    exif = Image.Exif()
    exif[0x0112] = 6
    found = decode(encoded(image, "JPEG", exif=exif))
    assert (found.width, found.height) == (40, 60)
    assert found.shrunk().small.size == (40, 60)


@pytest.mark.parametrize("mode", ["L", "1", "RGB", "RGBA"])
def test_a_mask_is_one_channel_in_each_form(mode):
    keep = Image.new("L", (40, 40), 0)
    keep.paste(255, (0, 0, 20, 40))
    mask = Image.new("RGBA", (40, 40), "red") if mode == "RGBA" else keep.convert(mode)
    if mode == "RGBA":
        mask.putalpha(keep)
    found = decode(encoded(mask)).shrunk_mask()
    assert (found.mode, found.getpixel((5, 20)), found.getpixel((35, 20))) == ("L", 255, 0)


def test_255_in_a_scaled_mask_means_that_all_of_it_is_kept():
    mask = Image.new("L", (400, 400), 255)
    mask.putpixel((101, 101), 0)
    found = np.asarray(decode(encoded(mask)).shrunk_mask((40, 40)))
    assert found[10, 10] < 255
    assert (found == 255).sum() == 40 * 40 - 1


@pytest.mark.parametrize(
    "data", [b"", b"text", encoded(Image.new("RGB", (400, 400)))[:60]], ids=["", "text", "cut"]
)
def test_what_cannot_be_decoded_whole_is_refused(data):
    with pytest.raises(UnreadableError):
        decode(data)


@pytest.mark.parametrize("size", [(400, 8), (7, 7), (3000, 20)])
def test_an_image_that_is_too_narrow_to_compare_is_refused(size):
    is_fine = min(size) * min(1, SIDE / max(size)) >= 7.5
    if is_fine:
        assert decode(encoded(Image.new("RGB", size))).sides
        return
    with pytest.raises(UnreadableError) as caught:
        decode(encoded(Image.new("RGB", size)))
    assert f"{size[0]} x {size[1]}" in str(caught.value)


def test_a_thumbnail_is_a_small_webp():
    data = thumbnail(Image.new("RGB", (384, 192), "red"))
    found = Image.open(io.BytesIO(data))
    assert (found.format, found.size) == ("WEBP", (256, 128))
    assert thumbnail(Image.new("RGB", (10, 5))) != data
