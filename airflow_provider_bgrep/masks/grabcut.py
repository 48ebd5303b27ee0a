# SPDX-License-Identifier: Apache-2.0
"""Segments an image a second time, by the colors of product and background: OpenCV's GrabCut.

It knows nothing of lighting and shadows, so where it agrees with :mod:`~.plain`, both are probably right.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np

from airflow_provider_bgrep.masks.colors import Flags, Levels, edge_of, resized

_SIDE: Final = 240
"""Longest side of the image that is segmented."""

_ROUNDS: Final = 2


def second_opinion(rgb: Levels, product: Flags) -> Flags:
    """Return the product that GrabCut finds, beginning with one that was found otherwise.

    :param rgb: the image, height x width x 3.
    :param product: the product that was found, height x width.
    """
    height, width = product.shape
    scale = min(1.0, _SIDE / max(height, width))
    size = (max(8, round(width * scale)), max(8, round(height * scale)))
    small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    expected = resized(product, small.shape)
    labels = np.where(expected, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    labels[edge_of(expected.shape, 2) & ~expected] = cv2.GC_BGD
    if not expected.any() or expected.all():
        return product
    models = np.zeros((1, 65)), np.zeros((1, 65))
    # Its first colors are drawn at random.
    cv2.setRNGSeed(0)
    try:
        cv2.grabCut(small, labels, None, *models, _ROUNDS, cv2.GC_INIT_WITH_MASK)
    except cv2.error:  # too few pixels for its models
        return np.zeros_like(product)
    return resized((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD), product.shape)
