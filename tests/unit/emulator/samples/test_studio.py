# SPDX-License-Identifier: Apache-2.0
"""A shot: the product, its mask and the backdrop, the same each time."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from airflow_provider_bgrep.emulator.samples.solids import at, ball, box
from airflow_provider_bgrep.emulator.samples.studio import Part, Shot, Studio

RED, BLUE = (0.6, 0.03, 0.03), (0.03, 0.03, 0.6)


def shot(**facts: object) -> Shot:
    return Shot(**{"parts": [Part(at(ball(0.5), y=0.5), RED)], **facts})  # type: ignore[arg-type]


def photographed(one: Shot, size: int = 64) -> tuple[np.ndarray, np.ndarray]:
    image, mask = Studio(one, size).photograph()
    assert (image.mode, mask.mode, image.size, mask.size) == ("RGB", "L", (size, size), (size, size))
    return np.asarray(image).astype(int), np.asarray(mask).astype(int)


def test_a_shot_is_the_same_each_time():
    one, again = photographed(shot()), photographed(shot())
    assert all((a == b).all() for a, b in zip(one, again, strict=True))


@pytest.mark.parametrize("size", [32, 64, 90])
def test_the_mask_is_the_product_and_nothing_else(size):
    image, mask = photographed(shot(), size)
    inside, outside = mask == 255, mask == 0
    assert 0.1 < inside.mean() < 0.6
    assert mask[size // 2, size // 2] == 255
    assert mask[0].max() == mask[-1].max() == mask[:, 0].max() == 0
    red = image[:, :, 0] - image[:, :, 2]
    assert red[inside].mean() > 40
    assert abs(red[outside].mean()) < 15


def test_edges_are_soft():
    _, mask = photographed(shot())
    soft = (mask > 0) & (mask < 255)
    assert 0 < soft.mean() < 0.15


def test_the_camera_comes_closer_and_goes_around():
    near, far = (photographed(shot(distance=distance))[1].mean() for distance in (3.0, 6.0))
    assert near > 2 * far
    parts = [
        Part(at(box(0.2, 0.5, 0.2), x=-0.4, y=0.5), RED),
        Part(at(box(0.2, 0.5, 0.2), x=0.4, y=0.5), BLUE),
    ]
    front, back = (photographed(shot(parts=parts, azimuth=azimuth))[0] for azimuth in (0.0, 180.0))
    left = slice(8, 30)
    assert (front[:, left, 0] - front[:, left, 2]).mean() > 0 > (back[:, left, 0] - back[:, left, 2]).mean()


def test_a_pattern_a_glow_and_a_backdrop_are_seen():
    plain, _ = photographed(shot())
    glowing, mask = photographed(shot(parts=[Part(at(ball(0.5), y=0.5), RED, glow=0.8)]))
    assert glowing[mask == 255].mean() > plain[mask == 255].mean()
    dark, _ = photographed(shot(backdrop=(0.05, 0.05, 0.05)))
    assert dark[mask == 0].mean() < 0.6 * plain[mask == 0].mean()

    def stripes(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        return np.where((y > 0.5)[:, None], np.float32(RED), np.float32(BLUE)).astype(np.float32)

    image, mask = photographed(shot(parts=[Part(at(ball(0.5), y=0.5), stripes)], elevation=0.0))
    red = np.where(mask == 255, image[:, :, 0] - image[:, :, 2], 0)
    assert red[:28].sum() > 0 > red[36:].sum()


def test_an_image_can_be_written():
    image, _ = Studio(shot(), 32).photograph()
    assert isinstance(image, Image.Image)
