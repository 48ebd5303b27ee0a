# SPDX-License-Identifier: Apache-2.0
"""Conversions of colors, and areas of pixels."""

from __future__ import annotations

import numpy as np

from airflow_provider_bgrep.masks.colors import (
    edge_of,
    grown,
    lab_of,
    lab_of_light,
    length,
    light_of,
    opened,
    resized,
    rgb_of,
    shrunk,
    slope_of,
    touching,
)


def colors():
    return np.random.default_rng(1).integers(0, 256, (20, 30, 3)).astype(np.uint8)


def test_lab_and_back_is_the_same_color():
    rgb = colors()
    assert np.abs(rgb_of(lab_of(rgb)).astype(int) - rgb).max() <= 1


def test_lab_of_light_is_lab_of_its_levels():
    rgb = colors()
    assert length(lab_of_light(light_of(rgb)) - lab_of(rgb)).max() < 0.1


def test_the_slope_is_the_change_from_pixel_to_pixel():
    lab = np.zeros((9, 9, 3), np.float32)
    lab[:, :, 0] = np.arange(9) * 2
    assert np.allclose(slope_of(lab)[2:-2, 2:-2], 2)


def test_white_has_a_lightness_of_100():
    assert np.allclose(lab_of(np.full((1, 1, 3), 255, np.uint8)), [100, 0, 0], atol=0.01)


def test_the_edges_of_an_image_do_not_cut_areas_off():
    area = np.zeros((10, 10), bool)
    area[:6, :6] = True
    assert shrunk(area).sum() == 25
    assert grown(shrunk(area)).sum() == 36
    assert shrunk(np.ones((4, 4), bool)).all()


def test_opened_areas_have_no_thin_parts():
    area = np.zeros((10, 10), bool)
    area[2:7, 2:7] = True
    area[4, 7:] = True
    assert opened(area).sum() == 25


def test_only_connected_parts_touch():
    area = np.zeros((6, 6), bool)
    area[0, :3] = True
    area[3:5, 3:5] = True
    assert np.array_equal(np.argwhere(touching(area, edge_of(area.shape, 1))), [[0, 0], [0, 1], [0, 2]])


def test_the_strip_is_a_share_of_the_shorter_side():
    assert edge_of((100, 200), 1, share=0.1).sum() == 100 * 200 - 80 * 180
    assert edge_of((10, 10), 2, share=0.0).sum() == 100 - 36


def test_an_area_can_have_another_size():
    area = np.zeros((4, 8), bool)
    area[:, :4] = True
    assert resized(area, (8, 4)).sum() == 16
