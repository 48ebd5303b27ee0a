# SPDX-License-Identifier: Apache-2.0
"""The sample products: each stands whole in its image, with a prompt of its own."""

from __future__ import annotations

import numpy as np
import pytest

from airflow_provider_bgrep.emulator.samples import PROMPTS
from airflow_provider_bgrep.emulator.samples.products import PRODUCTS, cloth, wood
from airflow_provider_bgrep.emulator.samples.studio import Studio


def test_every_prompt_has_its_product():
    assert PRODUCTS.keys() == PROMPTS.keys()


@pytest.mark.parametrize("name", PRODUCTS)
def test_a_product_stands_whole_in_its_image(name):
    image, mask = Studio(PRODUCTS[name](), 72).photograph()
    kept = np.asarray(mask)
    assert 0.05 < (kept == 255).mean() < 0.6
    assert kept[0].max() == kept[-1].max() == kept[:, 0].max() == kept[:, -1].max() == 0
    pixels = np.asarray(image).astype(int)
    assert np.abs(pixels[kept == 255].mean(0) - pixels[kept == 0].mean(0)).max() > 10


def points(count: int = 50) -> tuple[np.ndarray, ...]:
    return tuple(np.random.default_rng(1).uniform(-1, 1, (3, count)).astype(np.float32))


def test_wood_is_between_its_colors_along_its_axis():
    light, dark = (0.5, 0.3, 0.1), (0.2, 0.1, 0.05)
    found = {axis: wood(light, dark, axis)(*points()) for axis in "xyz"}
    for colors in found.values():
        assert colors.shape == (50, 3)
        assert (colors <= np.float32(light) + 1e-6).all()
        assert (colors >= np.float32(dark) - 1e-6).all()
    assert not np.allclose(found["x"], found["y"])


def test_cloth_has_its_color_and_a_weave():
    found = cloth((0.5, 0.2, 0.1))(*points())
    assert np.allclose(found.mean(0), (0.5, 0.2, 0.1), rtol=0.1)
    assert found.std(0).max() > 0
