# SPDX-License-Identifier: Apache-2.0
"""Drawing tools of the scenes: what they return is in range, and the same for one seed."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from airflow_provider_bgrep.emulator.render.canvas import (
    Canvas,
    blurred,
    fractal,
    lit,
    mix,
    rgb,
    smooth,
    stretch,
    terrain,
)
from airflow_provider_bgrep.emulator.render.words import understand


def canvas(width: int = 60, height: int = 40, seed: int = 1, **facts: float) -> Canvas:
    return Canvas(width, height, np.random.default_rng(seed), understand("snow"), **facts)


def test_places_are_shares_of_width_and_height():
    found = canvas()
    assert (found.x.shape, found.y.shape) == ((1, 60), (40, 1))
    assert 0 < found.x.min() < found.x.max() < 1
    assert found.aspect == 1.5


@pytest.mark.parametrize(
    ("base", "top", "shift", "horizon"),
    [(0.9, 0.1, 0.0, 0.54), (0.9, 0.1, 0.05, 0.59), (0.2, 0.1, 0.0, 0.34), (1.0, 0.9, 0.0, 0.72)],
)
def test_the_horizon_is_behind_the_products_middle(base, top, shift, horizon):
    found = canvas(base=base, top=top, rng_shift=shift)
    assert found.horizon == pytest.approx(horizon)


@pytest.mark.parametrize("size", [(1, 1), (7, 3), (64, 48)])
@pytest.mark.parametrize("across", [1, 5, 300])
def test_noise_has_its_size_and_is_between_0_and_1(size, across):
    found = canvas(*size).noise(across)
    assert found.shape == size[::-1]
    assert found.min() >= 0
    assert found.max() <= 1


def test_one_seed_is_one_noise():
    one, again, other = (fractal(np.random.default_rng(seed), 20, 30, 4, 4, 3, 0.5) for seed in (1, 1, 2))
    assert (one == again).all()
    assert (one != other).any()


def test_a_gradient_goes_from_stop_to_stop():
    found = canvas().vertical((0.0, (0, 0, 0)), (0.5, (1, 0, 0)), (1.0, (1, 1, 0)))
    assert found.shape == (40, 60, 3)
    assert (np.diff(found[:20, 0, 0]) > 0).all()
    assert found[20:, :, 0].min() == 1
    assert (found[:, 0] == found[:, -1]).all()


@pytest.mark.parametrize("blur", [0.0, 40.0])
def test_a_painting_covers_what_is_under_it(blur):
    one = canvas()
    drawing, draw, factor = one.painting()
    assert drawing.size == (60 * factor, 40 * factor)
    draw.rectangle((0, 0, 30 * factor, 40 * factor), fill=(255, 0, 0, 255))
    found = one.over(np.zeros((40, 60, 3), np.float32), drawing, blur)
    assert found[20, 5].tolist() == [1, 0, 0]
    assert found[20, 55].tolist() == [0, 0, 0]


def test_a_mix_is_between_its_parts():
    a, b = np.zeros((2, 2, 3)), np.ones((2, 2, 3))
    assert (mix(a, b, 0.25) == 0.25).all()
    assert mix(a, b, np.array([[0, 1], [0.5, 0]])).tolist()[0] == [[0, 0, 0], [1, 1, 1]]
    assert rgb((1, 2, 3)).dtype == np.float32


@pytest.mark.parametrize(("low", "high", "values"), [(0, 1, [0, 0, 0.5, 1, 1]), (1, 0, [1, 1, 0.5, 0, 0])])
def test_a_smooth_step_rises_or_falls(low, high, values):
    assert smooth(low, high, [-1, 0, 0.5, 1, 2]).tolist() == values


def test_stretched_noise_uses_the_whole_range():
    found = stretch(np.linspace(0.4, 0.6, 100, dtype=np.float32))
    assert (found.min(), found.max()) == (0, 1)
    assert stretch(np.full(9, 0.5, np.float32)).max() == 0


@pytest.mark.parametrize("radius", [0.0, 0.2, 1.5, 3.9, 12.0])
@pytest.mark.parametrize("shape", [(40, 50), (40, 50, 3)])
def test_a_blur_keeps_size_and_mean_and_lowers_contrast(radius, shape):
    image = np.random.default_rng(3).random(shape, dtype=np.float32)
    before = image.copy()
    found = blurred(image, radius)
    assert (image == before).all()
    assert found.shape == shape
    assert found.mean() == pytest.approx(image.mean(), abs=0.05)
    assert bool(found.std() < image.std()) is (radius >= 0.3)
    assert found is not image


def test_a_flat_ground_is_lit_evenly_and_a_slope_by_its_side():
    assert np.ptp(lit(np.zeros((5, 5), np.float32))) == 0
    slope = np.repeat(np.arange(5, dtype=np.float32)[None, :], 5, 0) / 5
    left, right = lit(slope, (-1, 0, 0.5)), lit(slope, (1, 0, 0.5))
    assert left.mean() > right.mean()
    assert left.min() >= 0


def test_a_terrain_covers_the_ground_and_not_the_sky():
    one = canvas()
    heights = np.zeros((30, 30), np.float32)
    colors = np.full((30, 30, 3), 0.25, np.float32)
    image, covered = terrain(
        one, heights, colors, eye=1.0, near=1.0, far=40.0, lift=1.0, fog=lambda far: far * 0, haze=(1, 1, 1)
    )
    assert image.shape == (40, 60, 3)
    assert covered[-1].min() == 1
    assert covered[0].max() == 0
    assert (image[-1] == 0.25).all()
    foggy, _ = terrain(
        one,
        heights,
        colors,
        eye=1.0,
        near=1.0,
        far=40.0,
        lift=1.0,
        fog=lambda far: far * 0 + 1,
        haze=(1, 1, 1),
    )
    assert (foggy == 1).all()


def test_an_image_out_of_focus_depends_on_the_canvas():
    image = np.zeros((40, 60, 3), np.float32)
    image[20, 30] = 1
    assert (canvas().blurred(image, 0) == image).all()
    assert canvas().blurred(image, 50).max() < 0.5
    assert Image.fromarray((canvas().blurred(image, 50) * 255).astype(np.uint8)).getbbox() is not None
