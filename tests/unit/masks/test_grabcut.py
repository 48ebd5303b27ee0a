# SPDX-License-Identifier: Apache-2.0
"""The second opinion: it agrees with what is right, and not with what is wrong."""

from __future__ import annotations

import io

import numpy as np
from bgrep_harness.cutouts import drawn_product, even, on_background
from PIL import Image

from airflow_provider_bgrep.images.polarity import overlap
from airflow_provider_bgrep.masks.grabcut import second_opinion

PRODUCT = drawn_product()


def rgb():
    return np.asarray(Image.open(io.BytesIO(on_background(PRODUCT, even(205, 220, 232)))))


def test_the_right_product_is_found_again():
    assert overlap(second_opinion(rgb(), PRODUCT.is_kept), PRODUCT.is_kept) > 0.95


def test_a_product_with_its_surroundings_is_corrected():
    wide = np.zeros_like(PRODUCT.is_kept)
    wide[80:400, 110:420] = True
    found = second_opinion(rgb(), wide)
    assert overlap(found, PRODUCT.is_kept) > overlap(wide, PRODUCT.is_kept) + 0.2


def test_the_opinion_is_the_same_each_time():
    first = second_opinion(rgb(), PRODUCT.is_kept)
    assert np.array_equal(first, second_opinion(rgb(), PRODUCT.is_kept))


def test_all_or_nothing_is_kept():
    for product in (np.ones((480, 480), bool), np.zeros((480, 480), bool)):
        assert np.array_equal(second_opinion(rgb(), product), product)
