# SPDX-License-Identifier: Apache-2.0
"""Finds the product on a plain background: white, or of an even color, with the product's shadow.

The background is what has its color and is connected with the image's edges; and its shadow, which is darker,
of the same hue, and without an edge. Enclosed areas of the background's color are holes, such as in a handle.
The line between the two is moved to the strongest edge nearby.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from skimage.segmentation import watershed

from airflow_provider_bgrep.images.polarity import overlap
from airflow_provider_bgrep.masks.background import Background, fitted_background
from airflow_provider_bgrep.masks.colors import (
    Flags,
    Floats,
    Levels,
    blurred,
    edge_of,
    grown,
    lab_of,
    lab_of_light,
    length,
    light_of,
    opened,
    rgb_of,
    shrunk,
    slope_of,
    touching,
)
from airflow_provider_bgrep.masks.grabcut import second_opinion

_DARKEST, _BRIGHTEST = 0.12, 1.02
"""A shadow has this share of the background's light."""

_HUE: Final = 2.5
"""A shadow's color differs from the darker background's by less than this distance in Lab."""

_SLOPE: Final = 624
"""A shadow changes from pixel to pixel by less than this over the shorter side, as a distance in Lab: without
an edge."""

_SMALLEST_HOLE: Final = 0.0004
"""Share of the image from which an enclosed area is a hole."""

_SMALLEST_PART: Final = 0.002
"""Share of the largest part of a product from which another one is a part of it."""

_LARGE_PART: Final = 0.2
_NOT_SHADOW: Final = 0.03
"""A smaller part of a product has this share of pixels that are not shadow."""


@dataclass(frozen=True, slots=True)
class Segmentation:
    """A product on a plain background.

    :param product: its pixels, height x width.
    :param holes: enclosed areas that were taken for background.
    :param agreement: how far GrabCut agrees: intersection over union, 0 to 1.
    :param distance: how much each pixel differs from the background, in Lab.
    :param smooth: the image in Lab, without its noise.
    :param background: the background.
    """

    product: Flags
    holes: Flags
    agreement: float
    distance: Floats
    smooth: Floats
    background: Background


def segment(rgb: Levels) -> Segmentation:
    """Find the product of an image.

    :param rgb: the image, height x width x 3, each side at least 64 pixels.
    """
    lab = lab_of(rgb)
    background = fitted_background(lab)
    smooth = blurred(lab, 0.7)
    distance = length(smooth - background.lab)
    strip = edge_of(distance.shape, 3)
    is_near = opened(distance < background.tolerance)
    slope = slope_of(smooth)
    shadow, foreign = _shadow(rgb, background, slope)
    outside = touching(touching(is_near, strip) | shadow, strip)
    holes = _large(is_near & ~outside, _SMALLEST_HOLE * distance.size)
    rough = _parts(~(outside | holes), foreign)
    is_clear = distance > 2 * background.tolerance
    product = _snapped(rough, slope, is_clear)
    second = second_opinion(rgb, product)
    agreement = overlap(second, product)
    deepest = opened(product & ~second & ~foreign)
    if deepest.any():
        # The deepest shadow, where the product stands, has edges.
        outside = touching(deepest | ~product, strip)
        product = _snapped(_parts(product & ~outside, foreign), slope, is_clear)
    return Segmentation(product, holes, agreement, distance, smooth, background)


def _shadow(rgb: Levels, background: Background, slope: Floats) -> tuple[Flags, Flags]:
    """Return what may be the background's shadow, and what is certainly not.

    :param slope: how much the color changes from pixel to pixel.
    """
    light, lit = blurred(light_of(rgb), 0.8), light_of(rgb_of(background.lab))
    share = (light * lit).sum(2) / np.maximum((lit * lit).sum(2), 1e-5)
    hue = length(lab_of_light(light) - lab_of_light(lit * share[:, :, None]))
    most, noise = _SLOPE / min(slope.shape), background.noise
    is_shadow = (share > _DARKEST) & (share < _BRIGHTEST) & (hue < max(_HUE, 3 * noise))
    is_foreign = (share < _DARKEST) | (share > 1.06) | (hue > max(1.5 * _HUE, 4 * noise))
    return opened(is_shadow & (slope < max(most, 2 * noise))), is_foreign


def _large(area: Flags, least: float) -> Flags:
    """Return the connected parts of an area that have at least this many pixels."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(area.view(np.uint8), connectivity=4)
    kept = stats[:, cv2.CC_STAT_AREA] >= least
    kept[0] = False
    return np.asarray(kept[labels]) if count > 1 else np.zeros_like(area)


def _parts(area: Flags, foreign: Flags) -> Flags:
    """Return the parts of a product, without specks and without what is only shadow."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(area.view(np.uint8), connectivity=8)
    if count == 1:
        return np.zeros_like(area)
    sizes = stats[:, cv2.CC_STAT_AREA].astype(np.float64)
    largest = sizes[1:].max()
    shares = np.bincount(labels.ravel(), foreign.ravel(), count) / np.maximum(sizes, 1)
    kept = (sizes >= _SMALLEST_PART * largest) & ((shares > _NOT_SHADOW) | (sizes > _LARGE_PART * largest))
    kept[0] = False
    return np.asarray(kept[labels])


def _snapped(rough: Flags, slope: Floats, is_clear: Flags) -> Flags:
    """Move the outline of a product to the strongest edge nearby.

    :param slope: how much the color changes from pixel to pixel.
    :param is_clear: pixels that differ clearly from the background: thin parts consist of them.
    """
    inside = shrunk(opened(rough), 5)
    outside = shrunk(~rough)
    thin = rough & ~grown(inside, 7)
    markers = np.where(outside, 1, 0).astype(np.int32)
    markers[inside | (thin & is_clear & ~outside)] = 2
    if not (markers == 2).any():
        return np.zeros_like(rough)
    found: Any = watershed(slope, markers)  # type: ignore[no-untyped-call]
    return np.asarray(found == 2)
