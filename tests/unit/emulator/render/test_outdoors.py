# SPDX-License-Identifier: Apache-2.0
"""Scenes under the sky: one seed is one image, and the light of the prompt is seen."""

from __future__ import annotations

import numpy as np
import pytest

from airflow_provider_bgrep.emulator.render.outdoors import (
    blue_sky,
    desert,
    forest,
    meadow,
    mountains,
    sea,
    sky,
    space,
)

SCENES = {
    "mountains": mountains,
    "meadow": meadow,
    "sky": blue_sky,
    "desert": desert,
    "sea": sea,
    "forest": forest,
    "space": space,
}


@pytest.mark.parametrize("name", SCENES)
def test_one_seed_is_one_image(draw, name):
    one, again, other = (draw(SCENES[name], name, seed=seed) for seed in (1, 1, 2))
    assert (one == again).all()
    assert np.abs(one - other).mean() > 0.005


@pytest.mark.parametrize("name", SCENES)
@pytest.mark.parametrize("size", [(40, 160), (160, 40), (16, 16)], ids=str)
def test_any_size_is_drawn(draw, name, size):
    assert draw(SCENES[name], name, size=size).std() > 0


@pytest.mark.parametrize("name", ["mountains", "meadow", "sky", "desert", "sea", "forest"])
def test_a_night_is_darker_than_the_day(draw, name):
    assert draw(SCENES[name], f"{name} at night").mean() < 0.8 * draw(SCENES[name], name).mean()


def test_a_sunset_is_warmer_than_the_day(draw):
    day, sunset = (draw(sky, words).mean((0, 1)) for words in ("sea", "sea at sunset"))
    assert sunset[0] - sunset[2] > day[0] - day[2]


def test_clouds_may_be_left_out_and_are_more_with_more_cover(draw):
    clear, few, many = (
        draw(sky, "sky", **facts) for facts in ({"clouds": False}, {"cover": 0.2}, {"cover": 0.8})
    )
    assert clear.std() < few.std() or clear.mean() < few.mean()
    assert many.mean() > few.mean()


def test_gulls_and_grassland_are_drawn_where_they_are_asked_for(draw):
    assert (draw(sea, "sea with seagulls") != draw(sea, "sea")).any()
    assert (draw(mountains, "mountains, grass") != draw(mountains, "mountains")).any()
