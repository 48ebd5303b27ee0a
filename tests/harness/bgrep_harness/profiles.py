# SPDX-License-Identifier: Apache-2.0
"""ICC profiles, made of their numbers, and images that are stored with them."""

from __future__ import annotations

import io
import itertools
import struct
from collections.abc import Mapping
from typing import Final

from PIL import Image, ImageCms

Colors = tuple[tuple[float, float, float], ...]

_WHITE: Final = (0.9642, 1.0, 0.8249)
"""D50, which profiles relate to."""

_ADOBE_RGB: Final = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
_DISPLAY_P3: Final = ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407))
_PROPHOTO: Final = ((0.79767, 0.28804, 0.0), (0.13519, 0.71187, 0.0), (0.03134, 0.00009, 0.82491))


def _profile(
    space: bytes, tags: list[tuple[bytes, bytes]], device: bytes = b"mntr", connection: bytes = b"XYZ "
) -> bytes:
    tags = [(b"desc", _description()), (b"cprt", b"text\0\0\0\0none\0"), (b"wtpt", _xyz(_WHITE)), *tags]
    table, data = b"", b""
    start = 128 + 4 + 12 * len(tags)
    for name, value in tags:
        value += b"\0" * (-len(value) % 4)
        table += name + struct.pack(">II", start + len(data), len(value))
        data += value
    size = start + len(data)
    header = struct.pack(">I4sI4s4s4s", size, b"\0\0\0\0", 0x02400000, device, space, connection)
    header += struct.pack(">6H4s", 2026, 1, 1, 0, 0, 0, b"acsp") + b"\0" * 28
    header += _xyz(_WHITE)[8:]
    header = header.ljust(128, b"\0")
    return header + struct.pack(">I", len(tags)) + table + data


def _description() -> bytes:
    return b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + b"\0" * 78


def _xyz(color: tuple[float, float, float]) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in color))


def _curve(gamma: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))


def _rgb(colors: Colors, gamma: float) -> bytes:
    named = zip((b"r", b"g", b"b"), colors, strict=True)
    tags = [(name + b"XYZ", _xyz(color)) for name, color in named]
    return _profile(b"RGB ", [*tags, *((name + b"TRC", _curve(gamma)) for name in (b"r", b"g", b"b"))])


def press_profile(colors: Mapping[tuple[int, ...], tuple[int, int, int]]) -> bytes:
    """Return a CMYK profile that gives each combination of full inks its color.

    :param colors: by ink, 0 or 1 for C, M, Y and K: lightness (0 to 100), a and b.
    """
    table = bytearray()
    for inks in itertools.product((0, 1), repeat=4):
        lightness, a, b = colors[inks]
        table += bytes((round(lightness * 2.55), a + 128, b + 128))
    unit = struct.pack(">9i", *(65536 if place % 4 == 0 else 0 for place in range(9)))
    straight = bytes(range(256))
    lut = b"mft1\0\0\0\0" + bytes((4, 3, 2, 0)) + unit + 4 * straight + bytes(table) + 3 * straight
    return _profile(b"CMYK", [(b"A2B0", lut)], b"prtr", b"Lab ")


SRGB: Final = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
ADOBE_RGB: Final = _rgb(_ADOBE_RGB, 2.19921875)
DISPLAY_P3: Final = _rgb(_DISPLAY_P3, 2.2)
PROPHOTO: Final = _rgb(_PROPHOTO, 1.8)
GRAY: Final = _profile(b"GRAY", [(b"kTRC", _curve(1.0))])
WIDE: Final = {"Adobe RGB": ADOBE_RGB, "Display P3": DISPLAY_P3, "ProPhoto": PROPHOTO}


def converted(image: Image.Image, profile: bytes) -> Image.Image:
    """Return an sRGB image in the colors of a profile, as a photo editor stores it."""
    target = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    found = ImageCms.profileToProfile(image, ImageCms.createProfile("sRGB"), target, outputMode=image.mode)
    assert found is not None
    return found


def encoded(image: Image.Image, format: str, profile: bytes | None = None) -> bytes:
    """Return an image as a file, with a profile."""
    out = io.BytesIO()
    options = {"quality": 95} if format in ("JPEG", "WEBP", "AVIF") else {}
    image.save(out, format, icc_profile=profile, **options)
    return out.getvalue()
