# SPDX-License-Identifier: Apache-2.0
"""The product on a plain background: without its shadow, with its holes, and with its pale parts."""

from __future__ import annotations

import io

import numpy as np
import pytest
from bgrep_harness.cutouts import (
    BACKGROUNDS,
    drawn_product,
    even,
    on_background,
    shadow,
    white_with_shadow,
)
from PIL import Image

from airflow_provider_bgrep.images.polarity import overlap
from airflow_provider_bgrep.masks.plain import segment


def pixels(product, background, **how):
    return np.asarray(Image.open(io.BytesIO(on_background(product, background, **how))))


@pytest.mark.parametrize("background", BACKGROUNDS.values(), ids=BACKGROUNDS)
@pytest.mark.parametrize("has_handle", [True, False])
def test_the_product_is_found(background, has_handle):
    product = drawn_product(has_handle=has_handle)
    found = segment(pixels(product, background))
    assert overlap(found.product, product.is_kept) > 0.97
    assert found.agreement > 0.9
    assert found.holes.any() is np.bool_(has_handle)


def test_a_shadow_is_not_a_part_of_the_product():
    product = drawn_product()
    found = segment(pixels(product, white_with_shadow))
    is_dark = (shadow(product)[:, :, 0] < 0.9) & ~product.is_kept
    assert is_dark.sum() > 1000
    assert (found.product & is_dark).mean() / is_dark.mean() < 0.05


@pytest.mark.parametrize("color", ["#eeeeee", "#dddddd", "#999999", "#111111"])
def test_gray_products_are_not_taken_for_a_shadow(color):
    product = drawn_product(color=color)
    assert overlap(segment(pixels(product, even(255, 255, 255))).product, product.is_kept) > 0.95


def test_an_image_without_a_product_has_none():
    product = drawn_product()
    empty = type(product)(product.colors, product.alpha * 0)
    assert not segment(pixels(empty, BACKGROUNDS["pale blue"])).product.any()


@pytest.mark.parametrize("shape", [(64, 64), (64, 1000), (641, 333)])
def test_any_shape_can_be_segmented(shape):
    rgb = np.full((*shape, 3), 255, np.uint8)
    rgb[shape[0] // 4 : shape[0] // 2, shape[1] // 4 : shape[1] // 2] = (200, 30, 30)
    found = segment(rgb)
    assert found.product.shape == shape
    assert found.product.mean() == pytest.approx(1 / 16, rel=0.4)
