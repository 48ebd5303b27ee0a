# SPDX-License-Identifier: Apache-2.0
"""Images in every mode, container and orientation, with and without a profile: all are seen alike."""

from __future__ import annotations

import io
import itertools
from typing import Any

import numpy as np
import pytest
from bgrep_harness.profiles import ADOBE_RGB, DISPLAY_P3, GRAY, SRGB, press_profile
from PIL import Image, ImageCms, features

from airflow_provider_bgrep.catalog.check.image import decode

SIZE = (96, 64)
EXIF_ORIENTATION = 0x0112
TURNED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
MODES = {
    "JPEG": ("L", "RGB", "CMYK"),
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "WEBP": ("RGB", "RGBA"),
    "TIFF": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"),
    "GIF": ("L", "P"),
    "BMP": ("1", "L", "P", "RGB"),
    **({"AVIF": ("RGB", "RGBA")} if features.check("avif") else {}),
}
PROFILES = {
    "L": (None, GRAY, ADOBE_RGB, b"damaged"),
    "CMYK": (None, SRGB, b"damaged"),
    "I;16": (None,),
    "1": (None,),
    "P": (None,),
}
OF_OTHERS = (None, SRGB, ADOBE_RGB, DISPLAY_P3, GRAY, b"damaged")
WITH_PROFILE = frozenset(("JPEG", "PNG", "WEBP", "TIFF", "AVIF"))


def drawing(mode: str) -> Image.Image:
    """Four areas of different gray, so that any turn can be seen; those of ``1`` are black and white."""
    levels = (0, 255, 255, 255) if mode == "1" else (20, 90, 160, 230)
    image = Image.new("L", SIZE)
    width, height = SIZE[0] // 2, SIZE[1] // 2
    for place, level in enumerate(levels):
        left, top = place % 2 * width, place // 2 * height
        image.paste(level, (left, top, left + width, top + height))
    if mode == "I;16":
        return Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
    if mode == "CMYK":
        return image.convert("RGB").convert("CMYK")
    return image.convert("RGB").quantize(16) if mode == "P" else image.convert(mode)


def saved(image: Image.Image, container: str, orientation: int, profile: bytes | None) -> bytes:
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    options: dict[str, Any] = {"exif": exif} if orientation != 1 else {}
    if profile is not None:
        options["icc_profile"] = profile
    if container in ("JPEG", "WEBP", "AVIF"):
        options["quality"] = 95
    out = io.BytesIO()
    image.save(out, container, **options)
    return out.getvalue()


def levels_of(image: Image.Image) -> list[int]:
    """The gray in the middle of each quarter."""
    gray = image.convert("L")
    width, height = gray.size
    return [
        gray.getpixel((width // 4 + x * width // 2, height // 4 + y * height // 2))  # type: ignore[misc]
        for y, x in itertools.product((0, 1), repeat=2)
    ]


@pytest.mark.parametrize("container", MODES)
def test_an_image_is_seen_alike_in_every_mode(container: str):
    for mode in MODES[container]:
        orientations = TURNED if container in WITH_PROFILE else (1,)
        profiles = PROFILES.get(mode, OF_OTHERS) if container in WITH_PROFILE else (None,)
        for orientation, profile in itertools.product(orientations, profiles):
            if orientation != 1 and profile not in (None, ADOBE_RGB):
                continue
            image = drawing(mode)
            found = decode(saved(image, container, orientation, profile)).shrunk().small
            expected = drawing("1" if mode == "1" else "L")
            transpose = TURNED[orientation]
            upright = expected if transpose is None else expected.transpose(transpose)
            assert found.size == upright.size, (mode, orientation)
            order = np.argsort(levels_of(upright), kind="stable")
            seen = [levels_of(found)[place] for place in order]
            assert seen == sorted(seen), (mode, orientation, profile and profile[:8])
            if profile in (None, SRGB, b"damaged"):
                wanted = sorted(levels_of(upright))
                assert seen == pytest.approx(wanted, abs=6), (mode, orientation, profile and profile[:8])


INKS = {
    inks: (round(100 - 20 * (inks[0] + inks[1] + inks[2]) - 38 * inks[3]), 0, 0)
    for inks in itertools.product((0, 1), repeat=4)
}
INKS |= {(1, 0, 0, 0): (55, -30, -40), (0, 1, 0, 0): (48, 70, -5), (0, 0, 1, 0): (88, -5, 80)}
"""The colors of a press: duller than those of pure light."""


@pytest.mark.parametrize("container", ["JPEG", "TIFF"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_the_inks_of_a_press_have_the_colors_of_its_profile(container: str, orientation: int):
    profile = press_profile(INKS)
    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    for inks in ((0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)):
        image = Image.new("CMYK", SIZE, tuple(255 * ink for ink in inks))
        decoded = decode(saved(image, container, orientation, profile))
        assert decoded.has_other_colors
        lightness, a, b = INKS[inks]
        patch = Image.new("LAB", (1, 1), (round(lightness * 2.55), a + 128, b + 128))
        wanted = ImageCms.profileToProfile(patch, lab, srgb, outputMode="RGB")
        assert wanted is not None
        found = decoded.shrunk().small.getpixel((20, 20))
        assert found == pytest.approx(wanted.getpixel((0, 0)), abs=6), inks
        dull = decoded.shrunk(ignores_profile=True).small.getpixel((20, 20))
        if inks == (1, 0, 0, 0):
            assert dull != pytest.approx(found, abs=20), "without its profile, cyan is another color"
