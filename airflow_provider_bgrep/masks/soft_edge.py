# SPDX-License-Identifier: Apache-2.0
"""Gives the outline of a product soft edges, in the image's full size.

A pixel of the outline is a mixture of the product's color and the background's. How much it has of the
product's is its value in the mask.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from scipy.ndimage import distance_transform_edt  # type: ignore[import-untyped]

from airflow_provider_bgrep.masks.colors import Flags, Floats, Levels, blurred, rgb_of, shrunk

_WIDTH: Final = 1.5
"""Half of the width of the outline, in pixels of the image that was segmented."""

_DIFFERENT: Final = 12.0
"""Levels of 0 to 255 by which product and background differ, so that a mixture can be measured."""


def softened(rgb: Levels, product: Flags, background: Floats) -> Levels:
    """Return the mask of a product, 0 to 255, in the size of an image.

    :param rgb: the image in full size, height x width x 3.
    :param product: the product, in the size in which it was found.
    :param background: the background's color, likewise, in Lab.
    """
    height, width = rgb.shape[:2]
    size = (width, height)
    # Where the outline is, and on which side of it a pixel is: from 0 to 1 over three pixels.
    side = np.asarray(
        cv2.resize(blurred(product.astype(np.float32), _WIDTH / 2), size, interpolation=cv2.INTER_LINEAR)
    )
    values = (side >= 0.5).astype(np.float32)
    rows, columns = np.nonzero((side > 0.02) & (side < 0.98))
    if not len(rows) or not product.any():
        return np.asarray(values * 255, np.uint8)
    scale = product.shape[0] / height, product.shape[1] / width
    near = (
        np.minimum((rows * scale[0]).astype(int), product.shape[0] - 1),
        np.minimum((columns * scale[1]).astype(int), product.shape[1] - 1),
    )
    small = np.asarray(cv2.resize(rgb, product.shape[::-1], interpolation=cv2.INTER_AREA), np.float32)
    core = shrunk(product, 5)
    core = core if core.any() else product
    places = distance_transform_edt(~core, return_distances=False, return_indices=True)
    of_product = small[places[0][near], places[1][near]]
    of_background = rgb_of(background)[near].astype(np.float32)
    across = of_product - of_background
    squares = np.einsum("ij,ij->i", across, across)
    mixture = np.einsum("ij,ij->i", rgb[rows, columns] - of_background, across) / np.maximum(squares, 1)
    linear = np.clip(side[rows, columns], 0, 1)
    # Far from the outline, a pixel is on one side or the other: its color does not count.
    found = np.clip(mixture, np.clip(4 * linear - 3, 0, 1), np.clip(4 * linear, 0, 1))
    values[rows, columns] = np.where(squares >= _DIFFERENT**2, found, linear)
    return np.asarray(np.round(values * 255), np.uint8)
