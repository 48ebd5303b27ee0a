# SPDX-License-Identifier: Apache-2.0
"""Inverted masks are recognized; products at the edge, and products that fill the image, are not mistaken."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps

from airflow_provider_bgrep.images.polarity import is_inverted, overlap

SIDE = 400


def noise(size: tuple[int, int], strength: float, level: int) -> Image.Image:
    values = np.random.default_rng(1).normal(level, strength, (size[1], size[0], 3))
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def scene(
    draw_mask: Callable[[ImageDraw.ImageDraw], None], ground: str, product: str
) -> tuple[Image.Image, Image.Image]:
    """An image of a product on a ground, and its mask."""
    looks = {"white": (1, 245), "gray": (2, 128), "busy": (40, 120), "textured": (25, 150)}
    mask = Image.new("L", (SIDE, SIDE))
    draw_mask(ImageDraw.Draw(mask))
    image = Image.composite(noise((SIDE, SIDE), *looks[product]), noise((SIDE, SIDE), *looks[ground]), mask)
    return image, mask


SHAPES: dict[str, Callable[[ImageDraw.ImageDraw], None]] = {
    "in the middle": lambda draw: draw.ellipse((120, 100, 280, 300), fill=255),
    "small": lambda draw: draw.rectangle((180, 180, 220, 240), fill=255),
    "at the bottom": lambda draw: draw.rectangle((120, 150, 280, 400), fill=255),
    "at three edges": lambda draw: draw.rectangle((0, 150, 400, 400), fill=255),
    "in a corner": lambda draw: draw.rectangle((0, 200, 200, 400), fill=255),
    "fills all but the corners": lambda draw: draw.ellipse((-20, -20, 420, 420), fill=255),
    "fills all but a strip": lambda draw: draw.rectangle((0, 12, 400, 400), fill=255),
    "two parts": lambda draw: [draw.rectangle((x, 120, x + 60, 300), fill=255) for x in (80, 250)],
    "a ring": lambda draw: draw.ellipse((80, 80, 320, 320), outline=255, width=50),
}


@pytest.mark.parametrize("product", ["white", "gray", "textured", "busy"])
@pytest.mark.parametrize("ground", ["white", "gray", "busy"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_right_mask_is_never_taken_for_inverted(shape, ground, product):
    image, mask = scene(SHAPES[shape], ground, product)
    assert not is_inverted(image, mask)


# A plain area in a busy one may be a hole in a product: it is not taken for a product.
@pytest.mark.parametrize(
    ("ground", "product"),
    [(one, other) for one in ("white", "gray") for other in ("white", "gray", "textured", "busy")]
    + [("busy", "busy")],
)
@pytest.mark.parametrize("shape", ["in the middle", "small", "two parts", "a ring"])
def test_an_inverted_mask_of_a_product_in_the_image_is_found(shape, ground, product):
    image, mask = scene(SHAPES[shape], ground, product)
    assert is_inverted(image, ImageOps.invert(mask))


@pytest.mark.parametrize("ground", ["white", "gray"])
def test_an_inverted_mask_of_a_product_at_an_edge_is_found(ground):
    image, mask = scene(SHAPES["at the bottom"], ground, "textured")
    assert is_inverted(image, ImageOps.invert(mask))


def test_a_transparent_source_decides():
    image, mask = scene(SHAPES["fills all but the corners"], "busy", "busy")
    assert is_inverted(image, ImageOps.invert(mask), alpha=mask)
    assert not is_inverted(image, mask, alpha=mask)


@pytest.mark.parametrize("level", [0, 255])
def test_a_mask_of_one_color_is_not_inverted(level):
    image, _ = scene(SHAPES["small"], "white", "busy")
    assert not is_inverted(image, Image.new("L", image.size, level))


def test_overlap_is_intersection_over_union() -> None:
    one, other = np.array([[True, True, False]]), np.array([[False, True, True]])
    assert overlap(one, other) == 1 / 3
    assert overlap(one & other, ~(one | other)) == 0
    assert overlap(np.zeros((2, 2), bool), np.zeros((2, 2), bool)) == 0
