# SPDX-License-Identifier: Apache-2.0
"""A product and its mask, drawn small, for the tests of the emulator."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

SIDE = 420
"""Pixels: hardly more than the smallest side that the API accepts."""


def product(mode: str = "RGB", size: tuple[int, int] = (SIDE, SIDE)) -> tuple[Image.Image, Image.Image]:
    """A red disc on gray, and its mask."""
    y, x = np.mgrid[0 : size[1], 0 : size[0]]
    inside = (x - size[0] / 2) ** 2 + (y - size[1] / 2) ** 2 < (min(size) / 3) ** 2
    colors = np.where(inside[:, :, None], (200, 30, 30), (190, 190, 190)).astype(np.uint8)
    mask = Image.fromarray((inside * 255).astype(np.uint8))
    return Image.fromarray(colors).convert(mode), mask


def packed(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    """The bytes of an image file."""
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def pixels(data: bytes) -> Any:
    """The pixels of an image file, as integers."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
