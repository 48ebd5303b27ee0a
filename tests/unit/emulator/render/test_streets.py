# SPDX-License-Identifier: Apache-2.0
"""Walls, streets and lights: one seed is one image."""

from __future__ import annotations

import numpy as np
import pytest

from airflow_provider_bgrep.emulator.render.streets import bokeh, city, graffiti

SCENES = {"graffiti": graffiti, "city": city}


@pytest.mark.parametrize("name", SCENES)
def test_one_seed_is_one_image(draw, name):
    one, again, other = (draw(SCENES[name], name, seed=seed) for seed in (1, 1, 2))
    assert (one == again).all()
    assert np.abs(one - other).mean() > 0.005


@pytest.mark.parametrize("name", SCENES)
@pytest.mark.parametrize("size", [(40, 160), (160, 40), (16, 16)], ids=str)
def test_any_size_is_drawn(draw, name, size):
    assert draw(SCENES[name], name, size=size).std() > 0


def test_lights_are_in_their_band_on_black(draw):
    found = draw(bokeh, "city", count=30, band=(0.0, 0.4), bright=1.0)
    assert found[:20].max() > 0.1
    assert found[-15:].max() == 0


def test_without_lights_all_is_black_and_brightness_scales_them(draw):
    assert draw(bokeh, "city", count=0, band=(0, 1), bright=1.0).max() == 0
    one, twice = (draw(bokeh, "city", count=20, band=(0, 1), bright=bright) for bright in (1.0, 2.0))
    assert np.allclose(2 * one, twice)


def test_lights_have_the_hues_that_are_asked_for(draw):
    red = draw(bokeh, "city", count=20, band=(0, 1), bright=1.0, hues=(0.0, 0.01)).mean((0, 1))
    assert red[0] > red[1]
    assert red[0] > red[2]
