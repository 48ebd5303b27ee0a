# SPDX-License-Identifier: Apache-2.0
"""Soft edges: nearer to the true mask than a mask without them, in the image's full size."""

from __future__ import annotations

import io

import numpy as np
import pytest
from bgrep_harness.cutouts import drawn_product, even, on_background
from PIL import Image

from airflow_provider_bgrep.masks.colors import lab_of, resized
from airflow_provider_bgrep.masks.soft_edge import softened

COLOR = (205, 220, 232)


@pytest.mark.parametrize("times", [1, 2, 3])
def test_the_edge_is_nearer_to_the_true_mask(times):
    product = drawn_product(480 * times)
    rgb = np.asarray(Image.open(io.BytesIO(on_background(product, even(*COLOR), noise=0.5))))
    found = resized(product.is_kept, (480, 480))
    background = lab_of(np.full((480, 480, 3), COLOR, np.uint8))
    values = softened(rgb, found, background)
    assert values.shape == rgb.shape[:2]
    edge = (product.alpha > 0.02) & (product.alpha < 0.98)
    soft = np.abs(values / 255 - product.alpha)[edge].mean()
    hard = np.abs((resized(found, values.shape)) - product.alpha)[edge].mean()
    assert soft < 0.6 * hard
    assert (values[product.alpha == 1] > 0).mean() > 0.999
    assert np.abs(values / 255 - product.alpha).mean() < 0.01


def test_without_a_difference_the_edge_follows_the_outline():
    product = drawn_product()
    rgb = np.full((480, 480, 3), COLOR, np.uint8)
    values = softened(rgb, product.is_kept, lab_of(rgb))
    assert np.abs(values / 255 - product.alpha).mean() < 0.02


def test_nothing_and_everything_stay():
    rgb = np.full((480, 480, 3), COLOR, np.uint8)
    assert not softened(rgb, np.zeros((480, 480), bool), lab_of(rgb)).any()
    assert (softened(rgb, np.ones((480, 480), bool), lab_of(rgb)) == 255).all()
