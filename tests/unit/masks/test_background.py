# SPDX-License-Identifier: Apache-2.0
"""The plain background of an image: its color behind the product, its noise, and whether it is plain."""

from __future__ import annotations

import io

import numpy as np
import pytest
from bgrep_harness.cutouts import BACKGROUNDS, busy, drawn_product, on_background
from PIL import Image

from airflow_provider_bgrep.masks.background import fitted_background
from airflow_provider_bgrep.masks.colors import lab_of, length


def fitted(background, noise=1.5):
    product = drawn_product()
    data = on_background(product, background, noise=noise)
    found = fitted_background(lab_of(np.asarray(Image.open(io.BytesIO(data)))))
    true = lab_of(np.clip(background(product), 0, 255).astype(np.uint8))
    return product, found, length(found.lab - true)


@pytest.mark.parametrize("name", ["white", "pale blue", "dark gray"])
def test_the_color_behind_the_product_is_known(name):
    product, found, away = fitted(BACKGROUNDS[name])
    assert away[product.is_kept].max() < 1.5
    assert found.evenness > 0.98


def test_lighting_is_followed():
    product, found, away = fitted(BACKGROUNDS["gray gradient with a shadow"])
    assert np.median(away[~product.is_kept]) < 1
    assert found.evenness > 0.85


def test_the_noise_is_measured():
    _, quiet, _ = fitted(BACKGROUNDS["pale blue"], noise=0.5)
    _, loud, _ = fitted(BACKGROUNDS["pale blue"], noise=6)
    assert quiet.noise < 0.4 < loud.noise
    assert quiet.tolerance < loud.tolerance <= 4


def test_a_busy_background_is_not_plain():
    _, found, _ = fitted(busy)
    assert found.noise > 0.8 or found.evenness < 0.85
