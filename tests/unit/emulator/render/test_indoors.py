# SPDX-License-Identifier: Apache-2.0
"""Scenes of cloth, rooms, tables and studios: one seed is one image, and words of the prompt are seen."""

from __future__ import annotations

import numpy as np
import pytest

from airflow_provider_bgrep.emulator.render.indoors import living_room, silk, studio, table

SCENES = {"silk": silk, "living room": living_room, "table": table, "studio": studio}


@pytest.mark.parametrize("name", SCENES)
def test_one_seed_is_one_image(draw, name):
    one, again, other = (draw(SCENES[name], name, seed=seed) for seed in (1, 1, 2))
    assert (one == again).all()
    assert np.abs(one - other).mean() > 0.005


@pytest.mark.parametrize("name", SCENES)
@pytest.mark.parametrize("size", [(40, 160), (160, 40), (8, 8)], ids=str)
def test_any_size_is_drawn(draw, name, size):
    assert draw(SCENES[name], name, size=size).std() > 0


@pytest.mark.parametrize("name", ["silk", "living room", "studio"])
def test_the_color_that_the_prompt_names_is_seen(draw, name):
    red, blue = (draw(SCENES[name], f"{name}, {color}").mean((0, 1)) for color in ("red", "blue"))
    assert red[0] - red[2] > blue[0] - blue[2] + 0.1


def test_pale_silk_is_brighter(draw):
    assert draw(silk, "soft red silk").mean() > draw(silk, "red silk").mean()


def test_a_room_is_darker_at_night(draw):
    assert draw(living_room, "living room at night").mean() < draw(living_room, "living room").mean()
