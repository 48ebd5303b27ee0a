# SPDX-License-Identifier: Apache-2.0
"""The sample shoe: seen from its side, wider than high, on its sole."""

from __future__ import annotations

import numpy as np
import pytest

from airflow_provider_bgrep.emulator.samples.sneaker import sneaker
from airflow_provider_bgrep.emulator.samples.studio import Studio


@pytest.mark.slow
def test_the_shoe_is_wider_than_high_and_whole():
    image, mask = Studio(sneaker(), 96).photograph()
    box = mask.getbbox()
    assert box is not None
    left, top, right, bottom = box
    assert 1.3 < (right - left) / (bottom - top) < 3.5
    assert min(left, top, 96 - right, 96 - bottom) > 0
    again, _ = Studio(sneaker(), 96).photograph()
    assert (np.asarray(image) == np.asarray(again)).all()


def test_the_shoe_stands_on_the_ground():
    parts = sneaker().parts
    x, z = np.zeros(200, np.float32), np.zeros(200, np.float32)
    heights = np.linspace(-0.5, 1.0, 200, dtype=np.float32)
    inside = np.min([part.solid(x, heights, z) for part in parts], axis=0) < 0
    assert inside.any()
    assert heights[inside].min() > -0.05


def test_its_parts_have_different_colors():
    colors = [part.color for part in sneaker().parts if not callable(part.color)]
    assert len(set(map(tuple, colors))) > 2
